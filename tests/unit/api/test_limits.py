"""Connections are counted, silent ones closed; the pages for supervisors tell the state as it is."""

from __future__ import annotations

import asyncio
import json

from coordd.api.limits import ApiLimits
from coordd.testing.until import until
from tests.unit.api.fakes import House, open_house


async def connect(house: House) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(house.url.rpartition(":")[2]))


async def close(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.close()
        await writer.wait_closed()


async def test_a_connection_over_the_limit_is_told_so_and_closed() -> None:
    async with open_house(ApiLimits(connections=2)) as house:
        first, second = await connect(house), await connect(house)
        await until(lambda: house.doors.keeper.accepted == 2)
        third = await connect(house)
        answer = await third[0].read()
        assert (
            answer.startswith(b"HTTP/1.1 503 ") and json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "overloaded"
        )
        await close(first[1])
        await until(lambda: len(house.doors.runner.server.connections) == 1)  # type: ignore[union-attr]
        fourth = await connect(house)
        fourth[1].write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await fourth[0].readline()).startswith(b"HTTP/1.1 200")
        await close(second[1], third[1], fourth[1])


async def test_a_silent_connection_is_closed_and_a_speaking_one_stays() -> None:
    async with open_house(ApiLimits(head_seconds=0.0)) as house:
        silent, slow, speaking = [await connect(house) for _ in range(3)]
        slow[1].write(b"POST /v1/put HTTP/1.1\r\nHost: x\r\nX-Never")
        speaking[1].write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await speaking[0].readuntil(b"ok\n")).endswith(b"ok\n")
        await until(lambda: house.doors.keeper.accepted == 3)
        house.doors.keeper.sweep()
        for reader, _ in (silent, slow):
            try:
                assert await reader.read() == b""
            except ConnectionResetError:
                continue
        speaking[1].write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await speaking[0].readuntil(b"ok\n")).endswith(b"ok\n")
        await close(silent[1], slow[1], speaking[1])


async def test_what_is_no_http_does_no_harm() -> None:
    async with open_house() as house:
        for garbage in (b"\0" * 100, b"\x16\x03\x01hello", b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"A" * 100_000):
            reader, writer = await connect(house)
            writer.write(garbage)
            writer.write_eof()
            await reader.read()
            await close(writer)
        async with house.client.get(f"{house.url}/livez") as got:
            assert got.status == 200


async def test_ready_says_whether_clients_should_come_here() -> None:
    async with open_house() as house:
        async with house.client.get(f"{house.url}/readyz") as got:
            assert (got.status, await got.text()) == (200, "ok\n")
        house.service.ready = False
        async with house.client.get(f"{house.url}/readyz?verbose") as got:
            assert (got.status, await got.text()) == (503, "cell: no master\nnot ready\n")
        async with house.client.get(f"{house.url}/livez") as got:
            assert got.status == 200
            assert got.headers["Server"] == "coordd", "no versions for strangers"


async def test_health_tells_everything_in_json() -> None:
    async with open_house() as house, house.client.get(f"{house.url}/health") as got:
        assert (await got.json()) == {"ready": True, "checks": {"cell": "ok"}, "status": {"role": "follower"}}
