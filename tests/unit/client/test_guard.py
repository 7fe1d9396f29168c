"""A client belongs to the process and the loop that used it first."""

from __future__ import annotations

import asyncio
import os

import pytest

from coordclient.aio.guard import Guard
from coordclient.errors import ClientClosed, ClientForked


async def use(guard: Guard) -> None:
    guard.use()


def test_a_child_gets_client_forked_and_one_made_before_the_fork_but_unused_is_the_childs(monkeypatch):
    used, unused = Guard(), Guard()
    asyncio.run(use(used))
    assert used.at_home()
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    assert not used.at_home()
    with pytest.raises(ClientForked, match=str(parent)):
        asyncio.run(use(used))
    with pytest.raises(ClientForked):
        used.check_process()
    unused.check_process()
    asyncio.run(use(unused))
    assert unused.at_home()


def test_another_loop_is_refused_by_name():
    guard = Guard()
    asyncio.run(use(guard))
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(use(guard))


def test_a_closed_client_says_so():
    guard = Guard()
    guard.closed = True
    with pytest.raises(ClientClosed):
        asyncio.run(use(guard))
