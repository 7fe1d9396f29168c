"""The rows of the consistent cache in the table of operations. `get`, `stat` and `ls` have the argument `cache`."""

from __future__ import annotations

from coordclient.protocol.arguments import Argument, Kind
from coordclient.protocol.operation import Operation, Way

_NUMBER = Argument("number", Kind.INT, required=True)

CACHING = (
    Operation(
        "cache",
        Way.SESSION,
        (),
        "several: {number, invalidate: [path], epoch} says that the queue is open; then {number, invalidate: [path]}:"
        " what is kept of these paths is dropped, with every answer whose number (cached) is smaller; invalidate null:"
        " of all paths. By asking for a queue a process says that it keeps nothing of an earlier one",
        session=True,
        streams=True,
        channel=True,
    ),
    Operation(
        "invalidated",
        Way.SESSION,
        (_NUMBER,),
        "{}: all that was to be dropped up to number is dropped",
        session=True,
        channel=True,
    ),
    Operation(
        "cache_lease",
        Way.SESSION,
        (_NUMBER,),  # rises with every request
        "{number, epoch, lease_ms, drop}: what is kept may be believed for lease_ms (0: not at all), counted from the"
        " sending of the request, less the drift of clocks; drop: this channel has no queue, all is to be dropped;"
        " answered when nothing that was to be dropped is unacknowledged",
        session=True,
        channel=True,
    ),
)
