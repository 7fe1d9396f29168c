"""The nemesis's own tools do what they say: or its silence would mean nothing."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordd.testing.listening import stop_listening
from coordd.testing.until import until
from tests.nemesis import dialers, shim
from tests.nemesis.dialers import Dialers
from tests.nemesis.proxy import Link, Proxies, Trouble, troubled
from tests.nemesis.support import paused

SHUT = Trouble(shut=True)
SOON_S, NEVER_S = 10.0, 0.3

linux = pytest.mark.skipif(not dialers.available(), reason="needs Linux (/proc/net/tcp)")


class Echo:
    """A replica that says back what it hears, behind proxies; and this process's link to it."""

    def __init__(self) -> None:
        self.proxies = Proxies(Dialers(), random.Random(1))
        self.port = 0
        self._own: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        await self.proxies.listen(1, 0, self._server.sockets[0].getsockname()[1])
        self.port = self.proxies._servers[0].sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1_000):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self.dial()
        writer.write(b"first")
        assert await reader.readexactly(5) == b"first"
        return reader, writer

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._own.append(writer)
        return reader, writer

    @property
    def link(self) -> Link:
        return self.proxies.link("nemesis", 1)

    async def close(self) -> None:
        for writer in self._own:
            writer.transport.abort()
        await self.proxies.close()
        await stop_listening(self._server)


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    made = Echo()
    await made.start()
    yield made
    await made.close()


@linux
async def test_a_link_knows_who_dialled_and_passes_everything_in_order(echo: Echo) -> None:
    reader, writer = await echo.connect()
    sent = random.Random(2).randbytes(300_000)
    writer.write(sent)
    assert await asyncio.wait_for(reader.readexactly(len(sent)), SOON_S) == sent
    assert echo.link.accepted == 1 and len(echo.link.connections) == 1
    assert echo.proxies.strangers == 0


@linux
async def test_a_link_belongs_to_the_process_that_dialled(echo: Echo) -> None:
    script = (
        "import socket, sys\n"
        "sys.stdin.readline()\n"
        "s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "s.sendall(b'x')\nassert s.recv(1) == b'x'\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(echo.port), stdin=asyncio.subprocess.PIPE
    )
    echo.proxies._dialers.add(process.pid, "c7")
    await process.communicate(b"go\n")
    assert process.returncode == 0
    assert echo.proxies.link("c7", 1).accepted == 1 and echo.link.accepted == 0


@linux
async def test_what_a_shut_way_held_back_comes_late_and_whole(echo: Echo) -> None:
    reader, writer = await echo.connect()
    with troubled([echo.link], [echo.link.back], SHUT):
        writer.write(b"held")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), NEVER_S)
    assert await asyncio.wait_for(reader.readexactly(4), SOON_S) == b"held"


@linux
async def test_what_a_cut_held_back_never_comes_and_the_connection_is_reset(echo: Echo) -> None:
    reader, writer = await echo.connect()
    idle_reader, idle_writer = await echo.connect()
    with troubled([echo.link], [echo.link.there], SHUT, torn=True):
        writer.write(b"held")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), NEVER_S)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(1), SOON_S)
    idle_writer.write(b"idle")
    assert await asyncio.wait_for(idle_reader.readexactly(4), SOON_S) == b"idle"


@linux
async def test_one_way_can_be_cut_alone(echo: Echo) -> None:
    reader, writer = await echo.connect()
    with troubled([echo.link], [echo.link.there], SHUT):
        writer.write(b"unheard")
        far = next(iter(echo.link.connections))
        far._near.write(b"heard")  # what the replica says still arrives
        assert await asyncio.wait_for(reader.readexactly(5), SOON_S) == b"heard"


@linux
async def test_the_end_of_one_trouble_leaves_the_others_as_they_are(echo: Echo) -> None:
    """A cell that was split in two came together when slow bytes were over; who was cut from the master was blamed."""
    reader, writer = await echo.connect()
    with troubled([echo.link], [echo.link.there], SHUT):
        for trouble in (Trouble(bytes_per_s=5_000), Trouble(delay_ms=1), SHUT):
            with troubled([echo.link], [echo.link.there], trouble):
                pass
        assert not echo.link.there.is_open and not echo.link.there.bytes_per_s
        writer.write(b"held")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), NEVER_S)
    assert await asyncio.wait_for(reader.readexactly(4), SOON_S) == b"held"


@linux
async def test_late_and_slow_bytes_take_their_time_and_none_is_lost(echo: Echo) -> None:
    reader, writer = await echo.connect()
    for delay_ms, bytes_per_s, data in ((100, 0, b"late"), (0, 5_000, b"x" * 1_000)):
        trouble = Trouble(delay_ms=delay_ms, bytes_per_s=bytes_per_s)
        with troubled([echo.link], [echo.link.there], trouble):
            begun = time.monotonic()
            writer.write(data)
            assert await asyncio.wait_for(reader.readexactly(len(data)), SOON_S) == data
            assert time.monotonic() - begun >= 0.09


@linux
async def test_a_reset_is_seen_by_both_sides(echo: Echo) -> None:
    reader, _ = await echo.connect()
    assert echo.link.reset() == 1
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(1), SOON_S)


@linux
async def test_a_replica_that_is_down_refuses(echo: Echo) -> None:
    await stop_listening(echo._server)
    reader, _ = await echo.dial()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), SOON_S)


# ---- the shim ----

PROBE = """
import os, sys, time
file = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
for line in sys.stdin:
    begun = time.monotonic()
    try:
        (os.fsync if line.strip() == "fsync" else os.fdatasync)(file)
        said = "synced"
    except OSError as error:
        said = os.strerror(error.errno)
    took = time.monotonic() - begun
    clocks = time.time(), time.time_ns() / 1e9, time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic()
    print(said, took, *clocks, flush=True)
"""


class Probe:
    """A process under the shim: syncs when told, and tells its clocks."""

    def __init__(self, directory: Path) -> None:
        library, why = shim.build(directory)
        if library is None:
            pytest.skip(why)
        self.shim = shim.Shim(directory / "shim")
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROBE, str(directory / "file")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | self.shim.environment(library),
        )

    def ask(self, call: str = "fdatasync") -> tuple[str, list[float]]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(call + "\n")
        self.process.stdin.flush()
        *said, took, wall, wall_ns, boot, monotonic = self.process.stdout.readline().split()
        return " ".join(said), [float(text) for text in (took, wall, wall_ns, boot, monotonic)]


@pytest.fixture
def probe(tmp_path: Path):
    if not sys.platform.startswith("linux"):
        pytest.skip("needs Linux (LD_PRELOAD)")
    made = Probe(tmp_path)
    yield made
    made.process.communicate()


@pytest.mark.parametrize("call", ["fsync", "fdatasync"])
def test_syncs_can_be_slow_and_fail_and_recover(probe: Probe, call: str) -> None:
    assert probe.ask(call)[0] == "synced"
    probe.shim.delay_syncs(0.2)
    said, (took, *_) = probe.ask(call)
    assert said == "synced" and took >= 0.2
    probe.shim.delay_syncs(0)
    probe.shim.fail_syncs(True)
    assert probe.ask(call)[0] == "Input/output error"
    probe.shim.fail_syncs(False)
    assert probe.ask(call)[0] == "synced"
    assert {"syncs": 4, "syncs_delayed": 1, "syncs_failed": 1}.items() <= probe.shim.counts.items()


def test_the_wall_clock_moves_and_no_other(probe: Probe) -> None:
    probe.shim.move_wall_clock(-86_400)
    before = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic()
    _, (_, wall, wall_ns, boot, monotonic) = probe.ask()
    after = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic()
    for moved in (wall, wall_ns):
        assert before[0] - 86_401 <= moved <= after[0] - 86_399
    assert before[1] - 0.001 <= boot <= after[1] + 0.001
    assert before[2] - 0.001 <= monotonic <= after[2] + 0.001
    assert probe.shim.counts["wall_reads_moved"] >= 2


# ---- pauses ----


@linux
async def test_a_paused_process_runs_again_by_itself(tmp_path: Path) -> None:
    script = "import signal, sys\nprint('up', flush=True)\nsys.stdin.readline()\nprint('went on', flush=True)"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    assert await process.stdout.readline() == b"up\n"
    pause = asyncio.create_task(paused(process.pid, 1.0))
    status = Path(f"/proc/{process.pid}/status")
    await until(lambda: "\nState:\tT" in status.read_text())
    process.stdin.write(b"\n")
    said = asyncio.create_task(process.stdout.readline())
    done, _ = await asyncio.wait([said], timeout=NEVER_S)
    assert not done or pause.done(), "it ran while it was paused"
    await pause
    assert await asyncio.wait_for(said, SOON_S) == b"went on\n"
    assert await asyncio.wait_for(process.wait(), SOON_S) == 0
