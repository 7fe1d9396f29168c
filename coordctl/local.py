"""Client: context, completion, version, explain: what concerns this program and not a cell."""

from __future__ import annotations

import sys

import click

from coordctl import completion, contexts
from coordctl.errors import Exit, Failure
from coordctl.explain import explain as explain_code
from coordctl.explain import known
from coordctl.output import columns, note, print_fields, print_json, print_rows
from coordctl.settings import Settings, without_context

_COLUMNS = columns("CURRENT NAME ENDPOINTS... CELL TIMEOUT OUTPUT")


@click.group(invoke_without_command=True)
@click.pass_context
def context(ctx: click.Context) -> int | None:
    """Named sets of global options: which cell, how long to wait, how to print."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        return Exit.USAGE
    return None


_NAME = click.argument("name", shell_complete=completion.complete_context)


@context.command("add")
@_NAME
@without_context
@click.pass_obj
def context_add(settings: Settings, name: str) -> None:
    """Keep the flags of this command line as context NAME; --endpoints must be among them.

    What the environment says is not kept. A context of that name is replaced.
    """
    contexts.check_name(name)
    values = {key: getattr(settings, key) for key in contexts.KINDS if settings.given.get(key) == "flag"}
    if "endpoints" not in values:
        raise click.UsageError("a context needs --endpoints, the addresses of the replicas")
    contexts.save(name, values)
    if contexts.current() is None:
        contexts.choose(name)
        if not settings.quiet:
            note(f"context {name} is the current one; `coordctl context use` chooses another")


@context.command("ls")
@without_context
@click.pass_obj
def context_ls(settings: Settings) -> None:
    """All contexts, with a mark at the current one."""
    chosen = settings.context or contexts.current()
    found = {name: contexts.load(name) for name in contexts.names()}
    if settings.json:
        print_json([{"name": name, "current": name == chosen, **values} for name, values in found.items()])
        return
    if not found and not settings.quiet and sys.stdout.isatty():
        note("there is no context; make one with `coordctl context add NAME --endpoints A,B,...`")
    rows = [
        ("*" if name == chosen else None, name, ",".join(_texts(values.get("endpoints"))), values.get("cell"),
         values.get("timeout"), values.get("output"))
        for name, values in found.items()
    ]  # fmt: skip
    print_rows(_COLUMNS, rows, settings.output, name=1)


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


@context.command("use")
@_NAME
@without_context
@click.pass_obj
def context_use(settings: Settings, name: str) -> None:
    """Make NAME the current context: what neither flags nor environment say is taken from it."""
    contexts.choose(name)


@context.command("show")
@click.argument("name", required=False, shell_complete=completion.complete_context)
@without_context
@click.pass_obj
def context_show(settings: Settings, name: str | None) -> None:
    """What NAME says (default: the context in use)."""
    name = name or settings.context or contexts.current()
    if name is None:
        raise Failure("no context is in use; choose one with `coordctl context use NAME`", Exit.NOT_FOUND)
    values = contexts.load(name)
    if settings.json:
        print_json({"name": name, **values})
        return
    shown = {"name": name, **values, "endpoints": ",".join(_texts(values.get("endpoints")))}
    print_fields(shown, settings.output, name="name")


@context.command("rm")
@_NAME
@without_context
@click.pass_obj
def context_rm(settings: Settings, name: str) -> None:
    """Forget a context."""
    contexts.remove(name)


@click.command("completion")
@click.argument("shell", type=click.Choice(completion.SHELLS))
@without_context
def completion_script(shell: str) -> None:
    """The script that makes SHELL complete commands, options and paths.

    bash: eval "$(coordctl completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc; fish: coordctl completion fish >
    ~/.config/fish/completions/coordctl.fish
    """
    print(completion.script(shell))


@click.command()
@click.argument("code", required=False, metavar="[ERROR_CODE]", shell_complete=completion.complete_code)
@without_context
@click.pass_obj
def explain(settings: Settings, code: str | None) -> None:
    """What an error code means, and what may be done; without a code all of them."""
    if code is not None:
        fields = explain_code(code)
        if settings.json:
            print_json(fields)
        else:
            print_fields(fields, settings.output, name="code")
        return
    rows = [explain_code(each) for each in known()]
    if settings.json:
        print_json(rows)
        return
    table = [(row["code"], row["exit_code"], row["http_status"], row["action"], row["meaning"]) for row in rows]
    print_rows(columns("CODE EXIT HTTP ACTION MEANING..."), table, settings.output)


@click.command()
@without_context
@click.pass_obj
def version(settings: Settings) -> None:
    """The version of coordctl."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    try:
        number = version_of("coordd")
    except PackageNotFoundError:  # run from a source tree
        number = "unknown (not installed)"
    python = ".".join(str(part) for part in sys.version_info[:3])
    if settings.json:
        print_json({"coordctl": number, "python": python})
    else:
        print(number if settings.output == "value" else f"coordctl {number} (Python {python})")


COMMANDS: tuple[click.Command, ...] = (context, completion_script, version, explain)
