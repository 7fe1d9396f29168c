"""Completion in the shell: click answers for commands and options, the cell for paths, if it does so at once.

The shell's script calls coordctl with `_COORDCTL_COMPLETE` set. Nothing that goes wrong is ever said: somebody is
typing.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    add_completion_class,
    get_completion_class,
    shell_complete,
)

from coordctl.errors import Exit, Failure
from coordctl.settings import Settings

_Command = TypeVar("_Command", bound=Callable[..., Any])
VARIABLE = "_COORDCTL_COMPLETE"
PROGRAM = "coordctl"
SHELLS = ("bash", "zsh", "fish")
ANSWER_SECONDS = 0.5
ITEMS_MAX = 1000


class _Bash(BashComplete):
    """click's, with names quoted as the shell reads them, and no space after a directory: its contents come next."""

    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n' line kind value
    local words="${COMP_WORDS[*]}"
    local lines=$(COMP_WORDS=$words COMP_CWORD=$COMP_CWORD %(complete_var)s=bash_complete "$1" 2>/dev/null)
    COMPREPLY=()
    for line in $lines; do
        kind=${line%%%%,*}
        value=${line#*,}
        case $kind in
        dir) compopt -o dirnames ;;
        file) compopt -o default ;;
        *)
            case ${COMP_WORDS[COMP_CWORD]} in [\\"\\']*) ;; *) printf -v value %%q "$value" ;; esac
            COMPREPLY+=("$value")
            ;;
        esac
        case $value in */) compopt -o nospace ;; esac
    done
}
complete -F %(complete_func)s %(prog_name)s
"""


class _Zsh(ZshComplete):
    """click's, with `compinit` where nobody has called it, and no space after a directory."""

    source_template = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local -a answer names directories described
    local kind name about
    answer=("${(@f)$(COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) %(complete_var)s=zsh_complete \
        %(prog_name)s 2>/dev/null)}")
    for kind name about in "${(@)answer}"; do
        case $kind in
        dir) _path_files -/ ;;
        file) _files ;;
        plain)
            if [[ $about != _ ]]; then
                described+=("${name//:/\\\\:}:$about")
            elif [[ $name == */ ]]; then
                directories+=("$name")
            else
                names+=("$name")
            fi
            ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described -U
    (( $#directories )) && compadd -U -V unsorted -S '' -a directories
    (( $#names )) && compadd -U -V unsorted -a names
    return 0
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
    compdef %(complete_func)s %(prog_name)s
fi
"""


class _Fish(FishComplete):
    """click's, but a name may have commas in it."""

    source_template = """\
function %(complete_func)s
    set -lx COMP_WORDS (commandline -cp)
    set -lx COMP_CWORD (commandline -t)
    set -lx %(complete_var)s fish_complete
    for line in (%(prog_name)s 2>/dev/null)
        set -l answer (string split -m 1 "," -- $line)
        switch $answer[1]
            case dir
                __fish_complete_directories $answer[2]
            case file
                __fish_complete_path $answer[2]
            case plain
                echo $answer[2]
        end
    end
end
complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


for _class, _name in ((_Bash, "bash"), (_Zsh, "zsh"), (_Fish, "fish")):
    add_completion_class(_class, _name)


def script(shell: str) -> str:
    """What the shell is to read."""
    made = get_completion_class(shell)
    assert made is not None
    completer = made(click.Command(PROGRAM), {}, PROGRAM, VARIABLE)
    return made.source_template % completer.source_vars()


def answer(cli: click.Command) -> NoReturn:
    """Complete the words of the environment, and end: an answer that is still awaited is not waited for."""
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    try:
        code = shell_complete(cli, {}, PROGRAM, VARIABLE, os.environ[VARIABLE])
        sys.stdout.flush()
    finally:
        os._exit(Exit.OTHER)
    os._exit(code)


def complete_path(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names in the cell that begin like this."""
    if ctx.meta.get("separated"):
        return [CompletionItem(incomplete, type="file")]  # behind `--`: the command's own words
    if incomplete and not incomplete.startswith("/"):
        return []
    parent, _, begun = (incomplete or "/").rpartition("/")
    names = _listed(ctx.find_root().ensure_object(Settings), parent or "/")
    return [CompletionItem(f"{parent}/{name}") for name in names if name.startswith(begun)][:ITEMS_MAX]


def _listed(settings: Settings, directory: str) -> list[str]:
    """The names in a directory, with a slash behind those of directories; none if nobody answers in time."""
    found: list[str] = []

    def ask() -> None:
        from coordclient import CoordError

        settings.timeout = ANSWER_SECONDS
        try:
            with settings.open_client() as client:
                entries = client.ls(directory)
                found.extend(entry.name + "/" * (entry.stat.kind == "directory") for entry in entries)
                told.set()
        except (CoordError, OSError, ValueError):
            return
        finally:
            told.set()

    try:
        settings.load_context()
    except Failure:
        return []
    importlib.import_module("coordclient.sync")  # loading it is no part of the half second
    told = threading.Event()

    threading.Thread(target=ask, daemon=True).start()
    return list(found) if told.wait(ANSWER_SECONDS) else []


def complete_context(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of contexts."""
    from coordctl import contexts

    try:
        return [CompletionItem(name) for name in contexts.names() if name.startswith(incomplete)]
    except Failure:
        return []


def complete_code(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Error codes."""
    from coordctl.explain import known

    return [CompletionItem(code) for code in known() if code.startswith(incomplete)]


def path_argument(name: str = "path", **more: Any) -> Callable[[_Command], _Command]:
    """An argument that names a node."""
    return click.argument(name, shell_complete=complete_path, **more)
