"""The clients' doors of one replica: the daemon's real channels, POST and hub over simulated connections.

The kernel of the machine answers connections that the process does not know (it was restarted, or is down) with a
reset, or, as a firewall may, not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from coordclient.protocol.errors import Refusal
from coordd.api.channel import Channel
from coordd.api.limits import ApiLimits
from coordd.engine.effects import Push, Reply
from coordd.engine.inputs import Call, Congested, Gone
from coordd.node.hub import Hub
from coordd.node.service import Health, Piece
from tests.simulation.network import Network
from tests.simulation.posts import PostDoor
from tests.simulation.process import Process
from tests.simulation.streams import ACCEPT, CLOSE, DATA, OPEN, POST, RESET, Packet, ServerEnd
from tests.simulation.world import World

CELL = "sim"
RESET_RATE = 0.7  # of the connections that nobody knows, this share is told so


def address_of(replica: int | None) -> str | None:
    """Where clients reach a replica."""
    return None if replica is None else f"http://replica-{replica}:7420"


class Connection:
    """One connection and its channel."""

    def __init__(self, end: ServerEnd, channel: Channel) -> None:
        self.end = end
        self.channel = channel
        self.greeted = False


class Doors:
    """All channels of one replica process. It is the `Service` that channels see."""

    def __init__(self, world: World, network: Network, process: Process) -> None:
        self._world, self._network, self._process = world, network, process
        self._chance = world.chance(f"doors {process.name}")
        self._limits = ApiLimits()
        self.cell = CELL
        self.replica = process.name
        self._connections: dict[tuple[Any, int], Connection] = {}
        self._heard: dict[tuple[int, tuple[int, int]], int] = {}  # session and attachment -> its last KeepAlive came
        self._hub = Hub(address_of)
        self.posts = PostDoor(world, network, process, self, self._limits)
        self._firewall = self._chance.random() < 0.3  # this machine never says that nobody is there
        process.on_client = self._packet
        process.on_nobody = self.refuse
        process.on_arrival = self.arrived
        process.on_reply = self._reply
        process.on_push = self._push
        process.on_end = self._ended
        process.on_runs = self.posts.runs

    # ---- what channels ask for (coordd.node.service.Service) ----

    def submit(
        self,
        call: Call,
        deliver: Callable[[dict[str, object] | Refusal], None],
        push: Callable[[Piece], None] | None = None,
    ) -> None:
        self.posts.note(call)
        self._hub.wait(call.request, self._with_members(deliver) if call.operation == "status" else deliver, push)
        self._process.put(call)

    def _with_members(self, deliver: Callable[[dict[str, object] | Refusal], None]) -> Callable[..., None]:
        """What the daemon's node adds to the engine's status: where the members are."""

        def complete(result: dict[str, object] | Refusal) -> None:
            if isinstance(result, dict):
                membership = self._process.engine.replica.membership
                members = [{"replica": one, "address": address_of(one)} for one in membership.voters]
                result = {**result, "members": members}
            deliver(result)

        return complete

    def new_request(self) -> int:
        return self._hub.new_request()

    def gone(self, requests: tuple[int, ...]) -> None:
        if requests:
            self._hub.forget(requests)
            self.posts.forget(requests)
            self._process.put(Gone(requests))

    def congested(self, channel: int, full: bool) -> None:
        self._process.put(Congested(channel, full))

    def address_of(self, replica: int | None) -> str | None:
        return address_of(replica)

    def master(self) -> int | None:
        master = self._process.engine.replica.master
        assert master is None or isinstance(master, int)
        return master

    def health(self) -> Health:
        return Health(True, {}, {})

    def __len__(self) -> int:
        return len(self._hub)

    # ---- connections ----

    def _packet(self, client: Any, packet: Packet) -> None:
        if self.posts.take(client, packet):
            return
        connection = self._connections.get((client, packet.number))
        if packet.kind == RESET:
            self.drop(client, packet.number)
            return
        if connection is None:
            if packet.kind != OPEN or packet.place != 1:
                self.refuse(client, packet)
                return
            connection = self._open(client, packet.number)
        for ready in connection.end.order.take(packet):
            self._take(client, connection, ready)

    def arrived(self, client: Any, packet: Packet) -> None:
        """A packet is in the kernel's hands; the process may stand still and read it later."""
        if packet.kind == POST:
            self.posts.arrived(packet)
        connection = self._connections.get((client, packet.number))
        if connection is not None and b"keep_alive" in packet.data and packet.place == connection.end.order.expected:
            channel = connection.channel
            attachment = (channel._incarnation, channel._attachment)
            self._heard[channel._session, attachment] = self._world.now_us

    def heard_us(self, session: int) -> int | None:
        """When the last KeepAlive arrived here, in this life of the process: by the session's newest channel, or by a
        POST with its present secret."""
        engine = self._process.engine
        attachment = engine._mastership._doors._attachments.get(session)
        by_channel = None if attachment is None else self._heard.get((session, attachment))
        by_post = self.posts.heard_us(session, engine.machine.sessions[session].secret)
        return max(filter(None, (by_channel, by_post)), default=None)

    def refuse(self, client: Any, packet: Packet) -> None:
        """A packet for nobody: of a connection from before a restart, or to a process that is down."""
        if packet.kind != CLOSE and not self._firewall and self._chance.random() < RESET_RATE:
            end = ServerEnd(self._network, self._process.name, client, packet.number)
            end.reset()

    def _open(self, client: Any, number: int) -> Connection:
        end = ServerEnd(self._network, self._process.name, client, number)
        channel = Channel(self, self._limits, end, self._soon, self._later)
        connection = self._connections[client, number] = Connection(end, channel)
        return connection

    def _take(self, client: Any, connection: Connection, packet: Packet) -> None:
        if packet.kind == OPEN:
            connection.end.transmit(ACCEPT)
        elif packet.kind == DATA:
            self._message(client, connection, packet)
        else:
            self.drop(client, packet.number)

    def _message(self, client: Any, connection: Connection, packet: Packet) -> None:
        channel = connection.channel
        try:
            if connection.greeted:
                _run(channel.take(packet.data))
            else:
                connection.greeted = True
                channel.greet(packet.data)
        except Refusal as refusal:
            raise self._world.violation("door", f"{client} is refused: {refusal!r}") from refusal

    def _soon(self, action: Callable[[], None]) -> None:
        self._world.after(5, self._in_this_life, self._process.life, action)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._world.after(int(seconds * 1_000_000), self._in_this_life, self._process.life, action)

    def _in_this_life(self, life: int, action: Callable[[], None]) -> None:
        if life == self._process.life:
            action()

    def drop(self, client: Any, number: int) -> None:
        """The connection is over on this side; its client may or may not know."""
        connection = self._connections.pop((client, number), None)
        if connection is not None:
            connection.end.over = True
            connection.channel.end()

    def drop_all_but(self, alive: Container[tuple[Any, int]]) -> None:
        """Every other connection is over."""
        for client, number in [key for key in self._connections if key not in alive]:
            self.drop(client, number)

    def cut(self, client: Any, number: int) -> None:
        """The connection breaks and this side is told: it closes."""
        self.posts.cut(client, number)
        if (client, number) in self._connections:
            self._connections[client, number].end.transmit(CLOSE)
            self.drop(client, number)

    # ---- the process ----

    def _reply(self, reply: Reply) -> None:
        self.posts.forget((reply.request,))
        self._hub.deliver(reply.request, reply.result)

    def _push(self, push: Push) -> None:
        self._hub.push(push.requests, push.body)

    def _ended(self) -> None:
        """The process is gone; the kernel says so to its clients, where nothing is in between."""
        for connection in self._connections.values():
            if not self._firewall and self._chance.random() < RESET_RATE:
                connection.end.transmit(CLOSE)
            connection.end.over = True
        for client, number in self.posts.end():
            if not self._firewall and self._chance.random() < RESET_RATE:
                ServerEnd(self._network, self._process.name, client, number).reset()
        self._connections, self._heard = {}, {}
        self._hub = Hub(address_of)


def _run(coroutine: Any) -> None:
    """A coroutine that waits for nothing; between the pieces of a long message it lets others run: here nobody."""
    try:
        while coroutine.send(None) is None:
            pass
    except StopIteration:
        return
    raise AssertionError("a channel waited")
