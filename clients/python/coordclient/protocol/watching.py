"""The rows of watches in the table of operations."""

from __future__ import annotations

from coordclient.protocol.arguments import Argument, Kind
from coordclient.protocol.operation import Operation, Way
from coordclient.protocol.tree import PATH

WATCH_WAIT_MS_MAX, WATCH_WAIT_MS_DEFAULT = 60_000, 30_000
SCOPES = ("node", "children", "subtree")
VALUES = ("none", "new", "both")

_WATCH = Argument("watch", Kind.INT, required=True, low=1)  # the call number of a watch of this channel

WATCHING = (
    Operation(
        "watch",
        Way.WATCH,
        (
            PATH,
            Argument("scope", Kind.CHOICE, "node", choices=SCOPES),
            Argument("since", Kind.INT, None),  # the revision that the watcher has seen last; null: from now on
            Argument("values", Kind.CHOICE, "new", choices=VALUES),
            Argument("wait_ms", Kind.INT, WATCH_WAIT_MS_DEFAULT, high=WATCH_WAIT_MS_MAX),  # POST: how long for news
        ),
        "several: {revision, events: [{revision, path, kind: 'created' | 'changed' | 'deleted', directory, instance,"
        " size, checksum, session, principal, at_ms, operation}], and before, after by values}: everything up to"
        " revision has been told; or {revision, resync: true, piece, entries: [{path, stat, contents by values}],"
        " more}: what there is, of one revision, in pieces from 0. POST: one of them",
        streams=True,
    ),
    Operation(
        "watched",
        Way.WATCH,
        (_WATCH, Argument("deliveries", Kind.INT, required=True)),
        "{}: the first so many answers of that watch have been taken in",
        channel=True,
    ),
    Operation("unwatch", Way.WATCH, (_WATCH,), "{}: that watch is answered for the last time", channel=True),
)
