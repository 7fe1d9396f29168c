"""Whether what this master knows may be seen, and what waits as long as it may not.

What is chosen is applied at once. But it must not be seen while somebody may believe otherwise from a cache:

* a new master waits until no cache lease of an earlier one can run (`Replica.may_show`);
* where a batch has changed what somebody holds who was not asked before, nothing is seen until he has dropped it or his
  lease is over. A *veil* lies over the state meanwhile.

Not seen means: no read is answered, no result of a command is told, no event of a watch is delivered. KeepAlives and
acknowledgements go on. A result that waits here when the mastership ends is told to nobody: the client hears that the
outcome is unknown, and the next master waits for the same leases.

That the state itself is ahead changes nothing: nobody can tell it from one that waits with the apply, except that apply
has already said *exactly* what it changed, which no forecast could.
"""

from __future__ import annotations

from coordclient.protocol.errors import Refusal
from coordd.engine.effects import Push, Reply
from coordd.engine.reads import WaitingCall, WaitingCalls
from coordd.engine.settings import EngineSettings
from coordd.paxos.replica import Replica


class Visibility:
    """See the module docstring. All of it belongs to one reign."""

    def __init__(self, settings: EngineSettings, replica: Replica) -> None:
        self._replica = replica
        self._veils = 0
        self._results: list[Reply | Push] = []
        self._reads = WaitingCalls(settings)
        self.now_ms = 0

    @property
    def clear(self) -> bool:
        """True when the state may be seen as it is."""
        return not self._veils and self._replica.may_show(self.now_ms)

    def results(self, seen: list[Reply | Push]) -> list[Reply | Push]:
        """Where the results of commands go that are applied now: `seen`, or the place where they wait."""
        return seen if self.clear else self._results

    def veil(self) -> None:
        """Somebody may believe in what was true before the last batch."""
        self._veils += 1

    def lift(self) -> None:
        """Nobody does any more; other veils may lie on."""
        assert self._veils
        self._veils -= 1

    def full(self, waiting: WaitingCall) -> str | None:
        """Which limit forbids one more read that waits, if any."""
        return self._reads.full(waiting)

    def wait(self, waiting: WaitingCall) -> None:
        """A read that may not be answered now; room was checked."""
        assert not self.clear
        self._reads.add(waiting)

    def take(self) -> tuple[list[Reply | Push], list[WaitingCall]]:
        """What waits no more, when the state may be seen again: results, and reads that somebody still wants."""
        if not (self._results or len(self._reads)) or not self.clear:
            return [], []
        results, self._results = self._results, []
        return results, self._reads.take_all()

    def take_late(self, before_ms: int) -> list[WaitingCall]:
        """Reads that came before `before_ms`."""
        return self._reads.take_late(before_ms)

    def clear_all(self) -> list[Reply]:
        """The mastership is over: what is to be said instead of the results that wait here."""
        unknown = Refusal(
            "outcome_unknown", "the mastership ended before the outcome could be told; retry the same call"
        )
        told = [Reply(result.request, unknown) for result in self._results if isinstance(result, Reply)]
        self._veils, self._results = 0, []
        self._reads.clear()
        return told
