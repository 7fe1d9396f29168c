"""The rows of the table of operations that are about nodes: reading, writing, what has changed.

`stat` stands for the map of `coordclient.protocol.operations`.
"""

from __future__ import annotations

from coordclient.protocol.arguments import PAGE_MAX, Argument, Kind
from coordclient.protocol.operation import Operation, Way

CONTENTS_BYTES_MAX = 256 * 1024
SEQUENCER_BYTES_MAX = 4096
HISTORY_COUNT_MAX = 1000

PATH = Argument("path", Kind.PATH, required=True)
PAGE_COUNT = Argument("count", Kind.INT, 0, high=PAGE_MAX)  # at most so many rows; 0: as many as fit
IF_INSTANCE = Argument("if_instance", Kind.INT, None)  # the handle's: refused where another node is there, or none
_CONTENTS = Argument("contents", Kind.BYTES, b"", high=CONTENTS_BYTES_MAX)
_PARENTS = Argument("parents", Kind.BOOL, False)
_IF_GENERATION = Argument("if_generation", Kind.INT, None)
_IF_SEQUENCER = Argument("if_sequencer", Kind.TEXT, None, low=1, high=SEQUENCER_BYTES_MAX)  # valid, or nothing is done
# The answer, a not_found too, has `cached`: its number in the queue of `cache`, where it may be kept; no lock state.
_CACHE = Argument("cache", Kind.BOOL, False)
_EPHEMERAL = Argument("ephemeral", Kind.BOOL, False)

_ROWS = (
    Operation(
        "get",
        Way.READ,
        (PATH, Argument("revision", Kind.INT, 0), IF_INSTANCE, _CACHE),  # 0: the present
        "{contents, stat}; of an earlier revision stat has instance, checksum and size, and content_generation,"
        " revision and modified_ms where they are known; the rest is 0 or ''",
    ),
    Operation("stat", Way.READ, (PATH, IF_INSTANCE, _CACHE), "{stat}"),
    Operation(
        "ls",
        Way.READ,
        (
            PATH,
            IF_INSTANCE,
            _CACHE,
            Argument("contents", Kind.BOOL, False),
            Argument("after", Kind.TEXT, ""),  # a name: what comes behind it
            PAGE_COUNT,
        ),
        "{revision, entries: [{name, stat, and of a file contents if asked for}] sorted by name, more}: more: not all"
        " fitted, or were wanted; the next page begins after the last name",
    ),
    Operation(
        "get_many",
        Way.READ,
        (Argument("paths", Kind.PATHS, required=True), Argument("contents", Kind.BOOL, True)),
        "{revision, entries: [{path, stat, contents: null of a directory} | {path, error: {code, message}}] in the"
        " order of the paths, more}: all of one revision; more: the last ones did not fit, and are to be asked for",
    ),
    Operation(
        "history",
        Way.READ,
        (
            PATH,
            Argument("since", Kind.INT, 0),  # only changes with a larger revision
            Argument("upto", Kind.INT, 0),  # and with none larger than this; 0: the present
            Argument("count", Kind.INT, 100, low=1, high=HISTORY_COUNT_MAX),  # whole revisions: the first may have more
            Argument("subtree", Kind.BOOL, False),
        ),
        "{revision, complete_after, changes: [{revision, path, kind: 'created' | 'changed' | 'deleted', directory,"
        " instance, size, checksum: or null, session, principal, at_ms, operation}] newest first, more}: all are kept"
        " whose revision is larger than complete_after; more: older ones were left out, and with upto below the last"
        " revision they come",
    ),
    Operation(
        "put",
        Way.WRITE,
        (
            PATH,
            _CONTENTS,
            _IF_GENERATION,
            Argument("if_absent", Kind.BOOL, False),
            _PARENTS,
            _IF_SEQUENCER,
            IF_INSTANCE,
        ),
        "{stat}: writes the whole file, makes it if it is missing (not with if_generation)",
    ),
    Operation(
        "create",
        Way.WRITE,
        (PATH, _CONTENTS, _EPHEMERAL, _PARENTS, _IF_SEQUENCER),
        "{stat}: an ephemeral file needs a session, which opens it",
    ),
    Operation("open", Way.WRITE, (PATH,), "{stat}: this session keeps the ephemeral node alive too", session=True),
    Operation(
        "close",
        Way.WRITE,
        (PATH, Argument("instance", Kind.INT, required=True)),
        "{did: 'closed' | 'removed' | 'nothing'}: this session keeps that ephemeral node alive no more; it goes when"
        " nobody does",
        session=True,
    ),
    Operation(
        "mkdir",
        Way.WRITE,
        (PATH, _EPHEMERAL, _PARENTS, _IF_SEQUENCER),
        "{stat}: an ephemeral directory needs a session, which opens it; it goes when it is empty too",
    ),
    Operation("delete", Way.WRITE, (PATH, _IF_GENERATION, _IF_SEQUENCER, IF_INSTANCE), "{revision}"),
)

# What a step of a transaction does not take: a guard says it for all steps, and reads see the transaction itself.
_NOT_IN_STEPS = ("if_sequencer", "revision", "cache")
_STEPS = {
    row.name: (
        {name: argument for name, argument in row.by_name.items() if name not in _NOT_IN_STEPS},
        {name: row.by_name[name].default for name in _NOT_IN_STEPS if name in row.by_name},
    )
    for row in _ROWS
    if row.name in ("put", "create", "mkdir", "delete", "get", "stat", "ls")
}
_BRANCHES = (
    Argument("guards", Kind.GUARDS, []),
    Argument("then", Kind.STEPS, [], steps=_STEPS),
    Argument("else", Kind.STEPS, [], steps=_STEPS),
)

TREE = (
    *_ROWS,
    Operation(
        "txn",
        Way.WRITE,
        _BRANCHES,
        "{succeeded, revision, guards: [bool], results: [the answer of each step]}: a guard is {sequencer}, or {path,"
        " and one of exists, held, checksum, or of instance, content_generation, lock_generation, acl_generation,"
        " revision with is: '==' | '!=' | '<' | '<=' | '>' | '>='}, which is false of a missing node; a step is {do:"
        " put | create | mkdir | delete | get | stat | ls, and its arguments}; all in one revision; refusals name the"
        " step",
    ),
    Operation(
        "plan_txn",
        Way.READ,
        _BRANCHES,
        "{revision, succeeded, guards: [bool], changes: [path], refused: null | {code, message, step}}: what txn would"
        " do",
    ),
)
