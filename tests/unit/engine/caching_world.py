"""Engines, writers and readers with the library's own cache in one small world; chance decides what comes next.

What a cache may show at any time is checked against all that was there since somebody last saw a newer revision, and
the books of every replica against each other. Readers answer late or not at all, lose their channels, go on believing
when another process has taken their session; masters crash, are cut off, hand over, and hear no votes.
"""

from __future__ import annotations

import copy
import random
from typing import Any

from coordclient.cached import Cached
from coordclient.protocol.errors import Refusal
from coordclient.session import Reading
from coordd.engine.inputs import Gone
from coordd.paxos.messages import Accepted
from tests.unit.engine.caching_books import check_books
from tests.unit.engine.caching_truth import Stale, Truth, shown
from tests.unit.engine.cell import Cell, Client, Node

FILES = ("/a", "/b", "/d", "/d/x", "/d/y", "/d/e/z", "/l")
DIRECTORIES = ("/", "/d", "/d/e")
NEVER_OVER: tuple[Reading, int] = ((0, 0), 2**40)
READERS_MAX = 6
NS = 1_000_000


class Reader:
    """A client that caches. `left`: another process has its session, and it does not know."""

    def __init__(self, world: World, client: Client | None) -> None:
        chance = world.chance
        self.world, self.cell, self.chance = world, world.cell, chance
        self.rate = chance.choice((990_000, 1_000_000, 1_010_000))  # percent of the bound
        self.lags = chance.random() < 0.6  # takes some of what has come, and the rest later
        self.cached = Cached(10**6)
        self.client = client
        self.left = False
        self.mute_until = 0
        self.stop()
        self.open()

    def reading(self) -> Reading:
        ms = 10**6 + self.cell.now_ms * self.rate // 10**6
        return (ms, ms)

    @property
    def hears(self) -> bool:
        return self.client is not None and self.mute_until <= self.cell.now_ms

    # --- the queue and its channel

    def stop(self) -> None:
        """Nothing of the queue counts any more."""
        self.cached.drop()
        self.queue, self.is_open, self.taken, self.owes = 0, False, 0, 0
        self.asked: dict[int, tuple[Any, ...]] = {}

    def open(self) -> None:
        self.node = self.world.current()
        if self.node is not None and self.client is not None:
            self.queue = self.client.call("cache", self.node)

    def attach(self) -> None:
        """A new channel, perhaps to another master; the end of the old one is noticed or not."""
        client, former, requests = self.client, self.node, (*self.asked, self.queue)
        if self.left or client is None:
            return
        self.stop()
        if former is not None and former.alive and requests[-1] and self.chance.random() < 0.6:
            former.inbox.append(Gone(tuple(request for request in requests if request not in self.cell.answers)))
        node = self.world.current()
        if node is None:
            return
        client.attachment += 1
        about = {"session": client.session, "secret": client.secret, "attachment": client.attachment}
        answer = self.world.ask("attach", node, **about)
        if isinstance(answer, dict):
            client.incarnation = answer["incarnation"]
            self.open()
        elif answer is not None and answer.code == "session_expired":
            self.client = self.world.session()
            self.open()

    def resumed(self) -> Reader | None:
        """The next process with this session; this one goes on as before, and hears or does not."""
        node, client = self.world.current(), self.client
        if node is None or client is None or self.left:
            return None
        secret = f"{self.chance.getrandbits(128):032x}"
        about = {"session": client.session, "secret": client.secret, "new_secret": secret}
        if not isinstance(self.world.ask("resume_session", node, **about), dict):
            return None
        self.left = True
        self.mute_until = self.chance.choice((self.mute_until, 10**12))
        heir = copy.copy(client)
        heir.secret, heir.attachment = secret, 0
        reader = Reader(self.world, None)
        reader.client = heir
        reader.attach()
        return reader

    # --- what it asks, and what it hears

    def send_get(self) -> None:
        if self.is_open and self.client is not None and self.node is self.world.current():
            table = self.chance.choice(("get", "stat", "ls"))
            path = self.chance.choice(DIRECTORIES if table == "ls" else FILES + DIRECTORIES)
            request = self.client.call(table, self.node, path=path, cache=True)
            self.asked[request] = (table, path, self.cached.generation)

    def send_lease(self) -> None:
        if self.is_open and self.client is not None and self.node is self.world.current() and not self.cached.asking:
            number = self.cached.ask(self.reading())
            self.asked[self.client.send("cache_lease", self.node, number=number)] = (number,)

    def acknowledge(self) -> None:
        if self.owes and self.queue and self.hears and self.client is not None:
            self.client.send("invalidated", self.node, number=self.owes)
            self.owes = 0

    def take(self) -> None:
        """What was pushed in its order, and answers in any order."""
        if not self.hears:
            return
        pushed = self.cell.pushed.get(self.queue, [])
        upto = self.chance.randint(self.taken, len(pushed)) if self.lags else len(pushed)
        for body in pushed[self.taken : upto]:
            self._take_push(body)
        self.taken = upto
        for request in [request for request in self.asked if request in self.cell.answers]:
            if request in self.asked and self.chance.random() < 0.7:
                self._take_answer(self.asked.pop(request), self.cell.answers[request])
        if self.queue in self.cell.answers and self.taken == len(self.cell.pushed.get(self.queue, [])):
            self.stop()

    def _take_push(self, body: dict[str, Any]) -> None:
        if "epoch" in body:
            self.is_open = True
            self.cached.open(body["epoch"])
            return
        if body["invalidate"] is None:
            self.cached.invalidate_all(body["number"])
        else:
            self.cached.invalidate(body["invalidate"], body["number"])
        self.owes = body["number"]

    def _take_answer(self, asked: tuple[Any, ...], answer: dict[str, Any] | Refusal) -> None:
        if len(asked) == 1:
            [number] = asked
            if isinstance(answer, Refusal):
                self.cached.unanswered(number)
            elif answer["drop"] and not answer["lease_ms"]:
                self.stop()
                self.open()
            else:
                self.cached.granted(number, answer["epoch"], answer["lease_ms"], answer["drop"], NEVER_OVER)
            return
        table, path, generation = asked
        if isinstance(answer, Refusal):
            number = answer.details.get("cached") if answer.code == "not_found" else None
            table, value = "absent", None
        else:
            self.world.truth.seen(answer if table == "ls" else {})
            number, value = answer.get("cached"), shown(table, path, answer)
        if number is not None:
            self.cached.fill(table, path, value, 1, number, generation)

    def look(self) -> int:
        """At all that it would show now; how much that is."""
        first, second = self.reading()
        hits = 0
        for table, held in self.cached.tables.items():
            for path, kept in held.items():
                if self.cached.believed(kept, (first * NS, second * NS)):
                    hits += 1
                    if not self.world.truth.allows("stat" if table == "absent" else table, path, kept.value):
                        raise Stale(f"{table} {path}: {kept.value} would be shown; see {self.world.truth.log[-4:]}")
        return hits


class World:
    """One history; `run` is as long as it is told, and returns how often a cache would have answered."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = random.Random(seed)
        self.cell = Cell(chance.choice((1, 3, 3, 3)), seed, cached_paths_per_session_max=chance.choice((2, 4, 100)))
        self.truth = Truth()
        self.cut_off: Node | None = None
        self.cut_until = 0
        self.votes_lost = False
        self.cell.dropped = lambda sender, to, message: self.votes_lost and isinstance(message, Accepted)
        self.calls: set[int] = set()  # writes and reads that are not answered yet
        self.holds: list[tuple[Client, int]] = []
        self.cell.master()
        self.writers = [self.cell.open(chance.choice((1_500, 12_000))) for _ in range(3)]
        self.readers = [Reader(self, self.cell.open()) for _ in range(3)]

    def run(self, steps: int) -> int:
        moves = (
            *((self.read_cached, 30), (self.lease, 18), (self.write, 18), (self.read, 4), (self.pass_time, 11)),
            *((self.silence, 5), (self.attach, 4), (self.resume, 2), (self.fault, 2), (self.nothing, 16)),
        )
        names, weights = [move for move, _ in moves], [weight for _, weight in moves]
        hits = 0
        for _ in range(steps):
            self.chance.choices(names, weights)[0]()
            for reader in self.readers:
                if self.chance.random() < 0.6:
                    reader.take()
                if self.chance.random() < 0.3:
                    reader.acknowledge()
            if self.chance.random() < 0.7:
                self.cell.settle()
            machines = [node.engine.machine for node in self.cell.nodes.values()]
            self.truth.follow(max(machines, key=lambda machine: machine.revision))
            self.hear()
            hits += sum(reader.look() for reader in self.readers)
            for node in self.nodes:
                check_books(node.engine)
        return hits

    @property
    def nodes(self) -> list[Node]:
        return [node for node in self.cell.nodes.values() if node.alive]

    def current(self) -> Node | None:
        """A master that can be reached."""
        serving = [node for node in self.nodes if node.engine.replica.serving and node is not self.cut_off]
        return serving[0] if serving else None

    def ask(self, operation: str, node: Node, **fields: Any) -> Any:
        """The answer, None where there is none yet."""
        request = self.cell.call(operation, node, **fields)
        self.cell.settle()
        return self.cell.answers.get(request)

    def session(self, lease_ms: int = 12_000) -> Client | None:
        """A new one, where a master can be reached that says so at once."""
        node = self.current()
        if node is None or not isinstance(opened := self.ask("open_session", node, lease_ms=lease_ms), dict):
            return None
        client = copy.copy(self.writers[0])
        client.session, client.secret, client.number, client.attachment = opened["session"], opened["secret"], 0, 1
        about = {"session": client.session, "secret": client.secret, "attachment": 1}
        answer = self.ask("attach", node, **about)
        client.incarnation = answer["incarnation"] if isinstance(answer, dict) else 1
        return client

    # --- moves

    def nothing(self) -> None:
        """What is on its way goes on."""

    def read_cached(self) -> None:
        self.chance.choice(self.readers).send_get()

    def lease(self) -> None:
        self.chance.choice(self.readers).send_lease()

    def attach(self) -> None:
        self.chance.choice(self.readers).attach()

    def silence(self) -> None:
        reader = self.chance.choice(self.readers)
        reader.mute_until = max(reader.mute_until, self.cell.now_ms + self.chance.choice((200, 1_000, 3_000)))

    def resume(self) -> None:
        heir = self.chance.choice(self.readers).resumed()
        if heir is not None:
            self.readers.append(heir)
        left = [reader for reader in self.readers if reader.left]
        if len(self.readers) > READERS_MAX:
            self.readers.remove(left[0])

    def read(self) -> None:
        """Somebody without a cache, at any replica."""
        if self.nodes:
            self.calls.add(self.cell.call("ls", self.chance.choice(self.nodes), path="/"))

    def write(self) -> None:
        node, chance = self.current(), self.chance
        if node is None:
            return
        writer, path, parents = chance.choice(self.writers), chance.choice(FILES), chance.random() < 0.5
        match chance.choice(("put", "put", "put", "delete", "delete", "mkdir", "lock", "release", "own", "txn", "end")):
            case "put":
                request = writer.call("put", node, path=path, contents=b"x", parents=parents)
            case "delete":
                request = writer.call("delete", node, path=chance.choice(FILES + DIRECTORIES[1:]))
            case "mkdir":
                request = writer.call("mkdir", node, path=chance.choice(DIRECTORIES[1:]), parents=parents)
            case "lock":
                request = writer.call("acquire", node, path=path, lock_delay_ms=chance.choice((0, 300)))
                self.holds.append((writer, writer.number))
            case "release" if self.holds:
                holder, hold = self.holds.pop(chance.randrange(len(self.holds)))
                request = holder.call("release", node, path="", hold=hold)
            case "own":
                request = writer.call("create", node, path=path, contents=b"e", ephemeral=True, parents=parents)
            case "end" if parents:
                request = writer.call("close_session", node)
            case _:
                request = writer.call(
                    "txn", node, guards=[], then=[self.step(path) for path in chance.sample(FILES, 2)]
                )
        self.calls.add(request)

    def step(self, path: str) -> dict[str, object]:
        if self.chance.random() < 0.5:
            return {"do": "delete", "path": path}
        return {"do": "put", "path": path, "contents": b"t", "parents": True}

    def hear(self) -> None:
        """What was answered was seen; a writer whose session has ended begins anew."""
        for request in [request for request in self.calls if request in self.cell.answers]:
            self.calls.discard(request)
            answer = self.cell.answers[request]
            if isinstance(answer, dict):
                self.truth.seen(answer)
        node = self.current()
        for at, writer in enumerate(self.writers):
            if node is not None and writer.session not in node.engine.machine.sessions:
                self.writers[at] = self.session(self.chance.choice((1_500, 12_000))) or writer

    def pass_time(self) -> None:
        self.cell.run(self.chance.choice((10, 50, 300)), tick_ms=self.chance.choice((10, 50)))
        node = self.current()
        if node is None:
            return
        for writer in self.writers:
            if self.chance.random() < 0.5:
                writer.keep_alive(node)
        for reader in self.readers:
            if reader.client is not None:
                reader.client.keep_alive(node)
            if not reader.queue and reader.hears:
                reader.attach()

    def fault(self) -> None:
        """One at a time; a replica that is cut off or down comes back by another one."""
        chance, cell, node = self.chance, self.cell, self.current()
        nodes = list(cell.nodes.values())
        if self.cut_off is not None:
            if cell.now_ms > self.cut_until:
                cell.heal()
                self.cut_off = None
            return
        match chance.choice(("hand over", "cut off", "crash", "votes")):
            case "hand over" if node is not None and len(nodes) > 1:
                node.engine.replica.hand_over(cell.now_ms, None)
            case "cut off" if len(nodes) > 1:
                self.cut_off, self.cut_until = chance.choice(nodes), cell.now_ms + chance.choice((300, 1_000, 4_000))
                cell.isolate(self.cut_off.replica)
            case "crash" if len(self.nodes) == len(nodes):
                chance.choice(nodes).crash()
            case "votes":
                self.votes_lost = not self.votes_lost
            case _:
                for down in nodes:
                    if not down.alive:
                        down.start()
