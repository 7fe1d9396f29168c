"""What a command may change of all that a client can keep in its cache: to be invalidated there before it is shown.

A key is `("node", path)`: whether there is a node, its contents, and its stat but for the lock generation and the
number of children; or `("children", path)`: the names and kinds in a directory, and so their number. What `touches`
names is never too little. For operations on the tree it is exact: they are tried on a shadow. For locks and sessions it
may be more in rare cases: where requests for several locks wait, it says what would go if all of these were refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from coordclient.protocol.errors import Refusal
from coordclient.protocol.paths import parent_of
from coordd.machine import transactions
from coordd.machine.deadlock import places_of
from coordd.machine.grants import each_hold, parts_of
from coordd.machine.state import Arguments, Hold, Node, Session, State, Waiter

Key = tuple[str, str]
Keys = frozenset[Key]

NOTHING: Keys = frozenset()


def touches(state: State, operation: str, session: int, arguments: Arguments, principal: str) -> Keys:
    """The keys that applying this command to the present state may change."""
    find = _FINDERS.get(operation)
    if find is not None:
        return find(state, state.sessions.get(session), arguments)
    if operation in transactions.WRITES:
        return _of_steps(state, state.sessions.get(session), principal, "then", [{"do": operation, **arguments}])
    if operation == "txn":
        return _of_txn(state, state.sessions.get(session), principal, arguments)
    return NOTHING


# ---- the tree ----


def _of_txn(state: State, session: Session | None, principal: str, arguments: Arguments) -> Keys:
    try:
        _, branch, steps = transactions.choose(state, arguments)
    except Refusal:
        return NOTHING
    return _of_steps(state, session, principal, branch, steps)


def _of_steps(
    state: State, session: Session | None, principal: str, branch: str, steps: Sequence[Mapping[str, object]]
) -> Keys:
    try:
        changes = transactions.attempt(state, session, principal, branch, steps).changes
    except Refusal:
        return NOTHING
    keys: set[Key] = set()
    for change in changes:
        keys.add(("node", change.path))
        if change.kind != "changed":
            keys.add(("children", parent_of(change.path)))
    return frozenset(keys)


def _made(state: State, paths: Iterable[str]) -> Keys:
    """These paths are made where they are missing, with what is missing above them."""
    keys: set[Key] = set()
    for path in paths:
        at = path
        while at not in state.nodes:
            keys.add(("node", at))
            at = parent_of(at)
            keys.add(("children", at))
    return frozenset(keys)


# ---- what goes when locks become free and sessions end ----


class _Leaving:
    """Holds and requests that leave, and ephemerals that a session leaves; `keys` says which nodes may go with them."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.holds: set[tuple[str, int, int]] = set()
        self.requests: set[tuple[int, int]] = set()  # those that leave, or may be refused when their turn comes
        self.paths: dict[str, None] = {}  # of locks that may become free
        self.closed: dict[str, Node] = {}  # ephemerals that lose an opener

    def hold(self, hold: Hold) -> None:
        lock, node = hold.lock, hold.lock.node
        if not (lock.waiters or node.temporary or node.openers is not None):
            return  # most locks: the node stays, and nobody comes to his turn
        path = node.path
        self.holds.add((path, hold.session, hold.call))
        self.paths[path] = None

    def request(self, waiter: Waiter) -> None:
        self.requests.add((waiter.session, waiter.call))
        for place in places_of(waiter):
            self.paths[place.lock.node.path] = None

    def keys(self) -> Keys:
        if not self.paths and not self.closed:
            return NOTHING
        self._follow()
        nodes = [self.state.locks[path].node for path in self.paths]
        nodes += self.closed.values()
        keys: set[Key] = set()
        lost: dict[str, int] = {}  # by directory: how many children go
        while nodes:
            node = nodes.pop()
            if ("node", node.path) in keys or not self._may_go(node, lost.get(node.path, 0)):
                continue
            assert node.parent is not None, "the root is permanent"
            above = node.parent.path
            keys |= {("node", node.path), ("children", above)}
            lost[above] = lost.get(above, 0) + 1
            nodes.append(node.parent)
        return frozenset(keys)

    def _follow(self) -> None:
        """Whoever waits for several locks in one of these queues may be granted them, and then those behind it in the
        other queues come to their turn, or may be refused, and then leaves the others.

        Who waits for one exclusive lock, granted or not, shuts out everybody behind; so does an exclusive place of who
        waits for several, unless he may be refused. So a queue costs what may move in it, however long it is.
        """
        pending = list(self.paths)
        while pending:
            for waiter in self.state.locks[pending.pop()].waiters.values():
                if waiter.group is not None:
                    if any(place.permits for place in waiter.group):
                        self.requests.add((waiter.session, waiter.call))
                    fresh = [place.lock.node.path for place in waiter.group if place.lock.node.path not in self.paths]
                    self.paths.update(dict.fromkeys(fresh))
                    pending += fresh
                if waiter.mode == "exclusive" and (waiter.session, waiter.call) not in self.requests:
                    break

    def _may_go(self, node: Node, lost: int) -> bool:
        if len(node.children or ()) > lost or not self._unneeded(node):
            return False
        lock = self.state.locks.get(node.path)
        return lock is None or (
            all((node.path, *key) in self.holds for key in lock.holders)
            and all(key in self.requests for key in lock.waiters)
        )

    def _unneeded(self, node: Node) -> bool:
        if node.openers is None:
            return node.temporary
        return len(node.openers) == (node.path in self.closed)


def _of_release(state: State, session: Session | None, arguments: Arguments) -> Keys:
    hold = None if session is None else session.holds.get(arguments["hold"])
    return _without(state, [] if hold is None else [p for p in parts_of(hold) if _is_at(p, arguments["path"])])


def _is_at(hold: Hold, path: str) -> bool:
    return path in ("", hold.lock.node.path)


def _without(state: State, holds: Iterable[Hold], requests: Iterable[Waiter] = ()) -> Keys:
    leaving = _Leaving(state)
    for hold in holds:
        leaving.hold(hold)
    for request in requests:
        leaving.request(request)
    return leaving.keys()


def _of_cancel(state: State, session: Session | None, arguments: Arguments) -> Keys:
    if session is None:
        return NOTHING
    hold, waiter = session.holds.get(arguments["target"]), session.waiters.get(arguments["target"])
    return _without(state, [] if hold is None else parts_of(hold), [] if waiter is None else [waiter])


def _of_transfer(state: State, session: Session | None, arguments: Arguments) -> Keys:
    """The lock stays held; others in its queue may be refused."""
    hold = None if session is None else session.holds.get(arguments["hold"])
    leaving = _Leaving(state)
    if hold is not None:
        leaving.paths[hold.lock.node.path] = None
    return leaving.keys()


def _of_taking(state: State, session: Session | None, arguments: Arguments) -> Keys:
    """give_up, end_revoked, end_lock_delay: of one hold of one lock, which stays where its lock-delay begins."""
    number = arguments.get("session", 0) if session is None else session.id
    lock = state.locks.get(arguments["path"])
    hold = None if lock is None else lock.holders.get((number, arguments["hold"]))
    return NOTHING if hold is None or not _goes(hold) else _without(state, [hold])


def _goes(hold: Hold) -> bool:
    """Whether it does not become a delayed one when it is taken."""
    return hold.delayed or not hold.lock_delay_ms


def _of_unlock(state: State, session: Session | None, arguments: Arguments) -> Keys:
    lock = state.locks.get(arguments["path"]) if arguments["now"] else None
    return _without(state, [] if lock is None else lock.holders.values())


def _of_withdrawing(state: State, session: Session | None, arguments: Arguments) -> Keys:
    """kill_session, leave_session, resume_session: its requests leave, all else stays."""
    found = state.sessions.get(arguments["session"]) if "session" in arguments else session
    return _without(state, (), [] if found is None else found.waiters.values())


def _of_closing(state: State, session: Session | None, arguments: Arguments) -> Keys:
    """close_session: all is given back."""
    return NOTHING if session is None else _ended(state, session, each_hold(session))


def _of_expiry(state: State, session: Session | None, arguments: Arguments) -> Keys:
    """acknowledge_kill, expire_session: lock-delays begin."""
    ended = state.sessions.get(arguments["session"]) if "session" in arguments else session
    return NOTHING if ended is None else _ended(state, ended, filter(_goes, each_hold(ended)))


def _ended(state: State, session: Session, holds: Iterable[Hold]) -> Keys:
    leaving = _Leaving(state)
    for hold in holds:
        leaving.hold(hold)
    for waiter in session.waiters.values():
        leaving.request(waiter)
    leaving.closed = session.ephemerals
    return leaving.keys()


def _of_close(state: State, session: Session | None, arguments: Arguments) -> Keys:
    node = None if session is None else session.ephemerals.get(arguments["path"])
    if node is None or node.instance != arguments["instance"]:
        return NOTHING
    leaving = _Leaving(state)
    leaving.closed = {node.path: node}
    return leaving.keys()


def _of_acquire(state: State, session: Session | None, arguments: Arguments) -> Keys:
    return _made(state, [arguments["path"]])


def _of_acquire_all(state: State, session: Session | None, arguments: Arguments) -> Keys:
    return _made(state, [one["path"] for one in arguments["locks"]])


_FINDERS: Mapping[str, Callable[[State, Session | None, Arguments], Keys]] = {
    "acquire": _of_acquire,
    "acquire_all": _of_acquire_all,
    "release": _of_release,
    "cancel": _of_cancel,
    "transfer": _of_transfer,
    "unlock": _of_unlock,
    "give_up": _of_taking,
    "end_revoked": _of_taking,
    "end_lock_delay": _of_taking,
    "kill_session": _of_withdrawing,
    "leave_session": _of_withdrawing,
    "resume_session": _of_withdrawing,
    "close_session": _of_closing,
    "acknowledge_kill": _of_expiry,
    "expire_session": _of_expiry,
    "close": _of_close,
}
