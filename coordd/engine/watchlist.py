"""Every watch of one reign: by its request, by the channel and call that it came by, and by what it is about."""

from __future__ import annotations

from collections.abc import Set

from coordclient.protocol.errors import Refusal
from coordd.engine.inputs import Call
from coordd.engine.settings import EngineSettings
from coordd.engine.watchers import Group, Line, Watch

Key = tuple[str, str]  # scope and path


class WatchList:
    """`watches` by request; `lines` by channel; `groups` by scope and path, then by values. `full`: channels whose
    clients do not read, as somebody else keeps them."""

    def __init__(self, settings: EngineSettings, full: Set[int]) -> None:
        self._settings = settings
        self._full = full
        self.watches: dict[int, Watch] = {}
        self.lines: dict[int, Line] = {}
        self.groups: dict[Key, dict[str, Group]] = {}

    def objection(self, call: Call) -> Refusal | None:
        """Why there may be no such watch, if so."""
        settings, line = self._settings, self.lines.get(call.channel)
        if len(self.watches) >= settings.watches_max:
            text = f"{len(self.watches)} watches are open at this replica; the limit is {settings.watches_max}"
            return Refusal("limit", text)
        if line is not None and call.call in line.calls:
            return Refusal("bad_request", f"watch: call {call.call} of this channel is a watch already")
        if line is not None and len(line.calls) >= settings.watches_per_channel_max:
            limit = settings.watches_per_channel_max
            return Refusal("limit", f"{len(line.calls)} watches are open on this channel; the limit is {limit}")
        return None

    def add(self, call: Call, cursor: int) -> Watch:
        """One more, to which nobody objects; in none of its group's places yet."""
        path, scope, values = (str(call.arguments[name]) for name in ("path", "scope", "values"))
        alike = self.groups.setdefault((scope, path), {})
        group = alike.get(values)
        if group is None:
            group = alike[values] = Group(path, scope, values)
        group.count += 1
        line = None
        if call.channel:
            line = self.lines.get(call.channel)
            if line is None:
                line = self.lines[call.channel] = Line(call.channel, call.channel in self._full)
        watch = self.watches[call.request] = Watch(call.request, call.call, line, group, cursor)
        if line is not None:
            line.calls[call.call] = watch
        return watch

    def named(self, call: Call) -> Watch | None:
        """The watch of the same channel that a call is about, if there is (still) one."""
        line, number = self.lines.get(call.channel), call.arguments["watch"]
        assert isinstance(number, int)
        return None if line is None else line.calls.get(number)

    def remove(self, watch: Watch) -> None:
        """It is over; in no resync any more."""
        group, line = watch.group, watch.line
        del self.watches[watch.request]
        group.rest.pop(watch, None)
        group.todo.pop(watch, None)
        if line is not None:
            del line.calls[watch.call]
            line.held.pop(watch, None)
            if not line.calls:
                del self.lines[line.number]
        group.count -= 1
        if not group.count:
            key = (group.scope, group.path)
            del self.groups[key][group.values]
            if not self.groups[key]:
                del self.groups[key]
