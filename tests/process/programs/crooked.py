"""The daemon with a machine that is wrong: what is written to /crooked has another date."""

from __future__ import annotations

import sys
from typing import Any

from coordd.__main__ import main
from coordd.machine import machine, namespace
from coordd.machine.machine import Row
from coordd.machine.state import State


def put(state: State, session: Any, call: int, principal: str, arguments: Any, woken: Any) -> dict[str, object]:
    """The right one, at a wrong time."""
    state.wall_ms += arguments["path"] == "/crooked"
    return namespace.put(state, session, call, principal, arguments, woken)


if __name__ == "__main__":
    assert isinstance(machine.HANDLERS, dict)
    machine.HANDLERS["put"] = Row(put, False)
    sys.exit(main())
