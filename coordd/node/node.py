"""One replica seen from its doors: the implementation of `coordd.node.service.Service`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from coordclient.protocol.errors import Refusal
from coordd.engine.inputs import Call, Gone
from coordd.node import clock
from coordd.node.driver import Driver
from coordd.node.hub import Deliver, Hub
from coordd.node.service import Health


class Node:
    """Queues calls for the driver and routes their replies. `addresses`: replica -> its `advertise` URL."""

    def __init__(
        self,
        cell: str,
        replica: int,
        addresses: Mapping[int, str],
        hub: Hub,
        driver: Driver,
        heard_ms_ago: Callable[[], Mapping[int, int | None]],
        inbox_max: int,
        version: str,
    ) -> None:
        self.cell = cell
        self.replica = replica
        self._addresses = dict(addresses)
        self._hub = hub
        self._driver = driver
        self._heard_ms_ago = heard_ms_ago
        self._inbox_max = inbox_max
        self._version = version
        self._started_ms = clock.now_ms()

    def new_request(self) -> int:
        """See `Service`."""
        return self._hub.new_request()

    def submit(self, call: Call, deliver: Deliver) -> None:
        """See `Service`."""
        self._hub.wait(call.request, deliver)
        loop = asyncio.get_running_loop()
        if call.operation == "status":
            loop.call_soon(self._hub.deliver, call.request, self._status())
        elif self._driver.queued >= self._inbox_max:
            refusal = Refusal(
                "overloaded", f"{self._driver.queued} calls wait at replica {self.replica}; try again later"
            )
            loop.call_soon(self._hub.deliver, call.request, refusal)
        else:
            self._driver.post(call)

    def gone(self, requests: tuple[int, ...]) -> None:
        """See `Service`."""
        if requests:
            self._hub.forget(requests)
            self._driver.post(Gone(requests))

    def address_of(self, replica: int | None) -> str | None:
        """See `Service`."""
        return None if replica is None else self._addresses.get(replica)

    def master(self) -> int | None:
        """See `Service`."""
        master = self._driver.status().get("master")
        return master if isinstance(master, int) else None

    def health(self) -> Health:
        """See `Service`."""
        status = self._status()
        role, master = status["role"], status["master"]
        serving = bool(status.get("serving", role == "master"))
        if role == "master":
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
                {"replica": replica, "address": address, "heard_ms_ago": heard.get(replica)}
                for replica, address in sorted(self._addresses.items())
            ],
        )
        return status
