"""Client processes: the library's real asyncio client on a loop of virtual time, with simulated connections and clocks.

A `Seat` is a place in the world (a machine with a name and a clock) where one client process after another sits: a
process that vanishes leaves its session behind, and a new one begins without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any

from coordclient.aio import Client
from coordclient.errors import SessionExpired
from coordclient.holds import Hold
from coordclient.options import Options
from coordclient.protocol.codec import decode
from coordclient.protocol.frames import split_frames
from coordclient.session import Reading, Session, State
from coordclient.tickets import Ticket
from tests.simulation.doors import CELL, Doors, address_of
from tests.simulation.loop import SimLoop
from tests.simulation.network import Name, Network
from tests.simulation.streams import Packet, Port, SimHttp, Socket
from tests.simulation.swarm import Swarm
from tests.simulation.world import Clock, World

CACHE_BYTES = (3_000, 64 * 1024 * 1024, 64 * 1024 * 1024)


class SimOptions(Options):
    """Labels that do not depend on the machine that runs the simulation."""

    def labels(self) -> dict[str, str]:
        return {"host": "sim", "name": self.name}


class ClientProcess:
    """One client process, from its start to its end. With a ticket it resumes the session of one before it."""

    works = ""  # the one kind of worker that it has, whatever the seed drew

    def __init__(self, seat: Seat, generation: int, ticket: str | None) -> None:
        self.seat = seat
        self.name = f"{seat.name}.{generation}"
        self.ticket = ticket
        world = seat.world
        self.loop = SimLoop(world, self.name)  # type: ignore[abstract]
        machine = self.name if seat.former else seat.name  # two processes are two places in the network
        self.port = Port(seat.network, machine, self.loop, seat.next_socket, seat.says)
        self.alive = True
        self.closing = False
        self.told: list[str] = []
        self.client = self._make(seat, world.chance(f"client {self.name}"))

    def _make(self, seat: Seat, chance: Random) -> Client:
        ticket = None if self.ticket is None else Ticket.parse(self.ticket)
        options = SimOptions(
            seat.endpoints(chance), CELL, seat.lease_ms, seat.request_ms, self.name, ticket, seat.cache_bytes
        )
        client = Client.__new__(Client)
        client._setup(options, self.told.append, seat.reading)
        client._actor_prefix = self.name
        keeper = client._keeper
        keeper._traffic._chance = keeper._link._chance = chance
        keeper.draw_secret = lambda: chance.randbytes(24).hex()
        keeper._link._http = SimHttp(self.port)  # type: ignore[assignment]
        if seat.clocks_kept:
            keeper.leave_replica = self._mistrusts  # type: ignore[method-assign]
        return client

    def _mistrusts(self, reason: str) -> None:
        """The library takes what a replica says for impossible, and would go to another; here none says so."""
        self.loop.errors.append({"message": f"takes a replica for a wrong one: {reason}"})

    def life(self) -> Any:
        """What this process has of its session and its holds, if it has one."""
        return self.client._keeper.life

    def session(self) -> Session | None:
        """The session that this process has, if any."""
        life = self.life()
        return life.session if self.alive and life is not None else None

    def believes_session(self) -> bool:
        """Would the application be told that its session is active, now?"""
        session = self.session()
        return session is not None and session.state is not State.EXPIRED and session.left_ms(self.seat.reading()) > 0

    def safe_holds(self) -> list[Hold]:
        """Every hold whose `safe` would say True now. Looking changes nothing here."""
        life = self.life()
        if not self.alive or life is None:
            return []
        now = self.seat.reading()
        return [hold for hold in life.holds.all.values() if _would_be_safe(hold, now)]

    def cached_ms(self) -> int:
        """For how long from now on it would answer reads of some file from its cache."""
        if not self.alive or self.works or self.client._cache is None:
            return 0
        held = self.client._cache.held
        left = [end // 1_000_000 - ms for end, ms in zip(held.lease.ends, self.seat.reading(), strict=True)]
        return max(0, min(left)) if held.files else 0

    def kill(self) -> None:
        """The process is gone without a word."""
        if self.alive:
            self.alive = False
            self.port.kill()
            self.loop.kill()


def _would_be_safe(hold: Hold, now: Reading) -> bool:
    """What `safe` would say; a look of the library's own would give the hold up, this one leaves no trace."""
    state, cause = hold.state, hold.cause
    safe = hold.safe(now)
    hold.state, hold.cause = state, cause
    return safe


class Seat:
    """A client's machine; see the module docstring. It is a `faults.Victim`."""

    process_class: type[ClientProcess] = ClientProcess

    def __init__(
        self,
        world: World,
        swarm: Swarm,
        network: Network,
        name: str,
        doors: dict[int, Doors],
        begin: Callable[[ClientProcess], None],
    ) -> None:
        self.world, self.network, self.name = world, network, name
        self._swarm = swarm
        self.clocks_kept = swarm.clocks_kept
        caching = world.chance(f"cache {name}")
        self.cache_bytes = caching.choice(CACHE_BYTES) if caching.random() < swarm.caches else None
        self._doors = doors
        self._begin = begin
        self._chance = world.chance(f"seat {name}")
        most = swarm.clock_ppm
        self.clock = Clock(world, self._chance.randrange(10**9), self._chance.choice((-most, 0, most)))
        self.lease_ms = self._chance.choice(swarm.session_lease_ms)
        self.request_ms = self._chance.choice((1_000, 3_000))
        self.replicas: Callable[[], Iterable[int]] = lambda: self._doors  # whom the configuration may name
        self.careful = False  # it names them all
        self._sockets = 0
        self._generation = 0
        self.process: ClientProcess | None = None
        self.former: list[ClientProcess] = []  # whose session another process has resumed, and who run on
        self._ticket: str | None = None  # for the next process
        self.mute_until_us = 0  # until then no KeepAlive leaves
        self.closed = False  # nobody sits down here any more

    def reading(self) -> Reading:
        """The clocks of this machine, as `coordclient.clock.read` has them."""
        return self.clock.now_ms(), self.clock.wall_ms()

    def next_socket(self) -> int:
        """Numbers of connections are never used twice."""
        self._sockets += 1
        return self._sockets

    def endpoints(self, chance: Random) -> tuple[str, ...]:
        """All replicas in some order; sometimes only a bare majority of them is configured."""
        addresses = [address for replica in self.replicas() if (address := address_of(replica))]
        chance.shuffle(addresses)
        few = chance.random() >= 0.8 and not self.careful
        return tuple(addresses[: len(addresses) // 2 + 1] if few else addresses)

    def knows(self, replicas: Iterable[int]) -> bool:
        """Whether the process, if any, has the address of one of these."""
        process = self.process
        known = () if process is None else process.client._endpoints.known
        return any(address_of(replica) in known for replica in replicas)

    def sit_down(self) -> None:
        """A new process begins."""
        if self.closed or self.process is not None:
            return
        self._generation += 1
        ticket, self._ticket = self._ticket, None
        self.process = self.process_class(self, self._generation, ticket)
        if self.world.tracing:
            self.world.tell(self.name, f"process {self.process.name} begins{' as an heir' if ticket else ''}")
        self._begin(self.process)

    def processes(self) -> Iterator[ClientProcess]:
        """All that are alive."""
        yield from self.former
        if self.process is not None:
            yield self.process

    # ---- faults ----

    def vanish(self) -> None:
        """kill -9 of the process; another one begins later."""
        if self.process is None:
            return
        if self.world.tracing:
            self.world.tell(self.name, f"process {self.process.name} vanishes")
        self.process.kill()
        self.process = None
        self.world.after(int(self._chance.random() ** 2 * 5_000_000), self.sit_down)

    def close(self) -> None:
        """The process closes its client in the middle of its work, and ends; another one begins later."""
        if self.process is not None and not self.process.closing and not self.closed:
            if self.world.tracing:
                self.world.tell(self.name, f"process {self.process.name} closes its client")
            self.process.closing = True
            self.process.loop.run_soon(self._close(self.process))

    def hand_on(self, how: str, for_us: int) -> Name | None:
        """Another process resumes the session: after this one was `killed`, has `left`, or while it runs on.

        Only while something is believed in, so that there is something to fight for; answers where it was, if it was.
        """
        process = self.process
        if process is None or process.closing or self.closed or self.former or not process.safe_holds():
            return None
        if self.world.tracing:
            self.world.tell(self.name, f"the session of {process.name} goes to another process ({how})")
        if how == "left":
            process.closing = True
            process.loop.run_soon(self._leave(process))
            return process.port.name
        self._ticket = process.client.ticket
        if how == "killed":
            process.kill()
        else:
            self.former.append(process)
            self.world.after(for_us, self._end_former, process)
        self.process = None
        self.world.after(int(self._chance.random() ** 3 * 3_000_000), self.sit_down)
        return process.port.name

    def pause_former(self, for_us: int) -> None:
        """SIGSTOP of the process whose session another one resumes."""
        if self.former and not self.former[-1].loop.paused:
            loop = self.former[-1].loop
            loop.pause()
            self.world.after(for_us, loop.resume)

    async def _leave(self, process: ClientProcess) -> None:
        try:
            ticket = await process.client.leave()
        except SessionExpired:
            ticket = None
        if self.process is process:
            self._ticket = ticket
        self.world.after(1, self._closed, process)

    def _end_former(self, process: ClientProcess) -> None:
        process.kill()
        if process in self.former:
            self.former.remove(process)

    async def _close(self, process: ClientProcess) -> None:
        await process.client.close()
        self.world.after(1, self._closed, process)

    def _closed(self, process: ClientProcess) -> None:
        process.kill()
        if self.process is process:
            self.process = None
            self.world.after(int(self._chance.random() ** 2 * 2_000_000), self.sit_down)

    def pause(self, for_us: int) -> None:
        """SIGSTOP of the process."""
        process = self.process
        if process is not None and not process.loop.paused:
            if self.world.tracing:
                self.world.tell(self.name, f"is stopped for {for_us / 1e6:.3f} s")
            process.loop.pause()
            self.world.after(for_us, process.loop.resume)

    def sleep(self, for_us: int) -> None:
        """The machine is suspended."""
        process = self.process
        if process is not None and not process.loop.paused:
            if self.world.tracing:
                self.world.tell(self.name, f"sleeps for {for_us / 1e6:.3f} s")
            process.loop.sleep()
            self.world.after(for_us, process.loop.resume)

    def resume(self) -> None:
        """SIGCONT, and it can speak again; whom others have replaced is gone."""
        self.mute_until_us = 0
        for former in list(self.former):
            self._end_former(former)
        if self.process is not None:
            self.process.loop.resume()

    def mute(self, for_us: int) -> None:
        """Its KeepAlives do not leave."""
        if self.world.tracing:
            self.world.tell(self.name, f"sends no KeepAlive for {for_us / 1e6:.3f} s")
        self.mute_until_us = self.world.now_us + for_us

    @property
    def is_mute(self) -> bool:
        """Whether no KeepAlive leaves."""
        return self.world.now_us < self.mute_until_us

    def says(self, message: bytes) -> bytes:
        """What of a message of its process leaves the machine."""
        if not self.is_mute:
            return message
        return b"".join(
            len(payload).to_bytes(4, "big") + payload
            for payload in split_frames(message)
            if decode(payload)[1] != "keep_alive"
        )

    def break_channel(self, how: str = "") -> None:
        """A connection breaks: both sides are told, or one, or none; what was sent may still come, late."""
        if self.process is None or not self.process.port.sockets:
            return
        socket = self.process.port.sockets[max(self.process.port.sockets)]
        how = how or self._chance.choice(("both", "client", "replica", "silent"))
        if self.world.tracing:
            self.world.tell(self.name, f"connection {socket.number} to {socket.target} breaks ({how})")
        if how in ("both", "client"):
            socket.shut()
        if how in ("both", "replica"):
            self._doors[socket.target].cut(self.process.port.name, socket.number)
        if how == "silent":
            socket.silent = True

    def cached_ms(self) -> int:
        """For how long its process would answer reads of some file from its cache."""
        return 0 if self.process is None else self.process.cached_ms()

    def hold_frames(self, break_after_us: int, late_after_us: int) -> None:
        """What the client sends waits in the connection's buffer; the client gives up; much later it arrives."""
        if self.process is None or not self.process.port.sockets:
            return
        socket = self.process.port.sockets[max(self.process.port.sockets)]
        if self.world.tracing:
            self.world.tell(self.name, f"connection {socket.number} to {socket.target} holds frames back")
        socket.stuck = []
        self.world.after(break_after_us, self._give_up, socket)
        self.world.after(late_after_us, self._let_go, socket)

    def _give_up(self, socket: Socket) -> None:
        socket.shut()

    def _let_go(self, socket: Socket) -> None:
        packets: list[Packet] = socket.stuck or []
        socket.stuck = None
        for packet in packets:
            self.network.carry_stream(socket.source, socket.target, packet)
