"""A command line with another command behind `--`: that is the command, word for word."""

from __future__ import annotations

import click

_SEPARATOR = "--"


class Separated(click.Command):
    """What follows the first `--` is for `ctx.meta["command"]`, a tuple, empty without `--`; the rest is ours."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """What the usage line says."""
        return [*super().collect_usage_pieces(ctx), "[-- CMD...]"]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Split before click looks."""
        own, command = list(args), []
        if _SEPARATOR in own:
            at = own.index(_SEPARATOR)
            own, command = own[:at], own[at + 1 :]
            ctx.meta["separated"] = True
            if not command and not ctx.resilient_parsing:
                raise click.UsageError(f"there is no command after {_SEPARATOR}", ctx)
        ctx.meta["command"] = tuple(command)
        try:
            return super().parse_args(ctx, own)
        except click.UsageError as error:
            if not command and "unexpected" in error.format_message():
                raise command_elsewhere(ctx) from None
            raise


def command_elsewhere(ctx: click.Context) -> click.UsageError:
    """What to say to somebody who seems to have left the separator out."""
    name = ctx.info_name or ""
    return click.UsageError(f"the command to run goes after {_SEPARATOR}: {name} PATH {_SEPARATOR} CMD...", ctx)
