"""KeepAlives of one mastership: answered at once, held for a while, or held back until an expiry is decided.

The master counts a session's lease anew when a KeepAlive arrives and again when it is answered; the client counts from
sending, which is before both. An answer is given only inside the master lease, checked at that moment.

*Held*: a client that speaks by POST may ask for an answer that is kept back for up to a third of its lease, and so
learns at once what there is to tell. There is one held KeepAlive for each session, the newest: another one ends the
hold of the one before. The hold ends when its time is over, when there is something new to tell, when the session ends
or is killed or resumed by another process, and with the mastership. Times wait in one heap, as in the lessor.

*Withheld*: from the moment an expiry is queued until it is decided, that session's KeepAlives are not answered.

What a session is told of its revoked holds comes with every answer until it has given them up, because any answer may
be lost; but only what no answer of this mastership has told yet ends a hold, or a client that needs a moment to give up
would ask without pause.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush

from coordclient.protocol.errors import Refusal
from coordd.engine.doors import session_expired
from coordd.engine.effects import Reply
from coordd.engine.inputs import Call
from coordd.engine.lessor import Lessor
from coordd.engine.pending import PendingCalls
from coordd.engine.reads import WaitingCall
from coordd.machine.machine import Session
from coordd.paxos.replica import Replica

_STALE_ENTRIES_MAX = 64  # in the heap, besides as many as there are true ones


class KeepAlives:
    """See the module docstring. All of it belongs to one reign and goes with `clear`.

    `notices` says what a session has to be told of its revoked holds; `reply` gives an answer.
    """

    def __init__(
        self,
        replica: Replica,
        lessor: Lessor,
        calls: PendingCalls,
        notices: Callable[[int], list[list[object]]],
        reply: Callable[[Reply], None],
    ) -> None:
        self._replica = replica
        self._lessor = lessor
        self._calls = calls
        self._notices = notices
        self._reply = reply
        self._held: dict[int, tuple[int, WaitingCall]] = {}  # session -> until when, and what
        self._heap: list[tuple[int, int]] = []  # until when, session; stale where `_held` says otherwise
        self._withheld: dict[int, list[WaitingCall]] = {}
        self._news: dict[int, None] = {}  # sessions whose hold ends because there is something to tell
        self._told: dict[int, list[list[object]]] = {}  # what was told of revoked holds
        self._heard: dict[int, int] = {}  # session -> when its last KeepAlive arrived
        self._now_ms = 0

    # ---- one KeepAlive ----

    def take(self, call: Call, session: Session, since_ms: int, now_ms: int) -> None:
        """A KeepAlive that arrived at `since_ms` and may be answered now, inside the lease."""
        self._now_ms = now_ms
        self._heard[session.id] = since_ms
        self._lessor.renew(session.id, session.lease_ms)
        self._let_go(session)
        hold_ms = call.arguments["hold_ms"]
        assert isinstance(hold_ms, int)
        until_ms = since_ms + min(hold_ms, session.lease_ms // 3)
        if until_ms <= now_ms or self._has_news(session) or self._calls.full(call.operation) is not None:
            self._answer(call, session)
            return
        held = self._calls.open[call.request] = WaitingCall(call, since_ms)
        self._held[session.id] = (until_ms, held)
        heappush(self._heap, (until_ms, session.id))
        if len(self._heap) > 2 * len(self._held) + _STALE_ENTRIES_MAX:
            self._heap = [(until, number) for number, (until, _) in self._held.items()]
            heapify(self._heap)

    def _has_news(self, session: Session) -> bool:
        """True when a hold of that session was revoked and no answer has said so yet."""
        told = self._told.get(session.id, ())
        return any(notice not in told for notice in self._notices(session.id))

    def _answer(self, call: Call, session: Session) -> None:
        assert self._replica.lease_valid(self._now_ms), "the one rule"
        assert session.mute is None, "no KeepAlive is answered whose process was killed or has left"
        self._lessor.renew(session.id, session.lease_ms)
        result: dict[str, object] = {
            "number": call.arguments["number"],
            "epoch": self._replica.epoch,
            "lease_ms": session.lease_ms,
            "members": self._replica.membership.version,
        }
        notices = self._notices(session.id)
        if notices:
            result["revoked"] = self._told[session.id] = notices
        else:
            self._told.pop(session.id, None)
        self._reply(Reply(call.request, result))

    # ---- held ----

    def end_holds(self, sessions: Mapping[int, Session], now_ms: int) -> None:
        """Answer those that were held long enough, or that there is something to tell.

        Outside the lease they wait on, until it is regained. All commands that were chosen have had their say before,
        so nobody is answered who was killed, or lost his session, by a later command of the same batch.
        """
        self._now_ms = now_ms
        if not self._lessor.ruling:
            return
        news, self._news = self._news, {}
        for session in news:
            if session in self._held:
                self._let_go(sessions[session])
        while self._heap and self._heap[0][0] <= now_ms:
            until_ms, session = heappop(self._heap)
            if session in self._held and self._held[session][0] == until_ms:
                self._let_go(sessions[session])

    def tell(self, session: int) -> None:
        """There is something to tell that session, if a KeepAlive of it is held."""
        if session in self._held:
            self._news[session] = None

    def _let_go(self, session: Session) -> None:
        """Answer what is held for that session, if somebody still waits for it."""
        held = self._taken(session.id)
        if held is not None:
            self._answer(held.call, session)

    def _taken(self, session: int) -> WaitingCall | None:
        _, held = self._held.pop(session, (0, None))
        if held is None or held.gone:
            return None
        del self._calls.open[held.call.request]
        return held

    def held(self, session: int) -> Call | None:
        """The KeepAlive that is held for that session, if there is one."""
        return self._held[session][1].call if session in self._held else None

    def refuse(self, session: int, refusal: Refusal) -> None:
        """Its process has lost the session, or left it: what is held is told so, and nothing is renewed."""
        held = self._taken(session)
        if held is not None:
            self._reply(Reply(held.call.request, refusal))

    def ended(self, session: int) -> None:
        """The session has ended."""
        self.refuse(session, session_expired(session))
        self._told.pop(session, None)
        self._heard.pop(session, None)

    # ---- withheld ----

    def withhold(self, call: Call, since_ms: int) -> None:
        """An expiry of that session is on its way; room was checked."""
        held = self._calls.open[call.request] = WaitingCall(call, since_ms)
        self._withheld.setdefault(call.session, []).append(held)

    def decided(self, session: int) -> list[WaitingCall]:
        """The expiry was applied: what was held back goes on, whatever it finds."""
        return self._withheld.pop(session, [])

    # ---- what people ask ----

    def heard(self, session: int, now_ms: int) -> None:
        """That session gave a sign of life which is no KeepAlive: it was opened, or resumed. Who has it now was told
        nothing yet."""
        self._heard[session] = now_ms
        self._told.pop(session, None)

    def heard_ms_ago(self, session: int, now_ms: int) -> int | None:
        """How long ago this mastership heard that session; None when it has not heard it yet."""
        heard_ms = self._heard.get(session)
        return None if heard_ms is None else now_ms - heard_ms

    def clear(self) -> None:
        """The mastership is over; those who wait were told by its end."""
        self._held, self._heap, self._news = {}, [], {}
        self._withheld, self._told, self._heard = {}, {}, {}
