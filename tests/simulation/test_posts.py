"""The POST door of the simulation: requests, their ends in any order, and a process that stands still."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coordd.api.limits import ApiLimits
from coordd.engine.inputs import Call
from tests.simulation.checkers.held import HeldKeepAlives
from tests.simulation.network import Network
from tests.simulation.posts import PostDoor, packed, unpacked
from tests.simulation.runs import run_seed
from tests.simulation.streams import ANSWER, CLOSE, POST, Packet
from tests.simulation.swarm import Swarm
from tests.simulation.world import Trace, World

CLIENT, REPLICA = "p1", 1
PROOF = {"Coord-Session": "7.secret", "Coord-Call": "3", "Coord-Acked": "2"}
PUT = Packet(1, POST, 1, packed("put", PROOF, {"path": "/a", "contents": b"x"}))
KEEP_ALIVE = Packet(1, POST, 1, packed("keep_alive", {"Coord-Session": "7.secret"}, {"number": 1, "hold_ms": 500}))
HANGS_UP = Packet(1, CLOSE, 2, b"")


class Standing:
    """A process that may stand still."""

    name = REPLICA
    stands_still = False


class Node:
    """The `Service` behind the door: keeps what is asked."""

    cell = "sim"
    replica = REPLICA

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.delivers: list[Any] = []
        self.left: list[int] = []

    def new_request(self) -> int:
        return len(self.calls) + 1

    def submit(self, call: Call, deliver: Any) -> None:
        self.calls.append(call)
        self.delivers.append(deliver)

    def gone(self, requests: tuple[int, ...]) -> None:
        self.left += requests


class Place:
    """A door, and whoever hears its answers."""

    def __init__(self) -> None:
        self.world = World(1)
        network = Network(self.world, Swarm())
        self.heard: list[Packet] = []
        network.join(CLIENT, lambda source, packet: self.heard.append(packet))
        self.process, self.node = Standing(), Node()
        process: Any = self.process
        node: Any = self.node
        self.door = PostDoor(self.world, network, process, node, ApiLimits())

    def pass_time(self) -> None:
        self.world.run(self.world.now_us + 100_000)


def test_a_request_is_one_call_with_its_proof_and_has_one_answer() -> None:
    place = Place()
    place.door.take(CLIENT, PUT)
    place.pass_time()
    (call,) = place.node.calls
    assert (call.operation, call.session, call.secret, call.call, call.acked) == ("put", 7, "secret", 3, 2)
    place.node.delivers[0]({"revision": 9})
    place.pass_time()
    (packet,) = place.heard
    assert packet.kind == ANSWER
    assert unpacked(packet.data) == (200, {"revision": 9})
    assert not place.node.left


@pytest.mark.parametrize("packets", [(PUT, HANGS_UP), (HANGS_UP, PUT)], ids=["later", "before"])
def test_who_hangs_up_is_gone_and_his_call_goes_on(packets: tuple[Packet, ...]) -> None:
    place = Place()
    for packet in packets:
        place.door.take(CLIENT, packet)
        if packet is PUT:
            place.world.run(place.world.now_us + 40)
    place.pass_time()
    assert [call.operation for call in place.node.calls] == ["put"]
    assert place.node.left == [1]
    place.node.delivers[0]({"revision": 9})
    place.pass_time()
    assert not place.heard


def test_a_door_stands_still_with_its_process() -> None:
    place = Place()
    place.door.take(CLIENT, KEEP_ALIVE)
    place.pass_time()
    place.process.stands_still = True
    place.node.delivers[0]({"number": 1})
    place.world.run(60_000_000)
    assert not place.heard
    assert not place.node.left
    place.process.stands_still = False
    place.door.runs()
    place.pass_time()
    assert [packet.kind for packet in place.heard] == [ANSWER]


def test_what_dies_with_the_process_is_answered_no_more() -> None:
    place = Place()
    place.door.arrived(KEEP_ALIVE)
    place.door.take(CLIENT, KEEP_ALIVE)
    place.pass_time()
    assert place.door.heard_us(7, "secret") == 0
    assert place.door.heard_us(7, "another") is None
    assert place.door.end() == [(CLIENT, 1)]
    assert place.door.heard_us(7, "secret") is None
    place.node.delivers[0]({"number": 1})
    place.pass_time()
    assert not place.heard


POSTERS = Swarm(clients=1, posters=2, safety_ms=6_000, faults={"kill": 4_000, "client_heir": 1_500})


def test_held_keep_alives_are_judged_and_the_story_is_the_same_again() -> None:
    judged: list[HeldKeepAlives] = []
    stories = []
    with pytest.MonkeyPatch.context() as patch:
        made = HeldKeepAlives.__init__

        def keep(self: HeldKeepAlives, *arguments: Any) -> None:
            made(self, *arguments)
            judged.append(self)

        patch.setattr(HeldKeepAlives, "__init__", keep)
        for _ in range(2):
            trace = Trace(hashing=True)
            outcome = run_seed("cell", 5, trace, replace(POSTERS))
            assert outcome.report is not None, outcome.text
            stories.append(trace.digest())
    assert stories[0] == stories[1]
    assert judged[0].judged == judged[1].judged > 5
