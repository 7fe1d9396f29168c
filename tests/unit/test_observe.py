"""Logs: colours on a terminal, one JSON object per line otherwise, no secrets."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator

import pytest
import structlog

from coordd.observe import configure_logging


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_json_lines_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    configure_logging("info", "auto", out, cell="x", replica=2)
    structlog.get_logger().info("master", epoch=3, address=("a", 1))
    structlog.get_logger().debug("not wanted")
    (line,) = out.getvalue().splitlines()
    event = json.loads(line)
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "master", "level": "info", "cell": "x", "replica": 2, "epoch": 3, "address": ["a", 1]}


def test_colours_on_a_terminal_only() -> None:
    for out, coloured in ((Terminal(), True), (io.StringIO(), False)):
        configure_logging("info", "console", out)
        structlog.get_logger().warning("slow disk")
        assert "slow disk" in out.getvalue() and ("\x1b[" in out.getvalue()) is coloured


def test_secrets_and_long_texts_stay_out_of_the_log() -> None:
    out = io.StringIO()
    configure_logging("info", "json", out)
    structlog.get_logger().info("opened", secret="hunter2", sequencer="s-1", contents=b"x", reason="y" * 5000)
    event = json.loads(out.getvalue())
    assert event["secret"] == event["sequencer"] == event["contents"] == "***"
    assert len(event["reason"]) < 2100


def test_an_exception_is_one_line_with_its_cause() -> None:
    out = io.StringIO()
    configure_logging("info", "json", out)
    password = "hunter" + "2"
    try:
        raise OSError(5, f"bad disk {len(password)}")
    except OSError:
        structlog.get_logger().exception("stopping")
    (line,) = out.getvalue().splitlines()
    assert json.loads(line)["exception"][0]["exc_type"] == "OSError"
    assert "bad disk 7" in line and "hunter2" not in line


def test_the_fields_stand_in_lines_of_other_threads_too() -> None:
    out = io.StringIO()
    configure_logging("info", "json", out, replica=7)
    thread = threading.Thread(target=lambda: structlog.get_logger().info("here"))
    thread.start()
    thread.join()
    assert json.loads(out.getvalue())["replica"] == 7
