"""Files: ls cat put rm mkdir stat."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from coordctl.completion import path_argument
from coordctl.output import columns, contents_as_json, moment, print_fields, print_json, print_rows
from coordctl.refresh import Listing, refreshable, repeat
from coordctl.settings import Number, Settings, common

if TYPE_CHECKING:
    from coordclient import Client, Entry, Stat


def stat_as_json(stat: Stat) -> dict[str, Any]:
    """The stat with its times as text."""
    shown = {key: value for key, value in stat._asdict().items() if not key.endswith("_ms")}
    return {**shown, "created": moment(stat.created_ms), "modified": moment(stat.modified_ms)}


def _join(directory: str, name: str) -> str:
    return f"{directory.rstrip('/')}/{name}"


def _entries(client: Client, path: str, *, recursive: bool) -> Iterator[tuple[str, Stat]]:
    """(name to show, stat) of what is in `path`; of a file, the file itself."""
    from coordclient import NotADirectory, NotFound

    try:
        listed = client.ls(path)
    except NotADirectory:
        stat = client.stat(path)
        yield stat.path, stat
        return
    directories: list[tuple[str, str, list[Entry]]] = [(path, "", listed)]
    while directories:
        at, prefix, listed = directories.pop()
        deeper = []
        for name, stat, _ in listed:
            shown = prefix + name
            yield shown, stat
            if recursive and stat.kind == "directory":
                below = _join(at, name)
                try:
                    deeper.append((below, shown + "/", client.ls(below)))
                except (NotFound, NotADirectory):
                    continue  # removed while we walked
        directories.extend(reversed(deeper))


@click.command(cls=Listing)
@click.option("-l", "long", is_flag=True, help="Also kind, size, generation, revision and time.")
@click.option("-R", "recursive", is_flag=True, help="The whole subtree.")
@path_argument(default="/")
@refreshable
@common
@click.pass_obj
def ls(settings: Settings, path: str, long: bool, recursive: bool) -> int:
    """List a directory (default: the root). Directories end with a slash."""
    with settings.open_client() as client:
        return repeat(
            settings, lambda: _show_entries(settings, sorted(_entries(client, path, recursive=recursive)), long)
        )


def _show_entries(settings: Settings, found: list[tuple[str, Stat]], long: bool) -> None:
    if settings.json:
        print_json([{"name": name, **stat_as_json(stat)} for name, stat in found], line=settings.refresh is not None)
        return
    names = [name + "/" if stat.kind == "directory" else name for name, stat in found]
    if not (long or settings.output == "wide"):
        for name in names:
            print(name)
        return
    rows = [
        (
            stat.kind + (" (ephemeral)" if stat.ephemeral else ""),
            stat.size,
            stat.content_generation,
            stat.revision,
            moment(stat.modified_ms),
            name,
        )
        for name, (_, stat) in zip(names, found, strict=True)
    ]
    print_rows(columns("KIND SIZE GENERATION REVISION MODIFIED NAME..."), rows, settings.output, name=5)


@click.command()
@path_argument()
@click.option("--revision", type=Number(1), metavar="REV", help="As it was then (else exit 3): see `history`.")
@common
@click.pass_obj
def cat(settings: Settings, path: str, revision: int | None) -> None:
    """Print the contents of a file, byte for byte."""
    with settings.open_client() as client:
        contents, stat = client.get(path, revision=revision or 0)
    if settings.json:
        print_json({"contents": contents_as_json(contents), "stat": stat_as_json(stat)})
        return
    sys.stdout.buffer.write(contents)
    if contents and not contents.endswith(b"\n") and sys.stdout.isatty():
        sys.stdout.buffer.write(b"\n")  # for the eye only: the prompt begins on a line of its own
    sys.stdout.buffer.flush()


@click.command()
@path_argument()
@click.argument("contents", required=False)
@click.option("-f", "--file", "source", type=click.File("rb"), help="Take the contents from a file; - is stdin.")
@click.option("-p", "--parents", is_flag=True, help="Make missing directories above it.")
@click.option("--if-absent", is_flag=True, help="Only if there is no such file yet (else exit 4).")
@click.option("--if-generation", type=Number(0), help="Only if its content generation is this (else exit 4).")
@common
@click.pass_obj
def put(
    settings: Settings,
    path: str,
    contents: str | None,
    source: BinaryIO | None,
    parents: bool,
    if_absent: bool,
    if_generation: int | None,
) -> None:
    """Write a whole file: CONTENTS as given, or a file (-f), or stdin."""
    if contents is not None and source is not None:
        raise click.UsageError("CONTENTS and --file exclude each other")
    if contents is not None and contents != "-":
        data = contents.encode(errors="surrogateescape")
    elif source is None and sys.stdin is None:
        raise click.UsageError("there is no stdin to read the contents from; give CONTENTS or --file")
    else:
        data = _read_whole(source or sys.stdin.buffer)
    with settings.open_client() as client:
        stat = client.put(path, data, if_generation=if_generation, if_absent=if_absent, parents=parents)
    _say_written(settings, stat)


def _read_whole(source: BinaryIO) -> bytes:
    """What a file of the cell can hold; no more is read of what may have no end."""
    from coordclient import TooLarge
    from coordclient.protocol.tree import CONTENTS_BYTES_MAX

    data = source.read(CONTENTS_BYTES_MAX + 1)
    if len(data) > CONTENTS_BYTES_MAX:
        raise TooLarge(f"contents have more than {CONTENTS_BYTES_MAX} bytes, which is the limit")
    return data


def _say_written(settings: Settings, stat: Stat) -> None:
    if settings.json:
        print_json(stat_as_json(stat))
    elif settings.verbose:
        click.echo(f"{stat.path} is at revision {stat.revision}", err=True)


@click.command()
@path_argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--if-generation", type=Number(0), help="Only if its content generation is this (else exit 4).")
@common
@click.pass_obj
def rm(settings: Settings, paths: tuple[str, ...], if_generation: int | None) -> None:
    """Delete files and empty directories. What is locked or waited for is not deleted."""
    if if_generation is not None and len(paths) > 1:
        raise click.UsageError("--if-generation goes with one PATH")
    with settings.open_client() as client:
        done = [{"path": path, "revision": client.delete(path, if_generation=if_generation)} for path in paths]
    if settings.json:
        print_json(done)


@click.command()
@path_argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-p", "--parents", is_flag=True, help="Make missing directories above it; no error if it exists.")
@common
@click.pass_obj
def mkdir(settings: Settings, paths: tuple[str, ...], parents: bool) -> None:
    """Make directories."""
    with settings.open_client() as client:
        stats = [_make_directory(client, path, parents=parents) for path in paths]
    if settings.json:
        print_json([stat_as_json(stat) for stat in stats])


def _make_directory(client: Client, path: str, *, parents: bool) -> Stat:
    from coordclient import Exists

    try:
        return client.mkdir(path, parents=parents)
    except Exists:
        if not parents:
            raise
        stat = client.stat(path)
        if stat.kind != "directory":
            raise
        return stat


@click.command()
@path_argument()
@common
@click.pass_obj
def stat(settings: Settings, path: str) -> None:
    """All that is known of a file or directory but its contents."""
    with settings.open_client() as client:
        found = stat_as_json(client.stat(path))
    if settings.json:
        print_json(found)
        return
    print_fields(found, settings.output, name="path")


COMMANDS: tuple[click.Command, ...] = (ls, cat, put, rm, mkdir, stat)
