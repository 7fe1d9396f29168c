"""Logging: structlog, colours on a terminal, one JSON object per line otherwise; to stderr, as services do.

An event is a name and plain fields (`log.info("master", epoch=3)`). Never a secret, a token or the contents of a node:
as a last line of defence, fields with such names are struck out here.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TextIO

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
SECRET_FIELDS = frozenset({"secret", "sequencer", "contents", "key", "proof", "authorization"})
TEXT_FIELD_MAX = 2_000
# A traceback names places, never the values of local variables: those may be secrets.
_TRACEBACK = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def configure_logging(
    level: str = "info",
    form: Literal["auto", "console", "json"] = "auto",
    stream: TextIO | None = None,
    **fields: object,
) -> None:
    """Set structlog up for this process. `fields` (say cell and replica) stand in every line."""
    stream = sys.stderr if stream is None else stream
    on_terminal = stream.isatty()
    console = form == "console" or (form == "auto" and on_terminal)
    render: list[Any] = (
        [structlog.dev.ConsoleRenderer(colors=on_terminal, exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [structlog.processors.ExceptionRenderer(_TRACEBACK), structlog.processors.JSONRenderer(default=str)]
    )
    structlog.configure(
        processors=[
            _Everywhere(fields),
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _strike_out,
            *render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )


class _Everywhere:
    """Puts the same fields into every event, whatever task or thread it comes from; the event's own win."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = dict(fields)

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {**self._fields, **event}


def _strike_out(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if name in SECRET_FIELDS:
            event[name] = "***"
        elif isinstance(value, str) and len(value) > TEXT_FIELD_MAX:
            event[name] = value[:TEXT_FIELD_MAX] + "..."
    return event
