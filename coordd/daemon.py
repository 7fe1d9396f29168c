"""The composition root: one replica from its settings to its end.

Start: the log's set-up; the data directory (recovered, or made where it is empty); the machine from its snapshot; the
engine; the listener (bound before the first word to a peer); driver and links; READY. Stop, on SIGTERM or SIGINT: the
mastership is handed over, what can be answered is answered, the doors close, the log is let go.

Whatever breaks a promise ends the process at once, by an exit status of its own:

| status | why | started again by a supervisor? |
|---|---|---|
| 0 | stopped in order | no |
| 2 | the configuration | no |
| 65 | the data directory is damaged, not ours, or behind what its peers know | no |
| 69 | the data directory or the port is in use | yes |
| 70 | a bug: a broken assertion or an unexpected exception | yes |
| 72 | the replica was removed from the cell | no |
| 74 | the disk: a sync or another call failed | no |
| 76 | the state is not that of the other replicas | no |
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import structlog

from coordclient.protocol.paths import cell_id
from coordd import host
from coordd.api.app import Doors, open_doors
from coordd.api.limits import ApiLimits
from coordd.config import cautions
from coordd.engine.effects import RoleChange
from coordd.engine.engine import Engine
from coordd.engine.inputs import HandOverRequest
from coordd.engine.settings import EngineSettings
from coordd.exits import Exit
from coordd.machine import snapshot
from coordd.machine.machine import Machine
from coordd.node import clock
from coordd.node.directory import Directory
from coordd.node.driver import Diverged, Driver, Outlets, RemovedFromCell, StopRequired
from coordd.node.hub import Hub
from coordd.node.node import Node
from coordd.node.snapshotter import ForkingSnapshotter
from coordd.notify import Supervisor
from coordd.observe import configure_logging
from coordd.paxos.membership import Membership
from coordd.paxos.messages import Message
from coordd.paxos.starts import count_of
from coordd.paxos.state import PaxosSettings
from coordd.settings import Settings
from coordd.storage.disk import RealDisk
from coordd.storage.errors import (
    AlreadyRunningError,
    DamagedError,
    DiskFailedError,
    DiskFullError,
    StorageError,
    UnknownFormatError,
    WrongDirectoryError,
)
from coordd.storage.store import Store
from coordd.transport.hello import Identity
from coordd.transport.links import Links

HOUSEKEEPING_SECONDS = 1.0
COLLECT_AFTER_CONNECTIONS = 5_000
COLLECT_EVERY_MS_MIN, COLLECT_EVERY_MS_MAX = 60_000, 900_000

_log = structlog.get_logger("coordd")


@dataclass(frozen=True, slots=True)
class _Replica:
    """The parts of one running replica."""

    settings: Settings
    driver: Driver
    directory: Directory
    node: Node
    links: Links
    doors: Doors
    listener: socket.socket
    not_master: asyncio.Event


def run(settings: Settings, stop_on_eof: bool = False) -> int:
    """Run one replica until it is told to stop, or must; the exit status."""
    configure_logging(
        settings.observe.level, settings.observe.format, cell=settings.cell.name, replica=settings.replica.id
    )
    for text in cautions(settings):
        _log.warning("caution", text=text)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_run(settings, stop_on_eof))
    except (DamagedError, UnknownFormatError, WrongDirectoryError, StopRequired) as error:
        return _end(Exit.DATA, error)
    except RemovedFromCell as error:
        return _end(Exit.REMOVED, error)
    except Diverged as error:
        return _end(Exit.DIVERGED, error)
    except AlreadyRunningError as error:
        return _end(Exit.IN_USE, error)
    except (DiskFailedError, DiskFullError) as error:
        return _end(Exit.DISK, error)
    except StorageError as error:
        return _end(Exit.DATA, error)
    except host.CannotListen as error:
        return _end(Exit.IN_USE, error)
    except BaseException:
        _log.critical("a bug ended this replica", exc_info=True)
        return Exit.BUG


def _end(status: int, error: Exception) -> int:
    _log.critical("this replica cannot go on", status=int(status), reason=str(error), kind=type(error).__name__)
    return status


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # the extra `speed` is not installed
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _run(settings: Settings, stop_on_eof: bool) -> int:
    supervisor = Supervisor(os.environ)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.set_exception_handler(_log_unhandled)
    if stop_on_eof:
        host.call_at_end_of_stdin(loop, stop.set)
    listener = host.bind(settings.replica.host, settings.replica.port)
    try:
        store = _open_store(settings)
    except BaseException:
        listener.close()
        raise
    try:
        await _live(await _compose(settings, store, listener, supervisor), supervisor, stop)
    except BaseExceptionGroup as group:
        raise _first_leaf(group) from group
    finally:
        store.close()
        listener.close()
    return Exit.OK


def _log_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What fails in a callback of one connection ends that connection at most; the driver fails by its own way."""
    _log.error("a callback failed: this is a bug", said=context.get("message"), exc_info=context.get("exception"))


# ---- composition ----


def _open_store(settings: Settings) -> Store:
    own, voters, lease_ms = settings.replica.id, settings.voters, settings.cell.lease_ms
    if settings.replica.join:
        bootstrap = Membership(0, tuple(voter for voter in voters if voter != own), (own,), lease_ms)
    else:
        bootstrap = Membership(1, voters, (), lease_ms)
    return Store.open(
        RealDisk(),
        str(settings.replica.data),
        settings.cell.name,
        settings.replica.id,
        bootstrap,
        segment_bytes=settings.log.segment_bytes,
        check_state=snapshot.refusal_of,
    )


async def _compose(settings: Settings, store: Store, listener: socket.socket, supervisor: Supervisor) -> _Replica:
    cell, replica, directory = settings.cell.name, settings.replica.id, Directory(settings.addresses)
    state, store.snapshot_state = store.snapshot_state, None
    machine = Machine(cell) if state is None else Machine.restore(state)
    engine = Engine(_engine_settings(settings), store.durable, machine, clock.now_ms())
    hub = Hub(directory.address_of)
    not_master = asyncio.Event()
    not_master.set()

    def send(addressed: Sequence[tuple[int, Message]]) -> None:
        links.send(addressed)

    def role_changed(role: RoleChange) -> None:
        if role.role == "master":
            not_master.clear()
        else:
            not_master.set()
        _log.info("role", role=role.role, master=role.master, epoch=role.epoch)
        supervisor.status(f"{role.role}, master {role.master or 'unknown'}, epoch {role.epoch}")

    def membership_changed(membership: Membership) -> None:
        directory.follow(membership)
        links.follow(directory.to_dial(), membership.has_removed)
        said = {"version": membership.version, "voters": membership.voters, "learners": membership.learners}
        _log.info("membership", **said)

    def founding() -> str:
        return engine.replica.membership.founding

    identity = Identity(cell_id(cell), replica, store.durable.start, settings.secret())
    outlets = Outlets(send, hub.deliver, hub.push, role_changed, membership_changed)
    driver = Driver(engine, store, ForkingSnapshotter(store), outlets)
    outbox_bytes = settings.limits.peer_outbox_bytes
    links = Links(identity, directory.to_dial(), outbox_bytes, driver.post_message, engine.replica.dismissal, founding)
    may_grow = settings.cell.secret_file is not None
    node = Node(cell, replica, directory, hub, driver, links.heard_ms_ago, settings.limits.inbox, _version(), may_grow)
    idle_seconds = settings.http.idle_timeout_ms / 1000
    doors = await open_doors(node, _api_limits(settings), links.accept, idle_seconds)
    count = count_of(identity.start)
    if count == 1:  # where a mount is missing, this is how it shows
        _log.warning("a new data directory was begun", data=str(settings.replica.data))
    _log.info("recovered", start=count, chosen_upto=store.durable.chosen_upto, data=str(settings.replica.data))
    return _Replica(settings, driver, directory, node, links, doors, listener, not_master)


def _engine_settings(settings: Settings) -> EngineSettings:
    cell = settings.cell
    paxos = PaxosSettings(
        replica=settings.replica.id,
        drift_ppm=cell.drift_ppm,
        heartbeat_ms=cell.heartbeat_ms,
        election_jitter_ms=cell.election_jitter_ms,
        window_slots=settings.limits.window,
    )
    bytes_max = settings.log.snapshot_after_bytes
    return EngineSettings(
        paxos=paxos,
        snapshot_log_bytes=bytes_max,
        addresses=settings.addresses,
        watches_max=settings.limits.watches,
        watches_per_channel_max=settings.limits.channel_watches,
    )


def _api_limits(settings: Settings) -> ApiLimits:
    limits, http = settings.limits, settings.http
    connections = host.connections_allowed(limits.connections)
    if connections < limits.connections:
        _log.warning("fewer connections than configured: raise the limit on open files", connections=connections)
    return ApiLimits(
        connections=connections,
        body_bytes=limits.body_bytes,
        outbox_bytes=limits.outbox_bytes,
        channel_in_flight=limits.channel_calls,
        posts_in_flight=limits.post_calls,
        body_seconds=http.body_timeout_ms / 1000,
        head_seconds=http.body_timeout_ms / 1000,
        hello_seconds=http.body_timeout_ms / 1000,
        call_seconds=http.call_timeout_ms / 1000,
    )


def _version() -> str:
    try:
        return version("coordd")
    except PackageNotFoundError:
        return "source"


# ---- life ----


async def _live(replica: _Replica, supervisor: Supervisor, stop: asyncio.Event) -> None:
    """Serve until `stop`; any failure of any part ends all of them."""
    loop = asyncio.get_running_loop()
    server: asyncio.Server | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            driving = tasks.create_task(replica.driver.run())
            await replica.driver.started.wait()
            host.tune_garbage_collector()
            server = await loop.create_server(replica.doors.keeper, sock=replica.listener)
            others = [tasks.create_task(replica.links.run()), tasks.create_task(_keep_house(replica, supervisor))]
            supervisor.ready()
            _log.info("listening", address=replica.node.address_of(replica.settings.replica.id))
            await stop.wait()
            supervisor.stopping()
            _log.info("stopping")
            await _leave(replica)
            for task in others:
                task.cancel()
            replica.driver.stop()
            await driving
    finally:
        if server is not None:
            server.close()
        replica.links.close()
        await replica.doors.runner.cleanup()


async def _leave(replica: _Replica) -> None:
    """Hand the mastership over and answer what is under way, as far as that goes within the time to stop."""
    replica.driver.post(HandOverRequest())
    try:
        async with asyncio.timeout(replica.settings.http.stop_timeout_ms / 1000):
            if replica.directory.has_other_voters(replica.settings.replica.id):
                await replica.not_master.wait()
            await replica.doors.channels.close()
    except TimeoutError:
        _log.warning("the time to stop is over; what was not handed over is left")


async def _keep_house(replica: _Replica, supervisor: Supervisor) -> None:
    """What has to be looked at once a second; from the loop itself, so that a stuck loop is seen by the watchdog."""
    keeper = replica.doors.keeper
    accepted, since_ms, turns = 0, clock.now_ms(), -1
    while True:
        await asyncio.sleep(HOUSEKEEPING_SECONDS)
        keeper.sweep()
        if replica.driver.turns != turns:
            turns = replica.driver.turns
            supervisor.alive()
        now_ms = clock.now_ms()
        many = keeper.accepted - accepted > COLLECT_AFTER_CONNECTIONS and now_ms - since_ms > COLLECT_EVERY_MS_MIN
        if many or now_ms - since_ms > COLLECT_EVERY_MS_MAX:
            accepted, since_ms = keeper.accepted, now_ms
            gc.collect()


def _first_leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first failure of the parts that failed together: it is the cause, the others followed."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
