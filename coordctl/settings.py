"""The global options as data, and the clients that they describe.

Every global option can stand before or after the command (`coordctl -o json ls`, `coordctl ls -o json`), and has an
environment variable COORD_<FLAG>. Flag beats environment beats default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from coordctl.order import Connection

if TYPE_CHECKING:
    from coordclient import Client

    _SecondsType = click.ParamType[float]
else:
    _SecondsType = click.ParamType  # not generic in every click

_Command = TypeVar("_Command", bound=Callable[..., Any])
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
TIMEOUT_SECONDS = 10.0


class Seconds(_SecondsType):
    """A duration: a number of seconds, or a number with a unit (1.5, 1.5s, 500ms, 2m)."""

    name = "seconds"

    def __init__(self, low: float = 0.0, high: float | None = None) -> None:
        self.low = low
        self.high = high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number of seconds, or a usage error."""
        if isinstance(value, int | float):
            return float(value)
        text = str(value).strip()
        unit = next((unit for unit in _UNITS if text.endswith(unit)), "")
        try:
            seconds = float(text.removesuffix(unit)) * _UNITS.get(unit, 1.0)
        except ValueError:
            self.fail(f"{value!r} is not a duration; write 1.5, 1.5s, 500ms or 2m", param, ctx)
        if not self.low <= seconds < float("inf"):  # also refuses "nan"
            self.fail(f"{value} is below the least, {self.low:g}s", param, ctx)
        if self.high is not None and seconds > self.high:
            self.fail(f"{value} is over the most, {self.high:g}s", param, ctx)
        return seconds


@dataclass(slots=True)
class Settings:
    """The global options of one run. `output` is None for the default: a table on a terminal, tabs into a pipe."""

    endpoints: tuple[str, ...] | None = None
    cell: str | None = None
    output: str | None = None
    timeout: float = TIMEOUT_SECONDS
    quiet: bool = False
    verbose: bool = False

    @property
    def json(self) -> bool:
        """JSON was asked for."""
        return self.output == "json"

    @property
    def aligned(self) -> bool | None:
        """For `output.print_rows`."""
        return True if self.output == "table" else None

    @property
    def connection(self) -> Connection:
        """What a client needs to know."""
        return Connection(self.endpoints, self.cell, self.timeout)

    def open_client(self) -> Client:
        """A client for one command; use it as a context manager."""
        from coordclient import Client

        endpoints = list(self.endpoints) if self.endpoints else None
        return Client(endpoints, cell=self.cell, request_timeout=self.timeout, name="coordctl")


def _endpoints(value: str) -> tuple[str, ...]:
    from coordclient.endpoints import parse_endpoint

    parts = tuple(part.strip() for part in value.split(",") if part.strip())
    try:
        for part in parts:
            parse_endpoint(part)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return parts


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Into the settings of this run; what was not given leaves them alone."""
    if value is None or value is False:
        return
    settings = ctx.ensure_object(Settings)
    setattr(settings, str(param.name), _endpoints(value) if param.name == "endpoints" else value)


def global_options(*, environment: bool) -> Callable[[_Command], _Command]:
    """The decorator of the root (`environment`: it also reads COORD_<FLAG>) and of every command."""

    def option(*names: str, **kinds: Any) -> Callable[[_Command], _Command]:
        variable = "COORD_" + names[-1].removeprefix("--").upper() if environment else None
        return click.option(*names, expose_value=False, callback=_keep, envvar=variable, show_envvar=True, **kinds)

    options = (
        option("--endpoints", metavar="A,B,...", help="Addresses of replicas: HOST:PORT or http://HOST:PORT."),
        option("--cell", metavar="NAME", help="Refuse to talk to any other cell."),
        option("-o", "--output", type=click.Choice(["table", "json"]), help="How data is printed."),
        option("--timeout", type=Seconds(low=0.001), metavar="SEC", help="How long to wait for an answer [10s]."),
        option("-q", "--quiet", is_flag=True, default=None, help="No words on stderr but failures."),
        option("-v", "--verbose", is_flag=True, default=None, help="More words on stderr."),
    )

    def decorate(command: _Command) -> _Command:
        for add in reversed(options):
            command = add(command)
        return command

    return decorate


common = global_options(environment=False)
