"""Partitions that a client sees differently from the replicas: real daemons, a proxy on every directed link."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from coordclient import aio
from tests.clients.conftest import until
from tests.nemesis import dialers
from tests.nemesis.faults_network import shut
from tests.nemesis.world import World

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not dialers.available(), reason="SKIPPED: needs Linux")]
LEASE_S = 30  # so long that no KeepAlive is under way when the master steps down
PATIENCE_S = 20


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Three replicas, and this process as their client."""
    world = World(tmp_path, 3, 0, seed=1)
    try:
        await world.start(namespace_fault="not needed")
        yield world
    finally:
        await world.close()


async def test_a_master_cut_off_from_its_peers_keeps_no_client_that_reaches_everybody(world: World) -> None:
    """It answers, but only that it knows no master; the others have the next one long since."""
    async with aio.Client(world.endpoints, session_lease=LEASE_S, request_timeout=PATIENCE_S) as client:
        await client.create("/alive", ephemeral=True)
        session, master = client.session_id, await world.master()
        links = world.links_of(master)
        with shut(links, [link.there for link in links], torn=True):
            await until(partial(_has_stepped_down, world, master), "the master to step down")
            await client.put("/during", b"1")
            assert client.session_id == session
        await client.stat("/alive")


async def _has_stepped_down(world: World, master: int) -> bool:
    status = await world.status(master)
    return status is not None and status["role"] != "master" and await world.master() != master
