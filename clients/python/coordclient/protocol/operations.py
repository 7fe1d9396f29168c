"""The table of operations: one row makes the checks of both doors, and the words of their errors.

Results are maps. `stat` below stands for
  {"path", "kind": "file" | "directory", "instance", "content_generation", "lock_generation", "acl_generation",
   "revision", "checksum": 16 hex digits, "size", "created_ms", "modified_ms" (wall clock, for people),
   "owner", "ephemeral": bool, "children": int}
"""

from __future__ import annotations

from collections.abc import Mapping

from coordclient.protocol.addresses import ADDRESS_BYTES_MAX
from coordclient.protocol.arguments import (
    LOCKS_MAX,
    MODES,
    NUMBER_MAX,
    PERMITS_MAX,
    TEXT_BYTES_MAX,
    Argument,
    Kind,
    check_permits,
    fill,
)
from coordclient.protocol.caching import CACHING
from coordclient.protocol.errors import Refusal
from coordclient.protocol.operation import Operation, Way
from coordclient.protocol.tree import (
    CONTENTS_BYTES_MAX,
    HISTORY_COUNT_MAX,
    IF_INSTANCE,
    PAGE_COUNT,
    PATH,
    SEQUENCER_BYTES_MAX,
    TREE,
)
from coordclient.protocol.watching import WATCHING

__all__ = [
    "CONTENTS_BYTES_MAX",
    "HISTORY_COUNT_MAX",
    "LEASE_MS_DEFAULT",
    "LEASE_MS_MAX",
    "LEASE_MS_MIN",
    "LOCKS_MAX",
    "LOCK_DELAY_MS_DEFAULT",
    "LOCK_DELAY_MS_MAX",
    "MODES",
    "NUMBER_MAX",
    "OPERATIONS",
    "PERMITS_MAX",
    "REASON_BYTES_MAX",
    "SECRET_BYTES_MAX",
    "SEQUENCER_BYTES_MAX",
    "TEXT_BYTES_MAX",
    "Argument",
    "Kind",
    "Operation",
    "Way",
    "check_arguments",
    "check_permits",
    "find_operation",
]

LEASE_MS_MIN, LEASE_MS_MAX, LEASE_MS_DEFAULT = 1_000, 60_000, 12_000
LOCK_DELAY_MS_MAX, LOCK_DELAY_MS_DEFAULT = 60_000, 5_000
SECRET_BYTES_MAX = 128
REASON_BYTES_MAX = 256


_REPLICA = Argument("replica", Kind.INT, required=True, low=1, high=255)
_MEMBERS = (
    "{version, highest, master, members: [{replica, voter, address, chosen_upto, heard_ms_ago}], voters, answering,"
    " majority, can_lose}: answering and can_lose count the voters that answer and keep up"
)
_WAIT = Argument("wait", Kind.BOOL, True)
_LOCK_DELAY_MS = Argument("lock_delay_ms", Kind.INT, LOCK_DELAY_MS_DEFAULT, high=LOCK_DELAY_MS_MAX)
_ACTOR = Argument("actor", Kind.TEXT, "", high=128)
_LIMITED = Argument("limited", Kind.BOOL, False)  # the wait may end by itself: it is no part of a deadlock
_LABELS = Argument("client", Kind.LABELS, {})  # host, pid, program, name: for people
_SESSION = Argument("session", Kind.INT, required=True, low=1)
_HOLD = Argument("hold", Kind.INT, required=True, low=1)
_REASON = Argument("reason", Kind.TEXT, required=True, low=1, high=REASON_BYTES_MAX)
_SESSION_ROW = (
    "{session, lease_ms, left_ms, heard_ms_ago, client, principal, incarnation, killed: reason or null, opened_ms,"
    " holds, waiters, ephemerals}"
)
_LOCK_ROW = (
    "{path, mode ('' while nobody holds), token, permits,"
    " holders: [{session, hold, actor, since_ms, token, mode, permits, lock_delay_ms, delayed, revoked: reason or null,"
    " client, principal}], waiters: [{session, call, actor, mode, permits, several, since_ms, place, client,"
    " principal}]}"
)

_ROWS = (
    Operation(
        "open_session",
        Way.WRITE,
        (
            Argument("lease_ms", Kind.INT, LEASE_MS_DEFAULT, low=LEASE_MS_MIN, high=LEASE_MS_MAX),
            _LABELS,
        ),
        "{session, secret, lease_ms, epoch}",
    ),
    Operation(
        "attach",
        Way.SESSION,
        (
            _SESSION,
            Argument("secret", Kind.TEXT, required=True, high=SECRET_BYTES_MAX),
            Argument("attachment", Kind.INT, required=True, low=1),  # rises with every channel of the session
        ),
        "{session, lease_ms, epoch}: from now on this channel speaks for the session; it renews no lease",
        channel=True,
    ),
    Operation(
        "keep_alive",
        Way.SESSION,
        (
            Argument("number", Kind.INT, required=True),  # rises with every transmission
            Argument("hold_ms", Kind.INT, 0, high=LEASE_MS_MAX),  # how long the answer may be kept back
        ),
        "{number, epoch, lease_ms, members}: the lease counts from when number was sent (client), received (master);"
        " members is the version of the membership, to be asked for (status) when it is another than before;"
        " revoked: [[path, hold, reason]] is there where an operator wants holds back, or has taken them, until each is"
        " answered by give_up or release; the answer is held back for at most a third of the lease",
        session=True,
    ),
    Operation("close_session", Way.WRITE, (), "{}", session=True),
    Operation(
        "leave_session",
        Way.WRITE,
        (),
        "{}: this process goes and believes in nothing any more; what the session has stays until its lease ends",
        session=True,
    ),
    Operation(
        "resume_session",
        Way.WRITE,
        (
            _SESSION,
            Argument("secret", Kind.TEXT, required=True, high=SECRET_BYTES_MAX),
            Argument("new_secret", Kind.TEXT, required=True, low=32, high=SECRET_BYTES_MAX),  # drawn by the client
            _LABELS,
        ),
        "{session, lease_ms, epoch, incarnation, next_call, left, holds: [{path, mode, permits, token, hold, sequencer,"
        " lock_delay_ms}]}: new_secret alone is good from now on; left: every process before has said goodbye; the"
        " first lease that a client may count on is that of its first KeepAlive",
    ),
    Operation(
        "kill_session",
        Way.WRITE,
        (_SESSION, _REASON),
        "{session, holds, lease_ms}: it ends as an expiry when its client acknowledges, or when its lease is over",
    ),
    Operation("acknowledge_kill", Way.WRITE, (), "{}: the client believes in nothing of it any more", session=True),
    Operation(
        "list_sessions",
        Way.READ,
        (Argument("after", Kind.INT, 0), PAGE_COUNT),  # after: the last one of the page before
        f"{{revision, sessions: [{_SESSION_ROW}] oldest first, more}}",
    ),
    Operation(
        "session_info",
        Way.READ,
        (Argument("session", Kind.INT, 0),),  # 0: that of the caller
        f"{_SESSION_ROW} of one, and {{revision, waiting: [{{path, mode, place, since_ms, call}}], ephemeral_paths,"
        " holds: [{path, mode, permits, token, hold, since_ms, lock_delay_ms, revoked: reason or null}]}",
    ),
    *TREE,
    Operation(
        "acquire",
        Way.WRITE,
        (
            PATH,
            Argument("mode", Kind.MODE, "exclusive"),
            _WAIT,
            _LOCK_DELAY_MS,
            _ACTOR,
            _LIMITED,
            Argument("permits", Kind.INT, 0, high=PERMITS_MAX),  # of a semaphore, fixed by its first holder
            IF_INSTANCE,
        ),
        "{path, mode, token, hold, sequencer}: hold is the call number of the acquire",
        session=True,
        waits=True,
    ),
    Operation(
        "acquire_all",
        Way.WRITE,
        (Argument("locks", Kind.LOCKS, required=True), _WAIT, _LOCK_DELAY_MS, _ACTOR, _LIMITED),
        "{hold, locks: [{path, mode, permits, token, sequencer}]}: all in one step, or none; a retry is told what is"
        " still held of it",
        session=True,
        waits=True,
    ),
    Operation(
        "release",
        Way.WRITE,
        (Argument("path", Kind.PATH, ""), _HOLD),  # without path: all that this acquire holds
        "{revision}",
        session=True,
    ),
    Operation(
        "cancel",
        Way.WRITE,
        (Argument("target", Kind.INT, required=True, low=1),),  # the call number of an acquire of this session
        "{did: 'withdrew' | 'released' | 'marked' | 'nothing'}",
        session=True,
    ),
    Operation(
        "transfer",
        Way.WRITE,
        (PATH, _HOLD, Argument("to", Kind.INT, required=True, low=1)),
        "{revision, to, hold}: the first request of session to that waits for it in the same mode has it now",
        session=True,
    ),
    Operation(
        "give_up",
        Way.WRITE,
        (PATH, _HOLD),
        "{did: 'delayed' | 'freed' | 'noted'}: the holder has stopped believing in a hold that was revoked or broken",
        session=True,
    ),
    Operation(
        "unlock",
        Way.WRITE,
        (
            PATH,
            _REASON,
            Argument("now", Kind.BOOL, False),
            Argument("session", Kind.INT, 0),
            Argument("hold", Kind.INT, 0),
        ),
        "{path, holds: [{session, hold}], now}: takes holds back, those of any session and hold where these are 0; now:"
        " at once and without lock-delay, though the holder may still believe; else the holder is asked first, or its"
        " lease ends, and then its lock-delay",
    ),
    Operation(
        "check_sequencer",
        Way.READ,
        (
            Argument("sequencer", Kind.TEXT, required=True, low=1, high=SEQUENCER_BYTES_MAX),
            Argument("stale", Kind.BOOL, False),  # any replica answers, by what it has applied so far
        ),
        "{valid, reason, revision}, and stale: true where it was asked for so",
    ),
    Operation(
        "locks",
        Way.READ,
        (Argument("path", Kind.PATH, "/"), Argument("after", Kind.PATH, ""), PAGE_COUNT),
        f"{{revision, locks: [{_LOCK_ROW}], more}} of the subtree, by path; the next page begins after the last one",
    ),
    Operation(
        "why",
        Way.READ,
        (PATH,),
        "{revision, path, exists, lock: as in locks, or null, losses: [{session, hold, client, principal, mode, token,"
        " since_ms, ended_ms, cause: 'released' | 'closed' | 'expired' | 'killed' | 'broken' | 'revoked' |"
        " 'transferred', reason}] newest first}; holders have also {heard_ms_ago, left_ms: of the lease, delay_left_ms,"
        " crash_wait_ms: the most that others wait after a crash of this holder}",
    ),
    *WATCHING,
    *CACHING,
    Operation("members", Way.CELL, (), _MEMBERS),
    Operation(
        "add_member",
        Way.CELL,
        (
            Argument("replica", Kind.INT, 0, high=255),  # 0: the next free id
            Argument("address", Kind.ADDRESS, required=True, low=1, high=ADDRESS_BYTES_MAX),
        ),
        "as members, and {replica, changed}: a new replica, which learns and does not vote yet; an id is given once",
    ),
    Operation("promote_member", Way.CELL, (_REPLICA,), "as add_member: a learner that has caught up votes from now on"),
    Operation("remove_member", Way.CELL, (_REPLICA,), "as add_member: it leaves, for good, and its process ends"),
    Operation(
        "transfer_master",
        Way.CELL,
        (Argument("to", Kind.INT, 0, high=255),),  # 0: whoever is best
        "{master, to, changed}: the master that was gives its lease up, and this one may stand first",
    ),
    Operation(
        "status",
        Way.LOCAL,
        (),
        "{cell, replica, version, role, master, master_address, epoch, ballot, revision, chosen_upto, log_first_slot,"
        " snapshot_slot, sessions, uptime_ms, membership_version,"
        " standing: 'voter' | 'learner' | 'joining' | 'removed', differs_from: [replica], disk_full,"
        " members: [{replica, voter, address, heard_ms_ago}]}",
    ),
)

OPERATIONS: Mapping[str, Operation] = {row.name: row for row in _ROWS}


def find_operation(name: object) -> Operation:
    """The row of that name, or `unknown_operation`."""
    operation = OPERATIONS.get(name) if isinstance(name, str) else None
    if operation is None:
        shown = repr(name)[:80]
        raise Refusal("unknown_operation", f"no operation is called {shown}; there are {', '.join(sorted(OPERATIONS))}")
    return operation


def check_arguments(operation: Operation, arguments: object) -> dict[str, object]:
    """The arguments with defaults filled in and paths normalised; refuses anything else by name."""
    if not isinstance(arguments, dict):
        raise Refusal("bad_request", f"{operation.name}: arguments must be a map, not {type(arguments).__name__}")
    return fill(operation.name, operation.by_name, arguments)
