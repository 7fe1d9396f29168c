"""Bugs of handles and of ephemeral nodes that several keep alive."""

from __future__ import annotations

from typing import Any

from coordd.machine import namespace, reading
from tests.simulation.planted import Bug
from tests.simulation.planted.sessions import row


def _any_instance(right: Any) -> Any:
    return lambda state, path, instance: None


def _closed_for_all(right: Any) -> Any:
    def close(state: Any, session: Any, call: int, principal: str, arguments: Any, woken: Any) -> Any:
        node = session.ephemerals.get(arguments["path"])
        if node is not None and node.instance == arguments["instance"]:
            for other in list(node.openers):
                if other != session.id:
                    del node.openers[other], state.sessions[other].ephemerals[node.path]
        return right(state, session, call, principal, arguments, woken)

    return close


def _never_closed(right: Any) -> Any:
    return lambda state, session, call, principal, arguments, woken: {"did": "nothing"}


def _only_temporary(right: Any) -> Any:
    """What is ephemeral and has lost its last opener goes at once, or never."""

    def remove(state: Any, node: Any) -> None:
        parent = node.parent
        openers, parent.openers = parent.openers, None if parent.openers == {} else parent.openers
        right(state, node)
        parent.openers = openers

    return remove


BUGS = (
    Bug("handle reads another file", "nodes", "cell", [(reading, "check_instance", _any_instance)]),
    Bug("handle writes another file", "nodes", "cell", [(namespace, "check_instance", _any_instance)]),
    Bug("closing ends an ephemeral for all", "nodes", "cell", [row("close", _closed_for_all)]),
    Bug("closing closes nothing", "nodes", "cell", [row("close", _never_closed)]),
    Bug(
        "ephemeral directory outlives its last child",
        "nodes",
        "cell",
        [(namespace, "remove", _only_temporary)],
    ),
)
