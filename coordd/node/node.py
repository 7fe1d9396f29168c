"""One replica seen from its doors: the implementation of `coordd.node.service.Service`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from coordclient.protocol.errors import Refusal
from coordd.engine.inputs import Call, Congested, Gone
from coordd.node import clock
from coordd.node.audit import AUDITED, AuditedCall
from coordd.node.directory import Directory
from coordd.node.driver import Driver
from coordd.node.hub import Deliver, Hub, TakePiece
from coordd.node.service import Health

# What others wait for, or what a session or a cache lives by: it overtakes everything else that waits for a step. Calls
# of one session that are in flight together may take effect in any order, so nobody can tell but by the clock.
URGENT = frozenset({"keep_alive", "attach", "release", "give_up", "acknowledge_kill", "invalidated", "cache_lease"})


class Node:
    """Queues calls for the driver and routes their replies. `may_grow`: the cell has a secret for more replicas."""

    def __init__(
        self,
        cell: str,
        replica: int,
        directory: Directory,
        hub: Hub,
        driver: Driver,
        heard_ms_ago: Callable[[], Mapping[int, int | None]],
        inbox_max: int,
        version: str,
        may_grow: bool = True,
    ) -> None:
        self.cell = cell
        self.replica = replica
        self._directory = directory
        self._may_grow = may_grow
        self._hub = hub
        self._driver = driver
        self._heard_ms_ago = heard_ms_ago
        self._inbox_max = inbox_max
        self._version = version
        self._started_ms = clock.now_ms()
        self._audited: dict[int, AuditedCall] = {}  # those on their way

    def new_request(self) -> int:
        """See `Service`."""
        return self._hub.new_request()

    def submit(self, call: Call, deliver: Deliver, push: TakePiece | None = None) -> None:
        """See `Service`."""
        urgent = call.operation in URGENT
        if call.operation in AUDITED:
            deliver = self._audit(call, deliver)
        self._hub.wait(call.request, deliver, push)
        loop = asyncio.get_running_loop()
        if call.operation == "status":
            loop.call_soon(self._hub.deliver, call.request, self._status())
        elif call.operation == "add_member" and not self._may_grow:
            text = "this cell has no secret by which replicas know each other; give replica 1 a cell.secret_file first"
            loop.call_soon(self._hub.deliver, call.request, Refusal("conflict", text))
        elif (queued := self._driver.queued_urgent if urgent else self._driver.queued) >= self._inbox_max:
            refusal = Refusal("overloaded", f"{queued} calls wait at replica {self.replica}; try again later")
            loop.call_soon(self._hub.deliver, call.request, refusal)
        else:
            self._driver.post(call, urgent)

    def _audit(self, call: Call, deliver: Deliver) -> Deliver:
        audited = self._audited[call.request] = AuditedCall(call, deliver)

        def answered(result: dict[str, object] | Refusal) -> None:
            del self._audited[call.request]
            audited(result)

        return answered

    def gone(self, requests: tuple[int, ...]) -> None:
        """See `Service`. An audited call is waited for, by its line."""
        for request in requests:
            if request in self._audited:
                self._audited[request].leave()
        left = tuple(request for request in requests if request not in self._audited)
        if left:
            self._hub.forget(left)
            self._driver.post(Gone(left))

    def congested(self, channel: int, full: bool) -> None:
        """See `Service`. Ahead of all that waits: it bounds what is sent meanwhile."""
        self._driver.post(Congested(channel, full), urgent=True)

    def address_of(self, replica: int | None) -> str | None:
        """See `Service`."""
        return self._directory.address_of(replica)

    def master(self) -> int | None:
        """See `Service`."""
        master = self._driver.status().get("master")
        return master if isinstance(master, int) else None

    def health(self) -> Health:
        """See `Service`."""
        status = self._status()
        role, master = status["role"], status["master"]
        serving = bool(status.get("serving", role == "master"))
        standing = status.get("standing", "voter")
        if standing in ("joining", "removed"):
            ready, said = False, f"{standing}: no member of the cell"
        elif role == "master":
            ready, said = serving, "ok" if serving else "master, not yet serving"
        elif master is not None:
            ready, said = True, "ok"
        else:
            ready, said = False, f"{role} without a master"
        return Health(ready, {"cell": said}, status)

    def _status(self) -> dict[str, object]:
        status: dict[str, object] = dict(self._driver.status())
        master = status.get("master")
        heard = {**self._heard_ms_ago(), self.replica: 0}
        status.update(
            cell=self.cell,
            replica=self.replica,
            version=self._version,
            master_address=self.address_of(master if isinstance(master, int) else None),
            uptime_ms=clock.now_ms() - self._started_ms,
            members=[
                {"replica": replica, "voter": voter, "address": address, "heard_ms_ago": heard.get(replica)}
                for replica, voter, address in self._directory.members()
            ],
        )
        return status
