"""Bugs of agreement: each takes away one rule of the paper, or one that a model showed to be needed."""

from __future__ import annotations

from typing import Any

from coordd.paxos.acceptor import Acceptor
from coordd.paxos.ballot import Ballot
from coordd.paxos.effects import PromiseRecord
from coordd.paxos.election import Election, WholePromise
from coordd.paxos.learner import Learner
from coordd.paxos.proposer import Proposer
from coordd.paxos.replica import Replica
from coordd.paxos.state import State
from tests.simulation.planted import Bug, never_waits


def _believe_any_ballot(right: Any) -> Any:
    def believe(self: Any, ballot: Any, chosen_upto: int, sender: int) -> None:
        log = self._state.log
        while log.chosen_upto < chosen_upto:
            if log.chosen_upto + 1 not in log.entries:
                self.want(chosen_upto, sender)
                break
            self._state.advance()
        self._state.advance_learnt()

    return believe


def _vote_at_once(right: Any) -> Any:
    def start(self: Any, slot: int, value: bytes) -> None:
        right(self, slot, value)
        self._vote(self._state.replica, self.ballot, (slot,))

    return start


def _prefix_ignored(right: Any) -> Any:
    def winners(self: Any) -> Any:
        promises = right(self)
        if promises is None:
            return None
        upto = self._state.log.chosen_upto
        return [WholePromise(upto, promise.entries) for promise in promises]

    return winners


def _only_own_prefix(right: Any) -> Any:
    return lambda self: (self._state.log.chosen_upto, self._state.replica)


def _lowest_ballot(right: Any) -> Any:
    def recover(self: Any, ballot: Any, promises: list[WholePromise]) -> None:
        lowest: dict[int, Any] = {}
        for promise in promises:
            for slot, entry in promise.entries.items():
                if slot not in lowest or entry[0] < lowest[slot][0]:
                    lowest[slot] = entry
        right(self, ballot, [WholePromise(max(promise.chosen_upto for promise in promises), lowest)])

    return recover


def _nothing_adopted(right: Any) -> Any:
    def recover(self: Any, ballot: Any, promises: list[WholePromise]) -> None:
        right(self, ballot, [WholePromise(promise.chosen_upto, {}) for promise in promises])

    return recover


def _majority_less_one(right: Any) -> Any:
    def is_majority(self: Any, replicas: Any) -> bool:
        return len(set(self.voters).intersection(replicas)) >= max(1, self.majority - 1)

    return is_majority


def _accept_below_promise(right: Any) -> Any:
    def obeys(self: Any, message: Any, number: int) -> bool:
        state = self._state
        if message.ballot < state.promised and not state.mute:
            return True
        return bool(right(self, message, number))

    return obeys


def _serving_at_once(right: Any) -> Any:
    def init(self: Any, *arguments: Any, **named: Any) -> None:
        right(self, *arguments, **named)
        self.serving = True

    return init


def _counts_its_own_promise_at_once(right: Any) -> Any:
    def prepare(self: Any) -> None:
        right(self)
        state = self._state
        self.durable = True
        state.effects.send_now += state.effects.send_after_persist
        state.effects.send_after_persist = []

    return prepare


def _speak_at_once(right: Any) -> Any:
    """The answer of this handler leaves before the disk has what it says."""

    def handler(self: Any, message: Any) -> None:
        state = self._state
        before = len(state.effects.send_after_persist)
        right(self, message)
        state.effects.send_now += state.effects.send_after_persist[before:]
        del state.effects.send_after_persist[before:]

    return handler


def _promise_not_written(right: Any) -> Any:
    def promise(self: Any, ballot: Any) -> None:
        right(self, ballot)
        self.effects.persist = [one for one in self.effects.persist if not isinstance(one, PromiseRecord)]

    return promise


def _keeps_reigning(right: Any) -> Any:
    def settle(self: Any) -> None:
        if self.proposer is None:
            right(self)

    return settle


def _old_starts_heard(right: Any) -> Any:
    def init(self: Any, settings: Any, durable: Any, now_ms: int) -> None:
        durable.start = 1
        right(self, settings, durable, now_ms)

    return init


def _reigns_on_deaf(right: Any) -> Any:
    def tick_master(self: Any, proposer: Any) -> None:
        proposer.began_ms = proposer.progress_ms = self.state.now_ms
        right(self, proposer)

    return tick_master


def _named_by_the_round(right: Any) -> Any:
    return property(lambda self: self.round)


def _overwrites(right: Any) -> Any:
    def on_accept(self: Any, accept: Any) -> None:
        log = self._state.log

        def take(slot: int, ballot: Any, value: bytes) -> None:
            log.entries[slot] = (ballot, value)
            log.upto = max(log.upto, slot)

        log.is_chosen, log.accept = lambda slot: False, take
        try:
            right(self, accept)
        finally:
            del log.is_chosen, log.accept

    return on_accept


def _stands_unasked(right: Any) -> Any:
    return property(lambda self: self._willing is not None)


# Not here: that learning a chosen slot does not depose a serving master. It takes an answer to a question from before
# its reign, later than a whole reign of another that it has not heard of: `unit/paxos/test_rules.py` tests it (a
# serving master that learns a chosen slot from anybody else steps down), and the checker of later epochs looks for it.
BUGS = (
    Bug("late Accept overwrites a chosen slot", "consensus", "agreement", [(Acceptor, "on_accept", _overwrites)]),
    Bug("the question before Prepare skipped", "consensus", "agreement", [(Election, "is_wanted", _stands_unasked)]),
    Bug("deaf master keeps reigning", "consensus", "agreement", [(Replica, "_tick_master", _reigns_on_deaf)]),
    Bug("two masterships with one epoch", "consensus", "agreement", [(Ballot, "number", _named_by_the_round)]),
    Bug("chosen_upto believed across ballots", "consensus", "agreement", [(Learner, "believe", _believe_any_ballot)]),
    Bug("own vote counted before its fsync", "consensus", "agreement", [(Proposer, "_start", _vote_at_once)]),
    Bug(
        "gap closed below a promiser's prefix",
        "consensus",
        "agreement",
        [(Election, "winners", _prefix_ignored), (Election, "furthest", _only_own_prefix)],
    ),
    Bug("lower ballot's value adopted", "consensus", "agreement", [(Proposer, "recover", _lowest_ballot)]),
    Bug("nothing adopted from the promises", "consensus", "agreement", [(Proposer, "recover", _nothing_adopted)]),
    Bug("accepts below its promise", "consensus", "agreement", [(Acceptor, "_obeys", _accept_below_promise)]),
    Bug("epoch entry not awaited", "consensus", "agreement", [(Proposer, "__init__", _serving_at_once)]),
    Bug("Accepted sent before its fsync", "consensus", "agreement", [(Acceptor, "on_accept", _speak_at_once)]),
    Bug("Promise sent before its fsync", "consensus", "agreement", [(Acceptor, "on_prepare", _speak_at_once)]),
    Bug(
        "Prepare before its own promise is durable",
        "consensus",
        "agreement",
        [(Election, "prepare", _counts_its_own_promise_at_once)],
    ),
    Bug("promise not stored", "consensus", "agreement", [(State, "promise", _promise_not_written)]),
    Bug("deposed master goes on", "consensus", "agreement", [(Replica, "_settle", _keeps_reigning)]),
    Bug(
        "every start looks like the first",
        "consensus",
        "agreement",
        [(State, "__init__", _old_starts_heard), (State, "is_no_first_start", never_waits)],
    ),
)
