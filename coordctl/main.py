"""The root command, and the one place where a failure becomes a line on stderr and an exit code."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from coordctl import cell, completion, files, history, local, lock, locks, members, sessions, txn, watch, why
from coordctl.errors import Exit, Failure, complain, exit_code_of
from coordctl.output import client_text
from coordctl.settings import Settings, global_options

_STDERR = 2
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
_SECTIONS = (
    ("Files", ("ls", "cat", "put", "rm", "mkdir", "stat", "txn", "history", "watch")),
    ("Locks", ("lock", "locks", "why", "unlock", "elect", "sequencer")),
    ("Sessions", ("session", "whoami")),
    ("Cell", ("cell",)),
    ("Client", ("context", "completion", "version", "explain")),
)


class _Root(click.Group):
    """Help by groups of commands, and a hint for a misspelt one."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The sections of the help."""
        for title, names in _SECTIONS:
            with formatter.section(title):
                rows = [(name, self.commands[name].get_short_help_str(80)) for name in names]
                formatter.write_dl(rows)


@click.group(cls=_Root, context_settings=_CONTEXT, invoke_without_command=True)
@global_options(environment=True)
@click.pass_context
def cli(ctx: click.Context) -> int | None:
    """Locks, small files and sessions of a coordd cell.

    Exit codes: 0 ok, 1 other, 2 usage, 3 not found, 4 exists or conflict, 5 permission, 6 unavailable or no answer in
    time, 75 lock not acquired, 76 lock lost while the command ran; under `lock` otherwise those of the command.
    """
    ctx.ensure_object(Settings)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        return Exit.USAGE
    return None


for _command in members.COMMANDS:
    cell.cell.add_command(_command)
_COMMANDS = (
    *files.COMMANDS,
    *txn.COMMANDS,
    *history.COMMANDS,
    *watch.COMMANDS,
    *lock.COMMANDS,
    *locks.COMMANDS,
    *why.COMMANDS,
    sessions.session,
    sessions.whoami,
    cell.cell,
    *local.COMMANDS,
)
for _command in _COMMANDS:
    cli.add_command(_command)


def invoke(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code, and has printed why if it is a failure of coordctl's own."""
    try:
        # Not `cli.main`: it turns some errors into exit codes of its own.
        with cli.make_context("coordctl", list(arguments)) as context:
            result: Any = cli.invoke(context)
        sys.stdout.flush()
        return result if isinstance(result, int) else Exit.OK
    except click.exceptions.Exit as ended:  # --help
        return ended.exit_code
    except Failure as failure:
        complain(failure.message)
        return failure.exit_code
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx is not None else "coordctl"
        complain(f"{error.format_message().rstrip('.')} ({where} --help shows the usage)")
        return error.exit_code
    except click.ClickException as error:
        complain(error.format_message())
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return Exit.SIGNAL + signal.SIGINT
    except BrokenPipeError:
        # The reader of our output (head, less) has seen enough: end as a program that SIGPIPE ends, without a word.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.SIGNAL + signal.SIGPIPE
    except OSError as error:
        complain(_words(error))
        return exit_code_of(getattr(error, "code", ""))
    except Exception as error:
        code = getattr(error, "code", None)
        if not isinstance(code, str):
            raise  # a bug: its traceback is worth more than an exit code
        complain(_words(error))
        return exit_code_of(code)


def _words(error: Exception) -> str:
    """The message, and the holder where one is in the way."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = str(error) or type(error).__name__
    details = getattr(error, "details", None)
    holder = details.get("holder") if isinstance(details, dict) else None
    who = client_text(holder.get("client")) if isinstance(holder, dict) else ""
    return f"{text}, by {who}" if who else text


def open_missing_streams() -> None:
    """A caller may have closed stdin, stdout or stderr (`>&-`). No pipe of ours may get its number, which programs that
    we start would read or write; and what is printed goes nowhere then. stdin stays missing for whoever would read it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(_STDERR, "w", closefd=False)  # noqa: SIM115


def main() -> NoReturn:
    """The entry point of the program `coordctl`."""
    open_missing_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):  # what its encoding has not is spelled out, as stderr does
        sys.stdout.reconfigure(errors="backslashreplace")
    if completion.VARIABLE in os.environ:
        completion.answer(cli)
    sys.exit(invoke(sys.argv[1:]))
