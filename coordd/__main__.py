"""The command `coordd`: flags to settings to one running replica, or to a development cell of several."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from coordd.config import FLAGS, ConfigError, cautions, load_settings
from coordd.dev import free_ports, is_free, run_replicas, write_cell
from coordd.exits import Exit
from coordd.settings import PORT_DEFAULT, VOTERS_MAX, Settings


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status; see `coordd.daemon` for what each means."""
    if not __debug__:
        sys.stderr.write("coordd: its assertions are part of its safety: do not run it with python -O\n")
        return Exit.CONFIG
    arguments = _parser().parse_args(argv)
    if arguments.version:
        sys.stdout.write(f"{_version()}\n")
        return Exit.OK
    if arguments.dev:
        return _dev(arguments)
    if arguments.replicas is not None:
        return _wrong(["--replicas is for development cells: add --dev"])
    flags = {flag.key: getattr(arguments, _name(flag.key)) for flag in FLAGS}
    config_file = None if arguments.config is None else Path(arguments.config)
    return _run(config_file, flags, check=arguments.check_config, stop_on_eof=arguments.stop_on_eof)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coordd",
        description="One replica of a coordd cell.",
        allow_abbrev=False,
        epilog="Settings: conf/coordd.toml",
    )
    parser.add_argument("--version", action="store_true", help="say which version this is, and end")
    parser.add_argument("--config", metavar="FILE", help="TOML file with the settings")
    parser.add_argument("--check-config", action="store_true", help="say what is wrong with the settings, and end")
    parser.add_argument("--dev", action="store_true", help="a development cell on loopback; not for production")
    parser.add_argument("--replicas", type=int, metavar="N", help="with --dev: so many real processes (default 1)")
    parser.add_argument("--stop-on-eof", action="store_true", help="stop when standard input ends")
    for flag in FLAGS:
        parser.add_argument(
            flag.name, dest=_name(flag.key), metavar=flag.key.rpartition(".")[2].upper(), help=flag.help
        )
    return parser


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("coordd")
    except PackageNotFoundError:  # run from a source tree
        number = "unknown (not installed)"
    return f"coordd {number} (Python {'.'.join(map(str, sys.version_info[:3]))})"


def _name(key: str) -> str:
    return "setting_" + key.replace(".", "_")


def _run(config_file: Path | None, flags: dict[str, object], *, check: bool, stop_on_eof: bool) -> int:
    try:
        settings = load_settings(config_file, os.environ, flags)
    except ConfigError as error:
        return _wrong(error.errors)
    if check:
        sys.stdout.write("".join(f"caution: {text}\n" for text in cautions(settings)) + "the settings are good\n")
        return 0
    return _run_daemon(settings, stop_on_eof)


def _run_daemon(settings: Settings, stop_on_eof: bool) -> int:
    from coordd import daemon  # late: --help and --check-config need none of it

    return daemon.run(settings, stop_on_eof)


def _wrong(errors: Sequence[str]) -> int:
    for error in errors:
        sys.stderr.write(f"coordd: {error}\n")
    return Exit.CONFIG


# ---- development cells ----


def _dev(arguments: argparse.Namespace) -> int:
    errors = _dev_errors(arguments)
    if errors:
        return _wrong(errors)
    replicas = arguments.replicas or 1
    ports = _dev_ports(arguments.setting_replica_port, replicas)
    taken = ", ".join(str(port) for port in ports if not is_free(port))
    if taken:
        sys.stderr.write(
            f"coordd: in use on 127.0.0.1: port {taken}; by another development cell? --port 0: free ones\n"
        )
        return Exit.IN_USE
    given = arguments.setting_replica_data
    with tempfile.TemporaryDirectory(prefix="coordd-dev-", ignore_cleanup_errors=True) as temporary:
        directory = Path(given or temporary)
        files = write_cell(directory, ports, arguments.setting_cell_name or "dev")
        _announce(ports, None if given is None else directory)
        log_level = arguments.setting_observe_level or "info"
        if replicas == 1:
            flags: dict[str, object] = {"observe.level": log_level, "observe.format": arguments.setting_observe_format}
            return _run(files[1], flags, check=False, stop_on_eof=arguments.stop_on_eof)
        return asyncio.run(run_replicas(files, log_level))


def _dev_errors(arguments: argparse.Namespace) -> list[str]:
    errors: list[str] = []
    allowed = {"setting_cell_name", "setting_replica_port", "setting_replica_data"}
    allowed |= {"setting_observe_level", "setting_observe_format"}
    if arguments.config is not None or arguments.check_config:
        errors.append("--dev makes its own settings: leave --config and --check-config out")
    errors += [
        f"--dev makes its own settings: leave {flag.name} out"
        for flag in FLAGS
        if _name(flag.key) not in allowed and getattr(arguments, _name(flag.key)) is not None
    ]
    if arguments.replicas is not None and not 1 <= arguments.replicas <= VOTERS_MAX:
        errors.append(f"--replicas {arguments.replicas}: a cell has 1 to {VOTERS_MAX} replicas")
    port = arguments.setting_replica_port
    if port is not None and not (port.isdecimal() and (port == "0" or 1024 <= int(port) <= 65_000)):
        errors.append(f"--port {port}: with --dev the first of the ports, 1024 to 65000, or 0 for free ones")
    return errors


def _dev_ports(base: str | None, replicas: int) -> list[int]:
    if base == "0":
        return free_ports(replicas)
    first = PORT_DEFAULT if base is None else int(base)
    return [first + number for number in range(replicas)]


def _announce(ports: Sequence[int], data: Path | None) -> None:
    addresses = ",".join(f"http://127.0.0.1:{port}" for port in ports)
    kept = f"data in {data}" if data is not None else "data in a temporary directory, gone at the end"
    sys.stderr.write(
        f"coordd: development cell of {len(ports)}, not for production: loopback only, {kept}\n"
        f"coordd: endpoints {addresses}\n"
    )
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
