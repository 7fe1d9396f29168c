"""The global options as data, and the clients that they describe.

Every global option can stand before or after the command (`coordctl -o json ls`, `coordctl ls -o json`), and has an
environment variable COORD_<FLAG>. Flag beats environment beats context beats default. A context that is named by a flag
(--context) was chosen for this very command, so it beats the environment, and `endpoints` and `cell` go together: where
the endpoints come from before the context, its cell is not asked for.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from coordctl.errors import Exit, Failure
from coordctl.order import Connection
from coordctl.output import FORMS

if TYPE_CHECKING:
    from coordclient import Client

    _SecondsType = click.ParamType[float]
else:
    _SecondsType = click.ParamType  # not generic in every click

_Command = TypeVar("_Command", bound=Callable[..., Any])
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
TIMEOUT_SECONDS = 10.0
TIMEOUT_SECONDS_MIN = 0.001
NUMBER_MAX = 2**53 - 1


class Seconds(_SecondsType):
    """A duration: a number of seconds, or a number with a unit (1.5, 1.5s, 500ms, 2m)."""

    name = "seconds"

    def __init__(self, low: float = 0.0, high: float | None = None) -> None:
        self.low = low
        self.high = high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number of seconds, or a usage error."""
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


class Number(click.IntRange):
    """A number of the cell: an id, a generation, a revision. All of them stay exact in JSON."""

    name = "integer"  # click says `is not a valid integer range`

    def __init__(self, low: int, high: int = NUMBER_MAX) -> None:
        super().__init__(low, high)


@dataclass(slots=True)
class Settings:
    """The global options of one run. `output` is None for the default: a table on a terminal, tabs into a pipe."""

    endpoints: tuple[str, ...] | None = None
    cell: str | None = None
    output: str | None = None
    timeout: float = TIMEOUT_SECONDS
    quiet: bool = False
    verbose: bool = False
    context: str | None = None
    no_color: bool = False
    refresh: float | None = None  # seconds; of listings only
    given: dict[str, str] = field(default_factory=dict, compare=False)  # option -> "flag" or "environment"

    @property
    def json(self) -> bool:
        """JSON was asked for."""
        return self.output == "json"

    def keep(self, name: str, value: Any, *, flag: bool) -> None:
        """An option that was given."""
        setattr(self, name, value)
        self.given[name] = "flag" if flag else "environment"

    def load_context(self) -> None:
        """Take from the context, if there is one, what was not given."""
        from coordctl import contexts

        by_flag = self.given.get("context") == "flag"
        name = self.context or contexts.current()
        if name is None:
            return
        self.context = name
        stands = {key for key, source in self.given.items() if source == "flag" or not by_flag}
        if "endpoints" in stands:
            stands.add("cell")
        for key, value in contexts.load(name).items():
            if key not in stands:
                setattr(self, key, _checked(name, key, value))

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
    if not parts:
        raise click.BadParameter("no endpoint is named; leave the option out for the default")
    return parts


def _checked(context: str, key: str, value: Any) -> Any:
    """A value of a context as the option would have it."""
    try:
        match key:
            case "endpoints":
                return _endpoints(",".join(value))
            case "timeout":
                return Seconds(low=TIMEOUT_SECONDS_MIN).convert(value, None, None)
            case "output":
                return click.Choice(FORMS).convert(value, None, None)
            case _:
                return value
    except click.BadParameter as error:
        raise Failure(f"context {context}: {key}: {error.message}", Exit.USAGE) from None


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Into the settings of this run; what was not given leaves them alone."""
    if value is None or value is False:
        return
    name = str(param.name)
    if value == "":  # of a variable that is not set, perhaps: to go on would be to talk to any cell
        raise click.BadParameter("it is empty; leave the option out for the default", ctx, param)
    flag = ctx.get_parameter_source(name) is not click.core.ParameterSource.ENVIRONMENT
    ctx.ensure_object(Settings).keep(name, _endpoints(value) if name == "endpoints" else value, flag=flag)


def _complete_context(ctx: click.Context, param: click.Parameter, incomplete: str) -> Any:
    from coordctl.completion import complete_context

    return complete_context(ctx, param, incomplete)


def global_options(*, environment: bool, context: bool = True) -> Callable[[_Command], _Command]:
    """The decorator of the root (`environment`: it also reads COORD_<FLAG>) and of every command (`context`: it wants
    the values of the context)."""

    def option(*names: str, **kinds: Any) -> Callable[[_Command], _Command]:
        variable = "COORD_" + names[-1].removeprefix("--").upper().replace("-", "_") if environment else None
        return click.option(*names, expose_value=False, callback=_keep, envvar=variable, show_envvar=True, **kinds)

    options = (
        option("--endpoints", metavar="A,B,...", help="Addresses of replicas: HOST:PORT or http://HOST:PORT."),
        option("--cell", metavar="NAME", help="Refuse to talk to any other cell."),
        option(
            "--context",
            metavar="NAME",
            shell_complete=_complete_context,
            help="The context to take what is not given from [see `context`].",
        ),
        option("-o", "--output", type=click.Choice(FORMS), help="How data is printed."),
        option(
            "--timeout",
            type=Seconds(low=TIMEOUT_SECONDS_MIN),
            metavar="SEC",
            help="How long to wait for an answer [10s].",
        ),
        option("-q", "--quiet", is_flag=True, default=None, help="No words on stderr but failures."),
        option("-v", "--verbose", is_flag=True, default=None, help="More words on stderr."),
        option("--no-color", is_flag=True, default=None, help="No colour, as with NO_COLOR in the environment."),
    )

    def decorate(command: _Command) -> _Command:
        run: Any = command
        if not environment:
            run = _settled(command, context)
        for add in reversed(options):
            run = add(run)
        return cast(_Command, run)

    return decorate


def _settled(command: Callable[..., Any], context: bool) -> Callable[..., Any]:
    """All options have been seen when the command begins; only now is it known what a context has to say."""

    @functools.wraps(command)
    def run(*arguments: Any, **named: Any) -> Any:
        settings = click.get_current_context().ensure_object(Settings)
        if context:
            settings.load_context()
        if settings.no_color:
            os.environ["NO_COLOR"] = "1"
        return command(*arguments, **named)

    return run


common = global_options(environment=False)
without_context = global_options(environment=False, context=False)
