"""The calls of one client on its channel: what is sent, and what an answer, or an error, means for call and channel."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Protocol

from coordclient.aio.channel import Channel, Frames, refusal_of
from coordclient.aio.life import Life, settle, settle_error
from coordclient.aio.link import Link
from coordclient.aio.pulse import Pulse
from coordclient.calls import Call, Then, Verdict
from coordclient.endpoints import CHANCE_MAX
from coordclient.errors import BadRequest, TooLarge
from coordclient.protocol.errors import ERRORS, Action
from coordclient.protocol.frames import FRAME_BYTES_MAX, frame
from coordclient.serving import Serving
from coordclient.session import Reading


class Owner(Protocol):
    """Whose calls they are."""

    life: Life | None

    def due_by(self, at_ms: int) -> None:
        """A call is to be sent again then, by the first clock."""


class Traffic:
    """See the module docstring."""

    def __init__(self, link: Link, serving: Serving, pulse: Pulse, clocks: Callable[[], Reading], owner: Owner) -> None:
        self._link = link
        self._serving = serving
        self._pulse = pulse
        self._clocks = clocks
        self._owner = owner
        self._chance = random.Random()

    def draw(self) -> int:
        """By chance, for a back-off."""
        return self._chance.randrange(CHANCE_MAX)

    def send(self, channel: Channel, life: Life, call: Call) -> None:
        """One call goes out on the channel; or ends by its error, where it never can."""
        try:
            payload = frame([call.number, call.operation, call.arguments, life.calls.acked])
        except (TypeError, ValueError, OverflowError) as error:
            life.calls.give_up(call)
            settle_error(call.tag, BadRequest(f"{call.operation}: an argument cannot be sent: {error}"))
            return
        if len(payload) - 4 > FRAME_BYTES_MAX:  # the replica would cut the channel, and all that is on it
            text = f"{call.operation}: it has {len(payload) - 4} bytes; the limit of one call is {FRAME_BYTES_MAX}"
            life.calls.give_up(call)
            settle_error(call.tag, TooLarge(text))
            return
        life.calls.sent(call)
        channel.send(payload)

    def flush(self, life: Life) -> None:
        """Use the room in the window, and send whatever may be sent now."""
        life.make_room()
        channel = self._link.channel
        if channel is not None and life is self._owner.life:
            for call in life.calls.due(self._clocks()[0]):
                self.send(channel, life, call)

    def arrived(self, channel: Channel, frames: Frames) -> None:
        """The frames of one message."""
        life = self._owner.life
        if life is None or channel is not self._link.channel:
            for item in frames:
                channel.answer(item)
            return
        leave, served = None, False
        succeeded = life.calls.succeeded
        for item in frames:
            if len(item) == 2:
                call = succeeded(item[0])
                if call is not None:
                    served = True
                    settle(call.tag, item[1])
                else:
                    self._own_answer(life, channel, item)
            elif len(item) == 4:
                channel.answer(item)
            else:
                leave = self._refused(life, channel, item) or leave
        if served:
            self._serving.served()
        if life.over is None and (life.backlog or life.room):
            self.flush(life)
        if leave is not None and life.over is None:
            if leave.then is Then.GO_TO_MASTER:
                self._link.go_to(leave.address)
            else:
                channel.lose("the session has a newer channel")

    def _refused(self, life: Life, channel: Channel, item: list[Any]) -> Verdict | None:
        """Deal with an error; the verdict, if the channel is to be left."""
        refusal = refusal_of(item)
        if refusal is None or item[0] in life.keep_alives or item[0] == 0:
            self._own_answer(life, channel, item)
            return None
        now_ms = self._clocks()[0]
        verdict = life.calls.refused(item[0], refusal, now_ms, self.draw())
        if verdict is None:
            channel.answer(item)
            return None
        if verdict.error is not None:
            settle_error(verdict.call.tag, verdict.error)
        if verdict.then is Then.SESSION_OVER:
            self._pulse.session_over(life, refusal)
        elif verdict.then is Then.RETRY:
            self._serving.refused(refusal.code, now_ms)
            self._owner.due_by(verdict.call.retry_ms)
        return verdict if verdict.then in (Then.GO_TO_MASTER, Then.LEAVE) else None

    def _own_answer(self, life: Life, channel: Channel, item: list[Any]) -> None:
        """An answer to what is not in the table of calls: a KeepAlive, a request of the channel's own, or call 0."""
        number = life.keep_alives.pop(item[0], None)
        refusal = refusal_of(item)
        if number is None:
            if item[0] == 0 and refusal is not None and ERRORS[refusal.code].action is Action.NEW_SESSION:
                self._pulse.session_over(life, refusal)
            channel.answer(item)
        elif refusal is None:
            self._pulse.renewed(life, channel, number, item[1])
        else:
            self._pulse.refused(life, refusal)
