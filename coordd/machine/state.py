"""The replicated state as plain objects: nodes, locks with their holds and waiters, sessions; and what apply answers.

Only data and the two helpers that every module needs. Objects are changed in place, for speed; nothing outside
`coordd.machine` changes them. Order matters nowhere but in `Lock.waiters` (the queue), `Lock.holders` (order of
grants), `Session.notices` (order of telling), `State.losses` (the longest unchanged first), `State.changes` (the oldest
first), and `State.nodes` and `State.sessions` (the turn in which the history inspects them): wherever else a dict is
walked to change state, it is walked sorted, so that a replica that came from a snapshot and one that lived through the
log do the same.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b, blake2s
from typing import Any, NamedTuple, NoReturn

from coordclient.protocol.errors import Refusal
from coordd.machine.children import Children
from coordd.machine.limits import LIMITS, Limits

Reply = dict[str, object] | Refusal
Arguments = Mapping[str, Any]
Acl = tuple[str, str, str]
# How a hold ended: session, hold, client, principal, mode, token, since_ms, ended_ms, cause, reason. A bare tuple, for
# every release makes one.
Loss = tuple[int, int, dict[str, str], str, str, int, int, int, str, str]

ROOT_ACL: Acl = ("default", "default", "default")
ROOT_OWNER = "cell"


class Change(NamedTuple):
    """One node made (`created`), written (`changed`) or removed (`deleted`), and by whom: see `coordd.machine.changes`.

    `before` and `after` are contents, None where there was or is no file. `session` is 0 where none did it.
    """

    revision: int
    path: str
    kind: str
    directory: bool
    instance: int
    before: bytes | None
    after: bytes | None
    session: int
    principal: str
    at_ms: int
    operation: str


@dataclass(slots=True)
class Woken:
    """The waiting call `call` of `session` ended by another command than its own: granted, or refused."""

    session: int
    call: int
    reply: Reply


@dataclass(slots=True)
class Applied:
    """What one command did. `reply` None: the acquire waits; its answer comes as a `Woken` of a later command.

    `again`: it did nothing, because its call had been answered before; this is that answer. The same number with
    another operation is the same call too, so it may be the answer to anything.
    """

    reply: Reply | None
    woken: Sequence[Woken] = ()
    again: bool = False


class Node:
    """A file (`children` is None) or a directory.

    Generations are revisions: `content_generation` is that of the last write, `lock_generation` that of the last change
    from free to held (0: never held), `acl_generation` that of the last change of the names, `instance` that of the
    making. So none is ever given twice for one path, not even after delete and re-creation. `revision` is that of the
    last change to anything but the lock.
    """

    __slots__ = (
        "acl",
        "acl_generation",
        "checksum",
        "children",
        "content_generation",
        "contents",
        "created_ms",
        "instance",
        "lock_generation",
        "modified_ms",
        "openers",
        "owner",
        "parent",
        "path",
        "revision",
        "temporary",
    )

    def __init__(
        self, path: str, parent: Node | None, directory: bool, revision: int, wall_ms: int, owner: str, acl: Acl
    ) -> None:
        self.path = path
        self.parent = parent
        self.children = Children() if directory else None
        self.contents = b""
        self.checksum = EMPTY_CHECKSUM
        self.instance = self.content_generation = self.acl_generation = self.revision = revision
        self.lock_generation = 0
        self.created_ms = self.modified_ms = wall_ms
        self.owner = owner
        self.acl = acl
        self.openers: dict[int, None] | None = None  # not None: ephemeral, alive while one of these sessions lives
        self.temporary = False  # made by an acquire; goes when nobody holds, waits or has written here


class Session:
    """One session. `replies` remembers what calls >= `acked` were answered, each with about how large it is.

    `holds` and `waiters` have one entry per call: of an `acquire_all` its first part, which has the others in `group`;
    `more` counts those others. `gone`: its present process has said goodbye; `left`: all processes up to this
    incarnation have. `killed`: why an operator ended it, or "". `notices`: holds that an operator wants back or has
    taken, with the reason, until the client answers. `mute`: `mute_of`, kept because every call looks at it.
    """

    __slots__ = (
        "acked",
        "client",
        "ephemerals",
        "gone",
        "holds",
        "id",
        "incarnation",
        "killed",
        "lease_ms",
        "left",
        "more",
        "mute",
        "notices",
        "opened_ms",
        "principal",
        "replies",
        "reply_bytes",
        "secret",
        "waiters",
    )

    def __init__(
        self, number: int, secret: str, lease_ms: int, principal: str, opened_ms: int, client: dict[str, str]
    ) -> None:
        self.id = number
        self.secret = secret
        self.incarnation = 1
        self.lease_ms = lease_ms
        self.principal = principal
        self.opened_ms = opened_ms
        self.client = client
        self.left = 0
        self.gone = False
        self.killed = ""
        self.mute: Refusal | None = None
        self.notices: dict[tuple[str, int], str] = {}
        self.acked = 0
        self.replies: dict[int, tuple[Reply, int]] = {}
        self.reply_bytes = 0
        self.holds: dict[int, Hold] = {}
        self.waiters: dict[int, Waiter] = {}
        self.ephemerals: dict[str, Node] = {}
        self.more = 0


class Lock:
    """A node that is held, waited for or delayed; when none is left the lock object goes.

    `mode`, `permits` (of a semaphore, else 0) and `token` are those of the present period: from free to held until free
    again. All holders have them, but for the tokens of a semaphore. While nobody holds, and only the first of the queue
    keeps the lock busy (it waits for several and cannot have all), they are "", 0 and 0.
    """

    __slots__ = ("holders", "mode", "node", "permits", "token", "waiters")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.mode = ""
        self.permits = 0
        self.token = 0
        self.holders: dict[tuple[int, int], Hold] = {}
        self.waiters: dict[tuple[int, int], Waiter] = {}


class Hold:
    """One grant: of the lock object that made the acquire `call` of `session`.

    `delayed`: its session has lost it, and its lock-delay runs; so it has its own `client` and `principal`.
    `revoked`: why an operator wants it back, or "". `token` is that of a semaphore's hold, else 0: see `token_of`.
    `part`: 0 of an `acquire`; of an `acquire_all` the place in its list, from 1, and `group` has all of it that its
    session still holds.
    """

    __slots__ = (
        "actor", "call", "client", "delayed", "group", "lock", "lock_delay_ms", "part", "principal", "revoked",
        "session", "since_ms", "token",
    )  # fmt: skip

    def __init__(
        self,
        lock: Lock,
        session: int,
        call: int,
        actor: str,
        lock_delay_ms: int,
        since_ms: int,
        client: dict[str, str],
        principal: str,
    ) -> None:
        self.lock = lock
        self.session = session
        self.call = call
        self.actor = actor
        self.lock_delay_ms = lock_delay_ms
        self.since_ms = since_ms
        self.client = client
        self.principal = principal
        self.token = 0
        self.part = 0
        self.group: list[Hold] | None = None
        self.revoked = ""
        self.delayed = False


class Waiter:
    """A place in a queue. `part` and `group` as in `Hold`: who waits for several has one of these in each queue."""

    __slots__ = ("actor", "call", "group", "limited", "lock", "lock_delay_ms", "mode", "part", "permits",
        "session", "since_ms")  # fmt: skip

    def __init__(
        self,
        lock: Lock,
        session: int,
        call: int,
        mode: str,
        permits: int,
        actor: str,
        limited: bool,
        lock_delay_ms: int,
        since_ms: int,
    ) -> None:
        self.lock = lock
        self.session = session
        self.call = call
        self.mode = mode
        self.permits = permits
        self.actor = actor
        self.limited = limited  # it may end by itself, so it is no part of a cycle: the hold that comes of it is
        self.lock_delay_ms = lock_delay_ms
        self.since_ms = since_ms
        self.part = 0
        self.group: list[Waiter] | None = None


class State:
    """Everything that is replicated, and what the command being applied came with: `wall_ms`, the master's clock of its
    batch (display only), and `by`: `(session, principal, operation)`, the cause of its changes."""

    __slots__ = (
        "applied_upto",
        "by",
        "bytes",
        "cell",
        "changes",
        "changes_after",
        "changes_bytes",
        "credit",
        "delayed",
        "epoch",
        "history",
        "inspected",
        "key",
        "key_before",
        "keyed",
        "limits",
        "locks",
        "looked_at",
        "losses",
        "losses_paths",
        "nodes",
        "revision",
        "revoked",
        "sessions",
        "wall_ms",
    )

    def __init__(self, cell: str, limits: Limits = LIMITS) -> None:
        self.cell = cell
        self.limits = limits
        self.applied_upto = 0
        self.epoch = 0
        self.revision = 0
        self.history = bytes(16)  # see `coordd.machine.history`
        self.credit = 0  # bytes that the history may still inspect
        self.inspected = 0  # items that it has inspected
        self.key = b""  # of the sequencers; b"" until the first master has made one
        self.key_before = b""
        self.keyed: blake2s | None = None  # derived from `key`: a hash to copy for every grant
        root = Node("/", None, True, 0, 0, ROOT_OWNER, ROOT_ACL)
        self.nodes: OrderedDict[str, Node] = OrderedDict({"/": root})
        self.bytes = node_bytes(root)
        self.locks: dict[str, Lock] = {}
        self.delayed: dict[tuple[str, int, int], Hold] = {}
        self.revoked: dict[tuple[str, int, int], Hold] = {}
        self.sessions: OrderedDict[int, Session] = OrderedDict()
        self.losses: OrderedDict[str, tuple[Loss, ...]] = OrderedDict()  # newest last
        self.losses_paths: list[str] = []  # sorted: the turn in which the history inspects them
        self.looked_at = ""  # the path of the losses inspected last
        self.changes: deque[Change] = deque()  # oldest first
        self.changes_bytes = 0
        self.changes_after = 0  # every change with a larger revision is still kept
        self.wall_ms = 0
        self.by = (0, "", "")


def checksum_of(contents: bytes) -> str:
    """The 64-bit checksum of a file, in hex."""
    return blake2b(contents, digest_size=8).hexdigest()


EMPTY_CHECKSUM = checksum_of(b"")


def node_bytes(node: Node) -> int:
    """What a node counts against `Limits.total_bytes`."""
    return len(node.path) + len(node.contents)


def refuse_limit(name: str, bound: int) -> NoReturn:
    """Refuse with `limit`; `name` is a field of `Limits`."""
    raise Refusal("limit", f"{name.replace('_', ' ')}: the limit of {bound} is reached", limit=name, bound=bound)


def killed_by_operator(session: Session) -> Refusal:
    """What a killed session is told."""
    return Refusal("session_killed", f"an operator ended this session: {session.killed}", reason=session.killed)


def mute_of(session: Session) -> Refusal | None:
    """Why nothing new of this session runs; None where it may."""
    if session.killed:
        return killed_by_operator(session)
    if session.gone:
        return Refusal("cancelled", "this process has said goodbye; only one that resumes the session may go on")
    return None


def token_of(hold: Hold) -> int:
    """The fencing token: that of the period, but of a semaphore's hold that of its own grant."""
    return hold.token or hold.lock.token


def holder_of(lock: Lock) -> dict[str, object] | None:
    """The holder that a refusal names: the first of the present period; None while somebody only waits."""
    first = next(iter(lock.holders.values()), None)
    return None if first is None else describe_hold(first)


def describe_hold(hold: Hold) -> dict[str, object]:
    """A holder as people and refusals see it."""
    return {
        "session": hold.session,
        "hold": hold.call,
        "actor": hold.actor,
        "since_ms": hold.since_ms,
        "token": token_of(hold),
        "mode": hold.lock.mode,
        "permits": hold.lock.permits,
        "lock_delay_ms": hold.lock_delay_ms,
        "delayed": hold.delayed,
        "revoked": hold.revoked or None,
        "client": hold.client,
        "principal": hold.principal,
    }


def check_answer(state: State, size: int, what: str) -> None:
    """Refuses an answer that no frame could carry; `size` is about its bytes."""
    if size > state.limits.answer_bytes:
        raise Refusal("too_large", f"{what} has about {size} bytes; the limit is {state.limits.answer_bytes}")


def text_bytes(text: str) -> int:
    """At least as many bytes as the text has in UTF-8."""
    return len(text) if text.isascii() else 4 * len(text)


def client_bytes(client: dict[str, str]) -> int:
    """About how many bytes the labels of a client take."""
    return sum(text_bytes(key) + text_bytes(text) + 8 for key, text in client.items())
