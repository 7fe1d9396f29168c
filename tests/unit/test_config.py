"""Settings: every error at once, each with source, key and what to do; later sources win; nothing is guessed."""

from __future__ import annotations

import ast
import re
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.config import FLAGS, ConfigError, Settings, cautions, load_settings
from coordd.settings import SECTIONS

ROOT = Path(__file__).resolve().parents[2]
ONE = '[cell]\nname = "x"\n[[cell.member]]\nreplica = 1\naddress = "http://a:1"\n[replica]\nid = 1\ndata = "/data"\n'


def load(directory: Path, text: str = "", environ: dict[str, str] | None = None, **flags: object) -> Settings:
    file = directory / "coordd.toml"
    file.write_text(text)
    return load_settings(file, environ or {}, {key.replace("__", "."): value for key, value in flags.items()})


def errors(directory: Path, text: str = "", environ: dict[str, str] | None = None, **flags: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as raised:
        load(directory, text, environ, **flags)
    return raised.value.errors


def secret(directory: Path, text: bytes = b"s" * 32, mode: int = 0o600) -> Path:
    file = directory / "secret"
    file.write_bytes(text)
    file.chmod(mode)
    return file


def three(secret_file: Path | None) -> str:
    members = "".join(f'[[cell.member]]\nreplica = {n}\naddress = "http://h{n}:7420"\n' for n in (1, 2, 3))
    line = f'secret_file = "{secret_file}"\n' if secret_file else ""
    return f'[cell]\nname = "x"\n{line}{members}[replica]\nid = 2\ndata = "/data"\n'


def test_a_small_file_is_enough(tmp_path: Path) -> None:
    settings = load(tmp_path, ONE)
    assert settings.cell.name == "x" and settings.replica.id == 1 and settings.replica.data == Path("/data")
    assert settings.voters == (1,) and settings.addresses == {1: "http://a:1"}
    assert (settings.cell.lease_ms, settings.cell.drift_ppm, settings.replica.port) == (1500, 10_000, 7420)
    assert settings.secret() == b""


def test_environment_wins_over_the_file_and_a_flag_over_both(tmp_path: Path) -> None:
    environ = {"COORDD_REPLICA__PORT": "7001", "COORDD_CELL__LEASE_MS": "2000", "COORDD_OBSERVE__LEVEL": "debug"}
    settings = load(tmp_path, ONE + "port = 7000\n", environ, replica__port="7002", observe__level=None)
    assert settings.replica.port == 7002
    assert settings.cell.lease_ms == 2000
    assert settings.observe.level == "debug"


def test_everything_can_be_given_without_a_file(tmp_path: Path) -> None:
    environ = {
        "COORDD_CELL__NAME": "x",
        "COORDD_CELL__MEMBER": "1=http://a:1, 2=http://[::1]:2/,3=http://C:3",
        "COORDD_CELL__SECRET_FILE": str(secret(tmp_path, b" " + b"k" * 16 + b"\n")),
        "COORDD_REPLICA__ID": "3",
        "COORDD_REPLICA__DATA": "/data",
    }
    settings = load_settings(None, environ)
    assert settings.addresses == {1: "http://a:1", 2: "http://[::1]:2", 3: "http://c:3"}
    assert settings.secret() == b"k" * 16


def test_every_error_is_told_at_once_with_its_source(tmp_path: Path) -> None:
    text = (
        'x = 1\n[cell]\nname = "Foo"\nlease_ms = true\nheartbeet_ms = 3\n[[cell.member]]\nreplica = 300\n'
        'adress = "http://a:7420"\n[replica]\nport = "7420"\n[loog]\nx = 1\n[log]\nsegment_bytes = 1048576000\n'
    )
    environ = {"COORDD_REPLICA__ID": "one", "COORDD_LIMITS__INBX": "3"}
    found = errors(tmp_path, text, environ, observe__level="loud")
    file = str(tmp_path / "coordd.toml")
    wanted = [
        (file, "x: unknown section"),
        (file, "loog: unknown section", "did you mean log?"),
        ("environment COORDD_LIMITS__INBX", "did you mean COORDD_LIMITS__INBOX?"),
        (file, "cell.name = 'Foo'"),
        (file, "cell.lease_ms = True", "300 to 30000 (milliseconds)"),
        (file, "cell.heartbeet_ms: unknown key", "did you mean heartbeat_ms?"),
        (file, "cell.member[0][replica] = 300", "255"),
        (file, "cell.member[0][address]: missing"),
        (file, "cell.member[0][adress]: unknown key", "did you mean address?"),
        ("environment COORDD_REPLICA__ID = 'one'", "whole number from 1 to 255"),
        (file, "replica.data: missing", "COORDD_REPLICA__DATA"),
        (file, "replica.port = '7420'", "whole number"),
        ("flag --log-level = 'loud'", "'debug', 'info', 'warning' or 'error'"),
        (file, "log.snapshot_after_bytes", "at least log.segment_bytes (1048576000)"),
    ]
    for parts in wanted:
        assert any(all(part in line for part in parts) for line in found), (parts, found)
    assert len(found) == len(wanted), found
    assert all("\n" not in line for line in found)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[cell", "not TOML"),
        ("cell = 3", "must be a section: write [cell]"),
        ("cell = [1]", "must be a section"),
        ("[cell]\nmember = 3", "cell.member = 3"),
        ("[cell]\nmember = [3]", "cell.member[0] = 3"),
        ("[cell]\nmember = []", "at least 1 item"),
        ("[cell]\nname = 'a\\nb'", "cell.name"),
        ("[cell]\nname = ''", "cell.name"),
        ("[limits]\ninbox = 1.5", "limits.inbox = 1.5"),
        ("[limits]\ninbox = 1", "16 to 1000000"),
        ("[replica]\nid = 0", "1 to 255"),
        ("[replica]\nhost = ''", "replica.host"),
        ("[observe]\nlevel = 'x" + "y" * 500 + "'", "..."),
    ],
)
def test_whatever_the_file_holds_is_an_error_with_a_name(tmp_path: Path, text: str, part: str) -> None:
    assert any(part in line for line in errors(tmp_path, text)), errors(tmp_path, text)


def test_a_file_that_cannot_be_read_is_an_error_beside_the_others(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load_settings(tmp_path / "nowhere.toml", {"COORDD_LOG__SEGMENT_BYTES": "1"})
    assert any("nowhere.toml: cannot be read" in line for line in raised.value.errors)
    assert any("COORDD_LOG__SEGMENT_BYTES = 1:" in line for line in raised.value.errors)


def test_a_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe[cell]")
    with pytest.raises(ConfigError, match="not TOML"):
        load_settings(tmp_path / "x", {})


@pytest.mark.parametrize(
    "name", ["COORDD_PORT", "COORDD_PORT_7420_TCP", "COORDD_SERVICE_HOST", "COORD_TOKEN", "COORDD_"]
)
def test_other_variables_are_not_read(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, ONE, {name: "x"}) == load(tmp_path, ONE)


@pytest.mark.parametrize("name", ["COORDD_CELL__NAMES", "COORDD_X__Y", "coordd_cell__name", "COORDD_CELL__"])
def test_a_variable_that_looks_like_a_setting_and_is_none_is_an_error(tmp_path: Path, name: str) -> None:
    assert f"environment {name}: names no setting" in errors(tmp_path, ONE, {name: "x"})[0]


@pytest.mark.parametrize(
    "address",
    [
        "a:7420",
        "http://a",
        "https://a:7420",
        "http://:7420",
        "http://a:0",
        "http://a:70000",
        "http://a:x",
        "http://u:p@a:7420",
        "http://a:7420/x",
        "http://a:7420/?x",
        "http://0.0.0.0:7420",
        "http://[::]:7420",
        "http://[::1:7420",
        "",
    ],
)
def test_an_address_that_nobody_can_dial_is_refused(tmp_path: Path, address: str) -> None:
    found = errors(tmp_path, ONE.replace("http://a:1", address))
    assert len(found) == 1 and "cell.member[0][address]" in found[0], found
    assert "http://host:port" in found[0] or "dial" in found[0], found


def test_a_name_and_a_path_that_are_none_are_told_what_to_write(tmp_path: Path) -> None:
    name, data = errors(tmp_path, ONE.replace('"x"', '"My cell"').replace('"/data"', "5"))
    assert "cell.name = 'My cell': write 1 to 32 lower-case letters, digits and '-'" in name
    assert "replica.data = 5: write a path, as text" in data


def test_members_are_told_apart_and_hold_this_replica(tmp_path: Path) -> None:
    text = three(secret(tmp_path)).replace("replica = 3", "replica = 1").replace("h3", "h1").replace("id = 2", "id = 9")
    found = errors(tmp_path, text)
    assert any("replica 1 stands there twice" in line for line in found)
    assert any("address http://h1:7420 stands there twice" in line for line in found)
    assert any("replica.id = 9: is no member" in line for line in found)


def test_more_than_seven_members_are_refused(tmp_path: Path) -> None:
    member = ",".join(f"{n}=http://h:{n}" for n in range(1, 9))
    assert any("at most 7" in line for line in errors(tmp_path, ONE, cell__member=member))


def test_a_replica_that_joins_names_itself_and_whom_to_learn_from(tmp_path: Path) -> None:
    text = three(secret(tmp_path))
    assert not load(tmp_path, text).replica.join
    assert load(tmp_path, text, {"COORDD_REPLICA__JOIN": "true"}).replica.join
    alone: dict[str, Any] = {"replica.id": 4, "cell.member": "4=http://d:7420", "replica.join": True}
    (error,) = errors(tmp_path, text, **alone)
    assert "names nobody to learn from" in error


def test_a_full_cell_may_be_joined(tmp_path: Path) -> None:
    members = ",".join(f"{number}=http://h{number}:7420" for number in range(1, 9))
    flags: dict[str, Any] = {"cell.member": members, "replica.id": 8, "cell.secret_file": str(secret(tmp_path))}
    assert errors(tmp_path, three(None), **flags)
    assert load(tmp_path, three(None), **(flags | {"replica.join": True})).replica.join


def test_two_lost_heartbeats_do_not_cost_the_lease(tmp_path: Path) -> None:
    assert load(tmp_path, ONE, cell__heartbeat_ms=500).cell.heartbeat_ms == 500
    assert "at most a third of cell.lease_ms (1500)" in errors(tmp_path, ONE, cell__heartbeat_ms=501)[0]


def test_several_replicas_need_a_secret(tmp_path: Path) -> None:
    assert "openssl rand" in errors(tmp_path, three(None))[0]
    assert load(tmp_path, three(secret(tmp_path))).secret() == b"s" * 32


def test_a_secret_that_is_missing_short_long_or_open_to_all_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in errors(tmp_path, three(tmp_path / "none"))[0]
    assert "cannot be read" in errors(tmp_path, three(tmp_path))[0]
    assert "16 to 4096" in errors(tmp_path, three(secret(tmp_path, b"\n" * 40 + b"x" * 15)))[0]
    assert "16 to 4096" in errors(tmp_path, three(secret(tmp_path, b"x" * 4097)))[0]
    assert "chmod 0400" in errors(tmp_path, three(secret(tmp_path, mode=0o644)))[0]


def test_no_error_shows_the_secret(tmp_path: Path) -> None:
    found = errors(tmp_path, three(secret(tmp_path, b"hunter2", 0o666)) + "port = 0\n")
    assert not any("hunter2" in line for line in found)


def test_what_is_allowed_and_seldom_meant_is_said(tmp_path: Path) -> None:
    text = three(secret(tmp_path))
    assert cautions(load(tmp_path, text + 'host = "::"\n')) == []
    (loopback,) = cautions(load(tmp_path, text))
    assert "replica.host = 127.0.0.1" in loopback and "http://h2:7420" in loopback
    even, again = cautions(load(tmp_path, text, cell__member="1=http://a:7420,2=http://b:7420"))
    assert "2 members tolerate the loss of 0, as 1 would" in even and "replica.host" in again
    loopback_only = "1=http://localhost:1,2=http://127.0.0.2:1,3=http://[::1]:2"
    assert cautions(load(tmp_path, text, cell__member=loopback_only, replica__port=1)) == []
    (elsewhere,) = cautions(load(tmp_path, ONE))
    assert "replica.port = 7420" in elsewhere and "told http://a:1; set port = 1 " in elsewhere
    assert cautions(load(tmp_path, ONE, replica__port=1)) == []


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(tmp_path, ONE).cell.name = "other"


def test_each_flag_gives_a_setting(tmp_path: Path) -> None:
    values = {"cell.name": "y", "cell.member": "2=http://b:2", "replica.id": "2", "replica.data": "/elsewhere"}
    values |= {"cell.secret_file": str(secret(tmp_path)), "replica.host": "::1", "replica.port": "99"}
    values |= {"observe.level": "error", "observe.format": "json", "replica.join": "false"}
    assert set(values) == {flag.key for flag in FLAGS}
    settings = load_settings(None, {}, values)
    assert settings.voters == (2,) and settings.replica.port == 99 and settings.observe.format == "json"


def test_the_explained_file_names_every_key_with_its_default(tmp_path: Path) -> None:
    text = (ROOT / "conf" / "coordd.toml").read_text()
    plain = text.replace("/etc/coordd/cell-secret", str(secret(tmp_path)))
    shown = load(tmp_path, plain)
    everything = re.sub(r"^# ([a-z_]+ = )", r"\1", plain, flags=re.MULTILINE)
    assert load(tmp_path, everything) == shown, "a default in the file is not the default of the code"
    tables = tomllib.loads(everything)
    assert {name: set(table) for name, table in tables.items()} == {
        name: set(model.model_fields) for name, model in SECTIONS.items()
    }


def test_every_setting_does_something() -> None:
    read: set[str] = set()
    for path in sorted((ROOT / "coordd").rglob("*.py")):
        if path.name != "config.py":
            read |= {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    unused = [f"{name}.{key}" for name, model in SECTIONS.items() for key in model.model_fields if key not in read]
    assert unused == []


@pytest.mark.parametrize("replica", [1, 2, 3])
def test_the_local_cell_is_three_replicas_that_know_each_other(tmp_path: Path, replica: int) -> None:
    file = ROOT / "conf" / "local" / f"replica-{replica}.toml"
    settings = load_settings(file, {}, {"cell.secret_file": str(secret(tmp_path))})
    assert settings.replica.id == replica
    assert settings.addresses[replica] == f"http://127.0.0.1:{settings.replica.port}"
    first = load_settings(file.with_name("replica-1.toml"), {}, {"cell.secret_file": str(secret(tmp_path))})
    assert settings.cell == first.cell


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("http://a:1"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["replica", "address", "x"]), inner),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from([f"{name}.{key}" for name in SECTIONS for key in SECTIONS[name].model_fields]), VALUES
    )
)
def test_any_value_is_taken_or_refused_by_name(flags: dict[str, object]) -> None:
    try:
        load_settings(None, {}, flags)
    except ConfigError as error:
        assert error.errors and all(error.errors)


@given(st.text(max_size=200))
def test_any_text_in_the_environment_is_taken_or_refused_by_name(text: str) -> None:
    environ = {
        f"COORDD_{name.upper()}__{key.upper()}": text for name in SECTIONS for key in SECTIONS[name].model_fields
    }
    with pytest.raises(ConfigError):
        load_settings(None, environ)


LINES = st.sampled_from([f"[{name}]" for name in SECTIONS] + ["[[cell.member]]", "id = 1", "replica = 1", "name = 7"])


@given(
    st.binary(max_size=120) | st.lists(LINES | st.text(max_size=20), max_size=9).map(lambda x: "\n".join(x).encode())
)
def test_any_bytes_in_the_file_are_refused_by_name(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "coordd.toml")
        file.write_bytes(data)
        with pytest.raises(ConfigError) as caught:
            load_settings(file, {})
        assert caught.value.errors and all(caught.value.errors)
