"""A replica seen from its doors: replies find their way, limits hold, the state of health is told as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from coordclient.protocol.errors import Refusal
from coordd.engine.inputs import Call, Gone, Input
from coordd.node.directory import Directory
from coordd.node.hub import Hub
from coordd.node.node import URGENT, Node
from coordd.paxos.membership import Membership

ADDRESSES = {1: "http://one:1", 2: "http://two:2"}
STATUS = {"role": "follower", "master": 2, "serving": False, "epoch": 3}


class FakeDriver:
    def __init__(self, status: Mapping[str, Any] = STATUS) -> None:
        self.posted: list[Input] = []
        self.urgent: list[Input] = []
        self.state = status

    @property
    def queued(self) -> int:
        return len(self.posted)

    @property
    def queued_urgent(self) -> int:
        return len(self.urgent)

    def post(self, item: Input, urgent: bool = False) -> None:
        (self.urgent if urgent else self.posted).append(item)

    def status(self) -> Mapping[str, Any]:
        return self.state


def make(status: Mapping[str, Any] = STATUS, inbox_max: int = 10) -> tuple[Node, Hub, FakeDriver]:
    hub, driver = Hub(Directory(ADDRESSES).address_of), FakeDriver(status)
    node = Node("cell", 1, Directory(ADDRESSES), hub, driver, lambda: {2: 30}, inbox_max, "1.2")  # type: ignore[arg-type]
    return node, hub, driver


async def answer(node: Node, operation: str) -> dict[str, object] | Refusal:
    answered: asyncio.Future[dict[str, object] | Refusal] = asyncio.get_running_loop().create_future()
    node.submit(Call(node.new_request(), operation, {}), answered.set_result)
    assert not answered.done(), "never in the caller's own turn"
    async with asyncio.timeout(5):
        return await answered


async def test_a_reply_reaches_who_asked_once() -> None:
    node, hub, driver = make()
    got: list[object] = []
    call = Call(node.new_request(), "get", {"path": "/"})
    node.submit(call, got.append)
    assert driver.posted == [call]
    hub.deliver(call.request, {"x": 1})
    hub.deliver(call.request, {"x": 2})
    assert got == [{"x": 1}] and len(hub) == 0


async def test_a_reply_that_nobody_waits_for_is_dropped() -> None:
    node, hub, driver = make()
    got: list[object] = []
    call = Call(node.new_request(), "get", {"path": "/"})
    node.submit(call, got.append)
    node.gone((call.request,))
    hub.deliver(call.request, {})
    assert not got and driver.posted[-1] == Gone((call.request,))


async def test_not_master_says_where_the_master_is() -> None:
    node, hub, _ = make()
    got: list[Any] = []
    for master in (2, 9, None):
        call = Call(node.new_request(), "get", {})
        node.submit(call, got.append)
        hub.deliver(call.request, Refusal("not_master", "elsewhere", master=master, address=None))
    assert [refusal.details for refusal in got] == [
        {"master": 2, "address": "http://two:2"},
        {"master": 9, "address": None},
        {"master": None, "address": None},
    ]


async def test_a_full_inbox_refuses_by_name_and_queues_nothing() -> None:
    node, _, driver = make(inbox_max=1)
    driver.posted.append(Gone(()))
    refused = await answer(node, "get")
    assert isinstance(refused, Refusal) and refused.code == "overloaded"
    assert len(driver.posted) == 1


async def test_keep_alives_and_releases_have_an_inbox_of_their_own() -> None:
    node, _, driver = make(inbox_max=1)
    for operation in sorted(URGENT):
        driver.posted, driver.urgent = [Gone(())], []
        call = Call(node.new_request(), operation, {})
        node.submit(call, lambda result: None)
        assert driver.urgent == [call] and driver.posted == [Gone(())], operation
        assert (await answer(node, operation)).code == "overloaded", "it has the same limit"  # type: ignore[union-attr]


async def test_a_flood_of_reads_refuses_no_renewal_of_a_cache() -> None:
    """Otherwise every cached reader would ask the master instead, and make the flood larger."""
    node, _, driver = make(inbox_max=1)
    driver.posted = [Gone(())]
    assert (await answer(node, "get")).code == "overloaded"  # type: ignore[union-attr]
    call = Call(node.new_request(), "cache_lease", {"number": 1})
    node.submit(call, lambda result: None)
    assert driver.urgent == [call]


async def test_status_is_answered_by_any_replica_about_itself() -> None:
    node, _, driver = make()
    status = await answer(node, "status")
    assert isinstance(status, dict) and not driver.posted
    assert (status["cell"], status["replica"], status["version"]) == ("cell", 1, "1.2")
    assert (status["master"], status["master_address"]) == (2, "http://two:2")
    assert status["members"] == [
        {"replica": 1, "voter": True, "address": "http://one:1", "heard_ms_ago": 0},
        {"replica": 2, "voter": True, "address": "http://two:2", "heard_ms_ago": 30},
    ]


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        ({"role": "follower", "master": 2, "serving": False}, True),
        ({"role": "follower", "master": None, "serving": False}, False),
        ({"role": "candidate", "master": None, "serving": False}, False),
        ({"role": "master", "master": 1, "serving": True}, True),
        ({"role": "master", "master": 1, "serving": False}, False),
    ],
)
def test_ready_is_a_follower_of_a_master_or_a_serving_master(status: Mapping[str, Any], ready: bool) -> None:
    async def health() -> bool:
        return make(status)[0].health().ready

    assert asyncio.run(health()) is ready


async def test_a_replica_that_is_no_member_is_not_ready() -> None:
    for standing in ("joining", "removed"):
        node, _, _ = make({**STATUS, "standing": standing})
        health = node.health()
        assert not health.ready
        assert standing in health.checks["cell"]


async def test_a_cell_without_a_secret_takes_nobody_in() -> None:
    hub, driver = Hub(Directory(ADDRESSES).address_of), FakeDriver()
    node = Node("cell", 1, Directory(ADDRESSES), hub, driver, dict, 10, "1.2", may_grow=False)  # type: ignore[arg-type]
    answered = await answer(node, "add_member")
    assert isinstance(answered, Refusal)
    assert "secret" in answered.message


def test_the_directory_follows_the_membership_and_falls_back_on_the_configuration() -> None:
    directory = Directory({1: "http://one:1", 2: "http://two:2", 9: "http://nine:9"})
    assert directory.to_dial().keys() == {1, 2, 9}
    directory.follow(Membership(1, (1, 2, 3)).with_learner(4, "http://four:4").without(2))
    assert directory.members() == [(1, True, "http://one:1"), (3, True, None), (4, False, "http://four:4")]
    assert directory.to_dial() == {1: "http://one:1", 4: "http://four:4", 9: "http://nine:9"}
    assert directory.address_of(4) == "http://four:4"
    assert directory.has_other_voters(1)
    assert not Directory({1: "http://one:1"}).has_other_voters(1)
