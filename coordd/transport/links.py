"""Links between replicas: each dials every peer and sends on its own connection; it receives on the accepted ones.

Loss is allowed, so nothing waits: a message for a peer that is not connected, or whose outbox is full, is dropped. The
core repeats what matters. A peer's silence, or a closed connection, is never taken for its death; it is dialled again.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence

import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from coordclient.protocol.codec import Malformed
from coordd.paxos.ballot import ZERO
from coordd.paxos.messages import Message, Removed
from coordd.paxos.starts import mark_of, start_text
from coordd.transport.dial import DialFailed, Dialled, dial, tune_socket
from coordd.transport.hello import NONCE_BYTES, Acceptor, Dialler, Identity, PeerDismissed, PeerRefused, refusal
from coordd.transport.wire import PEER_FRAME_BYTES_MAX, encode_message, pack, unpack

HANDSHAKE_SECONDS_MAX = 5.0
CONNECT_SECONDS_MAX = 2.0
BACK_OFF_SECONDS_MIN, BACK_OFF_SECONDS_MAX = 0.05, 1.0
SOCKET_BATCH_BYTES = 4 * 1024 * 1024  # a frame is closed when it holds so much
WAITING_HANDSHAKES_MAX = 64
LINGER_SECONDS = 1.0  # after a replica was removed: what was said to it last is to arrive

_log = structlog.get_logger("coordd.transport")


class Outgoing:
    """The dialled connection to one peer, made again for as long as `run` runs."""

    def __init__(
        self,
        identity: Identity,
        peer: int,
        address: str,
        outbox_bytes_max: int,
        founding: Callable[[], str],
        dismissed: Callable[[int, PeerDismissed], None],
    ) -> None:
        self.address = address
        self._founding = founding
        self._dismissed = dismissed
        self._identity = identity
        self._peer = peer
        self._outbox_bytes_max = outbox_bytes_max
        self._connection: Dialled | None = None
        self._retry = asyncio.Event()
        self.dropped = 0

    @property
    def connected(self) -> bool:
        """True while the handshake is done and the connection stands."""
        return self._connection is not None

    def send(self, encoded: Sequence[bytes]) -> None:
        """Put these messages into the socket, in as few frames as the limits allow; drop what does not fit."""
        connection = self._connection
        if connection is None:
            self.dropped += len(encoded)
            return
        room = self._outbox_bytes_max - connection.unsent_bytes
        batch: list[bytes] = []
        size = 0
        for data in encoded:
            if len(data) > room:
                self.dropped += 1
                continue
            room -= len(data)
            if size + len(data) > SOCKET_BATCH_BYTES and batch:
                connection.send(pack(batch))
                batch, size = [], 0
            batch.append(data)
            size += len(data)
        if batch:
            connection.send(pack(batch))

    def hurry(self) -> None:
        """The peer has just called us, so it can be reached: dial now instead of after the back-off."""
        self._retry.set()

    async def run(self) -> None:
        """Dial, shake hands, wait until the connection ends; again, with jittered back-off, until cancelled."""
        back_off = BACK_OFF_SECONDS_MIN
        said = ""
        while True:
            self._retry.clear()
            try:
                connection = await self._open()
            except (DialFailed, PeerRefused, PeerDismissed) as error:
                if isinstance(error, PeerDismissed):
                    self._dismissed(self._peer, error)
                if str(error) != said:  # once per reason: a peer that is down must not fill the log
                    said = str(error)
                    _log.warning("peer not reached", peer=self._peer, address=self.address, reason=said)
            else:
                _log.info("peer connected", peer=self._peer, address=self.address)
                self._connection = connection
                since = time.monotonic()
                reason = await self._until_closed(connection)
                if time.monotonic() - since > BACK_OFF_SECONDS_MAX:
                    back_off, said = BACK_OFF_SECONDS_MIN, ""
                _log.info("peer disconnected", peer=self._peer, reason=reason)
            await self._wait_before_retry(back_off)
            back_off = min(back_off * 2, BACK_OFF_SECONDS_MAX)

    async def _open(self) -> Dialled:
        connection = await dial(self.address, CONNECT_SECONDS_MAX)
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS_MAX):
                dialler = Dialler(self._identity, self._peer, os.urandom(NONCE_BYTES), self._founding())
                connection.send(dialler.hello())
                connection.send(dialler.challenged(await connection.receive()))
                dialler.welcomed(await connection.receive())
        except TimeoutError:
            connection.close("handshake")
            raise DialFailed("the handshake was not answered in time") from None
        except BaseException:
            connection.close("handshake")
            raise
        return connection

    async def _until_closed(self, connection: Dialled) -> str:
        try:
            reason: str = await asyncio.shield(connection.closed)
        finally:
            self._connection = None
            connection.close("stopped")
        return reason

    async def _wait_before_retry(self, back_off: float) -> None:
        try:
            async with asyncio.timeout(back_off * random.uniform(0.5, 1.0)):
                await self._retry.wait()
        except TimeoutError:
            pass


class Links:
    """All links of one replica. `deliver` gets every message of a proven peer, and its size, as it arrives.

    `dismissal`: the version of the membership in which a replica is removed and may be told so, and its start that was
    heard of last (0: none); None where it may not. `founding`: what the cell began with, "" where that is not known.
    """

    def __init__(
        self,
        identity: Identity,
        addresses: Mapping[int, str],
        outbox_bytes_max: int,
        deliver: Callable[[Message, int], None],
        dismissal: Callable[[int], tuple[int, int] | None] = lambda replica: None,
        founding: Callable[[], str] = lambda: "",
    ) -> None:
        self._identity = identity
        self._deliver = deliver
        self._dismissal = dismissal
        self._founding = founding
        self._outbox_bytes_max = outbox_bytes_max
        self._outgoing: dict[int, Outgoing] = {}
        self._running: dict[Outgoing, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._removed: Callable[[int], bool] = lambda replica: replica not in addresses
        self._accepted: dict[int, tuple[int, asyncio.Transport | None]] = {}  # peer -> its start, its connection
        self._outdated: dict[int, tuple[int, asyncio.Transport | None]] = {}  # the same, of older starts
        self._handshakes = 0
        self._heard: dict[int, float] = {}
        self._dial(addresses)

    async def run(self) -> None:
        """Keep every outgoing connection up, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for outgoing in self._outgoing.values():
                self._running[outgoing] = tasks.create_task(outgoing.run())
            await asyncio.get_running_loop().create_future()  # links come and go; cancelling ends them all

    def follow(self, addresses: Mapping[int, str], removed: Callable[[int], bool]) -> None:
        """The membership has changed: dial these, and whoever is `removed` is let in no more."""
        self._removed = removed
        loop = asyncio.get_running_loop()
        for peer, outgoing in list(self._outgoing.items()):
            if addresses.get(peer) != outgoing.address:
                del self._outgoing[peer]
                loop.call_later(LINGER_SECONDS, self._end, outgoing)
        for peer in self._accepted:
            if removed(peer):
                loop.call_later(LINGER_SECONDS, self._hang_up, peer)
        self._dial(addresses)

    def _dial(self, addresses: Mapping[int, str]) -> None:
        own = self._identity.replica
        for peer in [peer for peer in addresses if peer != own and peer not in self._outgoing]:
            assert self._identity.secret, "replicas of a cell know each other by its secret"
            outgoing = self._outgoing[peer] = Outgoing(
                self._identity, peer, addresses[peer], self._outbox_bytes_max, self._founding, self._dismissed
            )
            if self._tasks is not None:
                self._running[outgoing] = self._tasks.create_task(outgoing.run())

    def _end(self, outgoing: Outgoing) -> None:
        task = self._running.pop(outgoing, None)
        if task is not None:
            task.cancel()

    def _hang_up(self, peer: int) -> None:
        """It calls again, if it lives, and is told then."""
        _, transport = self._accepted.pop(peer, (0, None))
        if transport is not None and self._removed(peer):
            transport.abort()

    def _dismissed(self, peer: int, dismissed: PeerDismissed) -> None:
        self._deliver(Removed(peer, 0, ZERO, dismissed.version, dismissed.known_start), 0)

    def send(self, addressed: Sequence[tuple[int, Message]]) -> None:
        """Send each message to its peer; one frame per peer, a message to several peers is encoded once."""
        by_peer: dict[int, list[bytes]] = {}
        last: Message | None = None
        data = b""
        for peer, message in addressed:
            if message is not last:
                last, data = message, encode_message(message)
            by_peer.setdefault(peer, []).append(data)
        for peer, encoded in by_peer.items():
            outgoing = self._outgoing.get(peer)
            if outgoing is not None:
                outgoing.send(encoded)

    def heard_ms_ago(self) -> dict[int, int | None]:
        """Peer -> how long ago its last frame came, None for never; for people, never for decisions."""
        now = time.monotonic()
        heard = {peer: self._heard.get(peer) for peer in self._outgoing}
        return {peer: None if at is None else int((now - at) * 1000) for peer, at in heard.items()}

    def connected(self) -> dict[int, bool]:
        """Peer -> whether the own connection to it stands; for people, never for decisions."""
        return {peer: outgoing.connected for peer, outgoing in self._outgoing.items()}

    # ---- the accepting side ----

    async def accept(self, request: web.Request) -> web.StreamResponse:
        """The handler of `GET /v1/peer`."""
        if self._handshakes >= WAITING_HANDSHAKES_MAX:
            return web.Response(status=503, text="too many peer handshakes are waiting\n")
        socket = web.WebSocketResponse(timeout=1.0, compress=False, max_msg_size=PEER_FRAME_BYTES_MAX)
        if not socket.can_prepare(request).ok:
            return web.Response(
                status=426, text="replicas speak here, over a WebSocket\n", headers={"Upgrade": "websocket"}
            )
        await socket.prepare(request)
        if request.transport is not None:
            tune_socket(request.transport)
        try:
            acceptor = await self._shake_hands(socket)
        except PeerRefused as error:
            _log.warning("peer refused", remote=request.remote, code=error.code, reason=error.message)
            await _refuse(socket, refusal(self._identity.cell_id, error), error.code)
            return socket
        await self._receive(socket, acceptor, request.transport)
        return socket

    async def _shake_hands(self, socket: web.WebSocketResponse) -> Acceptor:
        self._handshakes += 1
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS_MAX):
                acceptor = Acceptor(self._identity, self._listens_to, os.urandom(NONCE_BYTES), self._founding())
                await socket.send_bytes(acceptor.greeted(await _binary(socket)))
                welcome = acceptor.proven(await _binary(socket))
                await self._check_member(socket, acceptor)
                await socket.send_bytes(welcome)
                return acceptor
        except TimeoutError:
            raise PeerRefused("malformed", "the handshake was not finished in time") from None
        except ConnectionError as error:
            raise PeerRefused("malformed", f"the connection ended in the handshake: {error}") from None
        finally:
            self._handshakes -= 1

    def _listens_to(self, peer: int) -> bool:
        """Who was removed may call only to be told so. Who is not known yet may be a member all the same."""
        return not self._removed(peer) or self._dismissal(peer) is not None

    async def _check_member(self, socket: web.WebSocketResponse, acceptor: Acceptor) -> None:
        dismissal = self._dismissal(acceptor.peer)
        if dismissal is not None:
            await socket.send_bytes(acceptor.removed(*dismissal))
            raise PeerRefused("not_a_member", f"replica {acceptor.peer} was removed from the cell")

    async def _receive(
        self, socket: web.WebSocketResponse, acceptor: Acceptor, transport: asyncio.Transport | None
    ) -> None:
        peer, start = acceptor.peer, acceptor.start
        self._take_place(peer, start, transport)
        async for frame in socket:
            try:
                if frame.type is not WSMsgType.BINARY:
                    raise Malformed(f"a frame is not binary: {frame.type.name} {socket.exception() or ''}")
                self._heard[peer] = time.monotonic()
                for message, size in unpack(frame.data):
                    if message.sender != peer or message.start != start:
                        raise Malformed("a message names another sender or start than the hello did")
                    self._deliver(message, size)
            except Malformed as error:
                _log.error("peer sent garbage", peer=peer, reason=str(error))
                await socket.close(code=WSCloseCode.PROTOCOL_ERROR, message=b"malformed")

    def _take_place(self, peer: int, start: int, transport: asyncio.Transport | None) -> None:
        """The connection is the one from `peer` now. One of an older start leaves the newer one in its place.

        It is heard all the same: the core acts on nothing but its Hello, and that has to reach the core, which tells a
        replica whose data went back in time what is remembered of it.
        """
        known, previous = self._accepted.get(peer, (0, None))
        follows = known == 0 or (mark_of(start) == mark_of(known) and start >= known)
        place = self._accepted if follows else self._outdated
        if place is self._outdated:
            text = "a peer is back in an older start, or with another directory"
            _log.warning(text, peer=peer, start=start_text(start), known=start_text(known))
            _, previous = self._outdated.get(peer, (0, None))
        place[peer] = (start, transport)
        if peer in self._outgoing:
            self._outgoing[peer].hurry()
        if previous is not None:
            previous.abort()  # its other end has dialled anew; what is still under way in it may be lost

    def close(self) -> None:
        """End what was accepted; `run` is cancelled by its owner."""
        for _, transport in (*self._accepted.values(), *self._outdated.values()):
            if transport is not None:
                transport.abort()


async def _binary(socket: web.WebSocketResponse) -> bytes:
    message = await socket.receive()
    if message.type is not WSMsgType.BINARY:
        raise PeerRefused("malformed", "a handshake message is one binary WebSocket message")
    data: bytes = message.data
    return data


async def _refuse(socket: web.WebSocketResponse, reason: bytes, code: str) -> None:
    if socket.closed:
        return
    try:
        await socket.send_bytes(reason)
        await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=code.encode())
    except ConnectionError as error:
        _log.debug("peer gone before it was refused", reason=str(error))
