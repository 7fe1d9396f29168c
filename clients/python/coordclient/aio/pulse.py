"""The KeepAlives of one client: when one is sent, and what an answer to one, or a refusal, means for its session.

The answer is also how the cell tells a holder that an operator has revoked or broken a lock of his.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from coordclient.aio.channel import Channel
from coordclient.aio.life import Life, over_of
from coordclient.aio.link import Link
from coordclient.endpoints import Endpoints
from coordclient.errors import CoordError
from coordclient.holds import Hold
from coordclient.protocol.errors import ERRORS, Action, Refusal
from coordclient.protocol.frames import frame
from coordclient.serving import Serving
from coordclient.session import Reading, State


class Owner(Protocol):
    """What the pulse tells, in the loop."""

    def give_up(self, life: Life, now: Reading) -> None:
        """Tell the holders of what is over by these clocks."""

    def lost(self, hold: Hold) -> None:
        """This hold is over: tell its holder."""

    def ended(self, life: Life, error: CoordError) -> None:
        """The session is over."""

    def tell(self, state: State) -> None:
        """The session is in this state now."""

    def tick(self) -> None:
        """Something has changed that time depends on."""


class Pulse:
    """See the module docstring."""

    def __init__(
        self,
        endpoints: Endpoints,
        link: Link,
        serving: Serving,
        clocks: Callable[[], Reading],
        owner: Owner,
    ) -> None:
        self._endpoints = endpoints
        self._link = link
        self._serving = serving
        self._clocks = clocks
        self._owner = owner

    def send(self, life: Life, now: Reading) -> None:
        """Send a KeepAlive when one is due, or when the silence of the cell is to be told from a slow answer."""
        channel, session, serving = self._link.channel, life.session, self._serving
        waiting = bool(life.keep_alives) or life.calls.expects_answer()
        serving.tick(now[0], None if channel is None else channel.received, waiting)
        if channel is None or session is None:
            return
        if (reason := serving.why_leave(now[0])) is not None:
            self._link.leave(reason)
        elif session.keep_alive_due_ms(now) <= 0 or (serving.doubtful and not life.keep_alives):
            number = life.calls.reserve()
            life.keep_alives[number] = session.transmit(now)
            channel.send(frame([number, "keep_alive", {"number": life.keep_alives[number]}, life.calls.acked]))

    def renewed(self, life: Life, channel: Channel, number: int, answer: object) -> None:
        """The answer to transmission `number`."""
        session = life.session
        now = self._clocks()
        fields = answer if isinstance(answer, dict) else {}
        epoch, lease_ms = fields.get("epoch"), fields.get("lease_ms")
        if session is None or not isinstance(epoch, int) or not isinstance(lease_ms, int):
            self._link.leave("answers a KeepAlive by something else")
            return
        self._owner.give_up(life, now)  # first: what is over is over, whatever was waiting in a buffer
        if epoch < session.epoch:
            self._link.leave(f"is a master of epoch {epoch}, which is over")
        else:
            # Whatever it renews, what it takes away is gone: before the lease grows, so that nothing believes in both.
            self._revoked(life, fields.get("revoked"), now)
            if session.answered(number, epoch, lease_ms, now):
                self._serving.served()
                self._endpoints.connected(channel.address)
                self._link.members_are(fields.get("members"), life, channel)
                self._owner.tell(State.ACTIVE)
                life.wake()
        self._owner.tick()

    def refused(self, life: Life, refusal: Refusal) -> None:
        """A KeepAlive was refused."""
        action = ERRORS[refusal.code].action
        if action is Action.NEW_SESSION:
            self.session_over(life, refusal)
        elif action is Action.GO_TO_MASTER:
            to = refusal.details.get("address")
            self._link.go_to(to if isinstance(to, str) else None)
        elif action is Action.RETRY:
            self._serving.refused(refusal.code, self._clocks()[0])
        else:
            self._link.leave(f"refuses a KeepAlive: {refusal.code}: {refusal.message}")

    def session_over(self, life: Life, refusal: Refusal) -> None:
        """The cell says that the session is over. Where an operator has killed it the cell waits, at most a lease, to
        hear that nobody believes in its locks any more."""
        holds = list(life.holds.all.values())
        if refusal.code == "session_killed" and life.over is None and not life.doubtful(self._clocks()):
            wait_ms = max((hold.stop_margin_ms for hold in holds), default=0)
            self._link.say_last(life, "acknowledge_kill", lambda: life.all_stopped(holds, wait_ms))
        self._owner.ended(life, over_of(refusal))

    def _revoked(self, life: Life, rows: Any, now: Reading) -> None:
        for row in rows if isinstance(rows, list) else ():
            match row:
                case [str(path), int(number), reason]:
                    why = f"an operator has taken it away: {reason}"
                    hold = life.holds.revoked(path, number, why, now, number in life.calls.pending)
                    if hold is not None:
                        self._owner.lost(hold)
