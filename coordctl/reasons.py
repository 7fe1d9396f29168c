"""`--reason` of what takes something away from somebody: who it was and why, for the log and for whoever lost it."""

from __future__ import annotations

import getpass
import os
import socket
from typing import Any

import click

REASON_BYTES_MAX = 256  # the cell's limit, signature included


def signed(reason: str) -> str:
    """The reason and who gave it: `TEXT (by alice on web-3)`; a usage error if it is empty or too long."""
    text = " ".join(reason.split())
    if not text:
        raise click.BadParameter("the reason is empty; say why, for whoever loses by it")
    whole = f"{text} (by {_user()} on {socket.gethostname()})"
    over = len(whole.encode(errors="replace")) - REASON_BYTES_MAX
    if over > 0:
        raise click.BadParameter(f"the reason is {over} bytes too long; with your name it may have {REASON_BYTES_MAX}")
    return whole.encode(errors="replace").decode()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return f"uid {os.getuid()}"


def _convert(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    return value if value is None else signed(value)


reason_option = click.option(
    "--reason", required=True, metavar="TEXT", callback=_convert, help="Why; whoever loses by it is told, and by whom."
)
