"""What there is at the place of a watch, as of one revision, gathered and told in pieces.

A subtree may have a hundred thousand nodes, so it is walked in turns, while it changes. What was walked already is kept
as of now: before each turn the changes since the last one are looked at, and the nodes that they name are looked at
again. When the walk ends, all of it is the state of that very revision, and no older state was ever needed.

Then it goes out in pieces, to all watchers that waited for it, each as its window allows; a piece is made once. Who
falls too far behind the first of them, or all of them where nobody gets on for long, is left out: it waits for another.
"""

from __future__ import annotations

from collections import deque

from coordclient.protocol.paths import parent_of
from coordd.engine.deliveries import DELIVERY_BYTES, Delivery, Glance, entry, entry_bytes, glance
from coordd.engine.places import Places
from coordd.engine.watchers import Group, Watch
from coordd.machine.machine import Machine

NODES_PER_TURN = 400
PIECES_KEPT = 8  # between the first and the last of those that wait for pieces


class Resync:
    """One gathering. `revision`: 0 until all is gathered."""

    def __init__(self, group: Group, places: Places, now_ms: int) -> None:
        self.group = group
        self.scope, self.path, self.values = group.scope, group.path, group.values
        self.revision = 0
        self.todo: dict[Watch, None] = {}  # may have a piece
        self.later: dict[Watch, None] = {}  # have had one in this round
        self.held: dict[Watch, None] = {}  # wait for room
        self.moved_ms = now_ms  # when somebody had a piece last
        self.told_from_ms = now_ms  # when all was gathered
        self._seen_upto = places.upto
        self._walk = [group.path]
        self._found: dict[str, Glance] = {}
        self._rest: deque[Glance] = deque()
        self._pieces: dict[int, Delivery] = {}
        self._made = 0

    # ---- gathering ----

    def gather(self, machine: Machine, places: Places, may_end: bool) -> bool:
        """One turn; True when everything is gathered. `may_end`: the state is the cell's present one."""
        self._look_again(machine, places)
        nodes = machine.state.nodes
        for _ in range(NODES_PER_TURN):
            if not self._walk:
                break
            path = self._walk.pop()
            node = nodes.get(path)
            if node is None:
                continue
            above = path == self.path
            if not (above and self.scope == "children"):
                self._found[path] = glance(node)
            if node.children is not None and (self.scope == "subtree" or (self.scope == "children" and above)):
                self._walk += [child.path for child in node.children.values()]
        if self._walk or not may_end:
            return False
        self.revision = places.upto
        self._rest.extend(self._found.values())
        self._found = {}
        return True

    def _look_again(self, machine: Machine, places: Places) -> None:
        if places.floor > self._seen_upto:  # nobody knows any more what has changed: from the beginning
            self._walk, self._found = [self.path], {}
        else:
            nodes, found = machine.state.nodes, self._found
            for change in places.after("subtree", self.path, self._seen_upto):
                path = change.path
                node, above = nodes.get(path), parent_of(path)
                if node is None:
                    found.pop(path, None)
                elif self.scope == "subtree" or (above if self.scope == "children" else path) == self.path:
                    found[path] = glance(node)
                if above in found and above in nodes:
                    found[above] = glance(nodes[above])  # it has another number of children
        self._seen_upto = places.upto

    # ---- pieces ----

    def piece(self, number: int) -> Delivery | None:
        """That piece; None when it is kept no more."""
        if number == self._made:
            self._pieces[number] = self._make(number)
            self._made += 1
        return self._pieces.get(number)

    def _make(self, number: int) -> Delivery:
        rest, values = self._rest, self.values
        size = 0
        rows: list[dict[str, object]] = []
        while rest and size < DELIVERY_BYTES:
            one = rest.popleft()
            size += entry_bytes(one, values)
            rows.append(entry(one, values))
        self._pieces.pop(number - PIECES_KEPT, None)
        body = {"revision": self.revision, "resync": True, "piece": number, "entries": rows, "more": bool(rest)}
        return Delivery(body, self.revision, size, len(rows))
