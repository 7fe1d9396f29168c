"""Watches of real daemons with nothing but curl: events through a kill -9 of the master, and news by POST."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import IO, Any

import pytest

from coordd.testing.cells import RunningCell, start_cell

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture(scope="module")
def cell() -> Iterator[RunningCell]:
    with start_cell(3) as running:
        running.master()
        yield running


class Browser:
    """What an EventSource does, with curl: reads events, and connects again with the id of the last one."""

    def __init__(self, cell: RunningCell, query: str) -> None:
        self.cell, self.query = cell, query
        self.last_id = ""
        self.connections = 0
        self.events: list[dict[str, Any]] = []
        self._over = threading.Event()
        self._curl: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            url = self.cell.endpoints[self.connections % 3] + f"/v1/watch?{self.query}"
            self.connections += 1
            last = ["-H", f"Last-Event-ID: {self.last_id}"] if self.last_id else []
            command = ["curl", "-sNL", "--max-time", "30", *last, url]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
                self._curl = curl
                assert curl.stdout is not None
                self._read(curl.stdout)
            self._over.wait(0.05)

    def _read(self, stream: IO[bytes]) -> None:
        fields: dict[str, str] = {}
        for line in stream:
            name, _, text = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = text
                continue
            if "data" in fields and fields["event"] == "change":
                self.events += json.loads(fields["data"])["events"]
            self.last_id = fields.get("id", self.last_id)
            fields = {}

    def close(self) -> None:
        self._over.set()
        while self._thread.is_alive():
            if self._curl is not None:
                self._curl.kill()
            self._thread.join(0.1)


def put(cell: RunningCell, path: str, text: str) -> int:
    """Write at whoever is master; the revision."""

    def attempt() -> int | None:
        answer = cell.post(cell.master(), "put", {"path": path, "contents": {"text": text}, "parents": True})
        return answer["stat"]["revision"] if "stat" in answer else None

    return cell.wait_for(attempt, "a write")


def test_events_with_curl_go_on_without_gap_or_double_through_a_kill_of_the_master(cell: RunningCell) -> None:
    browser = Browser(cell, "path=/config&scope=children")
    try:
        cell.wait_for(lambda: browser.last_id or None, "the first event")
        written = [put(cell, f"/config/{number}", str(number)) for number in range(20)]
        cell.wait_for(lambda: len(browser.events) >= 20 or None, "the events of the first master")
        victim = cell.master()
        cell.kill(victim)
        written += [put(cell, f"/config/{number % 3}", str(number)) for number in range(20, 40)]
        cell.restart(victim)
        cell.wait_for(lambda: len(browser.events) >= 40 or None, "the events of the next master")
    finally:
        browser.close()
    assert [event["revision"] for event in browser.events] == written
    assert [event["after"]["text"] for event in browser.events] == [str(number) for number in range(40)]


def test_news_by_post_come_when_there_are_some(cell: RunningCell) -> None:
    since = put(cell, "/news", "old")
    body = json.dumps({"path": "/news", "since": since, "wait_ms": 20_000})
    url = f"{cell.endpoints[cell.master() - 1]}/v1/watch"
    command = ["curl", "-sL", "-H", "Content-Type: application/json", "-d", body, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
        cell.wait_for(lambda: cell.post(cell.master(), "status")["watches"] or None, "the watch")
        revision = put(cell, "/news", "new")
        answer = json.loads(curl.communicate(timeout=15)[0])
    assert [(event["revision"], event["after"]) for event in answer["events"]] == [(revision, {"text": "new"})]
