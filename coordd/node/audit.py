"""What operators do to other people's sessions and locks is written down: one line each, with what came of it.

The line is written where the call was answered, by the master, and also when whoever asked has gone before the answer.
Where nothing was done because another replica is the master, that one writes it.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from coordclient.protocol.errors import ERRORS, Action, Refusal
from coordd.engine.inputs import Call

AUDITED = frozenset({"kill_session", "unlock", "transfer"})
_FIELDS = ("path", "session", "hold", "to", "now", "reason")  # of the arguments; nothing else of them is told
_NOTHING_DONE = (Action.GO_TO_MASTER, Action.RETRY)

_log = structlog.get_logger("coordd.audit")


class AuditedCall:
    """Stands between an answer and whoever waits for it."""

    def __init__(self, call: Call, deliver: Callable[[dict[str, object] | Refusal], None]) -> None:
        self._call = call
        self._deliver: Callable[[dict[str, object] | Refusal], None] | None = deliver

    def leave(self) -> None:
        """Nobody waits for the answer any more; the line is written all the same."""
        self._deliver = None

    def __call__(self, result: dict[str, object] | Refusal) -> None:
        """The answer."""
        if not (isinstance(result, Refusal) and ERRORS[result.code].action in _NOTHING_DONE):
            self._write(result)
        if self._deliver is not None:
            self._deliver(result)

    def _write(self, result: dict[str, object] | Refusal) -> None:
        call = self._call
        about = {name: call.arguments[name] for name in _FIELDS if call.arguments.get(name)}
        if "session" in about:
            about["target"] = about.pop("session")
        outcome = result.code if isinstance(result, Refusal) else "done"
        _log.info(call.operation, principal=call.principal, session=call.session or None, outcome=outcome, **about)
