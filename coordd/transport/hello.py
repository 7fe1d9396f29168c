"""The peer handshake: both ends prove that they know the cell's secret before either believes a message.

Four binary WebSocket messages, each a msgpack array that begins with PEER_VERSION, the cell's id and its kind:

| who | message |
|---|---|
| dialler | `[version, cell id, "hello", from, to, start, nonce]` |
| acceptor | `[version, cell id, "challenge", nonce]` |
| dialler | `[version, cell id, "proof", founding, mac]` |
| acceptor | `[version, cell id, "welcome", mac]`; from here on the dialler sends peer messages, the acceptor nothing |

`founding` is what the dialler's cell began with, as text; "" where it does not know yet. Where the acceptor's began
with something else, the two are not of one cell, or one of them was founded with a wrong configuration, and must not
count votes and leases together: it refuses, and both logs have both texts.

Where the dialler was removed from the cell the acceptor says `[version, cell id, "removed", membership version, known,
mac]` instead of the welcome; `known` is the start of the dialler that it heard of last, or 0. Either end may answer
`[version, cell id, "refused", code, message]` and close. A mac is HMAC-SHA256 over the role and everything said before,
both nonces included, so it can be neither reused nor reflected.
The dialler proves first: whoever merely connects to the peer door learns nothing that depends on the secret.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from coordclient.protocol.codec import Malformed, decode, encode
from coordd.transport.wire import INT_MAX, PEER_VERSION, REPLICA_MAX

NONCE_BYTES = 32
HANDSHAKE_BYTES_MAX = 1024


class PeerRefused(Exception):
    """The handshake failed; `code` names why.

    unsupported_version, wrong_cell, wrong_replica, bad_proof, other_founding, malformed.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class PeerDismissed(Exception):
    """The other end has proved to be of this cell and says that this replica was removed from it."""

    def __init__(self, version: int, known_start: int) -> None:
        super().__init__(f"this replica is no member of the cell in version {version} of the membership")
        self.version = version
        self.known_start = known_start


@dataclass(frozen=True, slots=True)
class Identity:
    """Which replica of which cell, in which start, and the secret that the cell's replicas share."""

    cell_id: bytes
    replica: int
    start: int
    secret: bytes = field(repr=False)  # so that no log of this object shows it


@dataclass(frozen=True, slots=True)
class _Said:
    """What the macs cover."""

    cell_id: bytes
    dialler: int
    acceptor: int
    start: int
    dialler_nonce: bytes
    acceptor_nonce: bytes

    def mac(self, secret: bytes, role: str) -> bytes:
        """`role`: who says it, and what else it says."""
        said = [PEER_VERSION, self.cell_id, self.dialler, self.acceptor, self.start]
        transcript = encode([role, *said, self.dialler_nonce, self.acceptor_nonce])
        return hmac.new(secret, b"coordd peer\0" + transcript, hashlib.sha256).digest()


class Dialler:
    """The end that opened the connection. Pure: bytes in, bytes out; raises `PeerRefused`."""

    def __init__(self, identity: Identity, peer: int, nonce: bytes, founding: str = "") -> None:
        assert len(nonce) == NONCE_BYTES
        self._identity = identity
        self._founding = founding
        self._peer = peer
        self._nonce = nonce
        self._said: _Said | None = None

    def hello(self) -> bytes:
        """The first message."""
        me = self._identity
        return _make(me.cell_id, "hello", me.replica, self._peer, me.start, self._nonce)

    def challenged(self, data: bytes) -> bytes:
        """The answer to the challenge: the proof."""
        me = self._identity
        (nonce,) = _take(data, me.cell_id, "challenge", 1)
        if not isinstance(nonce, bytes) or len(nonce) != NONCE_BYTES:
            raise PeerRefused("malformed", "the challenge has no nonce")
        self._said = _Said(me.cell_id, me.replica, self._peer, me.start, self._nonce, nonce)
        mac = self._said.mac(me.secret, f"dialler {self._founding}")
        return _make(me.cell_id, "proof", self._founding, mac)

    def welcomed(self, data: bytes) -> None:
        """Checks the other end's proof; the link is open when this returns. `PeerDismissed`: it never will be."""
        assert self._said is not None, "the challenge comes before the welcome"
        dismissal = _dismissal(data)
        if dismissal is not None:
            _, _, mac = _take(data, self._identity.cell_id, "removed", 3)
            version, known_start = dismissal
            _verify(mac, self._said.mac(self._identity.secret, f"removed {version} {known_start}"))
            raise PeerDismissed(version, known_start)
        (mac,) = _take(data, self._identity.cell_id, "welcome", 1)
        _verify(mac, self._said.mac(self._identity.secret, "acceptor"))


class Acceptor:
    """The end that was called. `may_call` says which replicas may. After `proven`, `peer` and `start` are true."""

    def __init__(self, identity: Identity, may_call: Callable[[int], bool], nonce: bytes, founding: str = "") -> None:
        assert len(nonce) == NONCE_BYTES
        self._identity = identity
        self._founding = founding
        self._may_call = may_call
        self._nonce = nonce
        self._said: _Said | None = None
        self.peer = 0
        self.start = 0

    def greeted(self, data: bytes) -> bytes:
        """The answer to the hello: the challenge."""
        me = self._identity
        dialler, to, start, nonce = _take(data, me.cell_id, "hello", 4)
        if not (_is_number(dialler, REPLICA_MAX) and _is_number(to, REPLICA_MAX) and _is_number(start, INT_MAX)):
            raise PeerRefused("malformed", "the hello does not say from, to and start")
        if not isinstance(nonce, bytes) or len(nonce) != NONCE_BYTES:
            raise PeerRefused("malformed", "the hello has no nonce")
        if to != me.replica:
            raise PeerRefused("wrong_replica", f"this is replica {me.replica}, not {to}")
        assert isinstance(dialler, int) and isinstance(start, int)
        if dialler == me.replica or not self._may_call(dialler):
            raise PeerRefused("wrong_replica", f"replica {dialler} is not a peer of replica {me.replica}")
        self.peer, self.start = dialler, start
        self._said = _Said(me.cell_id, dialler, me.replica, start, nonce, self._nonce)
        return _make(me.cell_id, "challenge", self._nonce)

    def proven(self, data: bytes) -> bytes:
        """Checks the dialler's proof; the answer is the welcome, with the own one."""
        assert self._said is not None, "the hello comes before the proof"
        founding, mac = _take(data, self._identity.cell_id, "proof", 2)
        if not isinstance(founding, str):
            raise PeerRefused("malformed", "the proof does not say what the cell began with")
        _verify(mac, self._said.mac(self._identity.secret, f"dialler {founding}"))
        if founding and self._founding and founding != self._founding:
            raise PeerRefused(
                "other_founding",
                f"replica {self.peer} began with {founding}; replica {self._identity.replica} began with "
                f"{self._founding}. Way out: found anew, with an empty data directory and the numbers of the others, "
                "the one that is wrong",
            )
        return _make(self._identity.cell_id, "welcome", self._said.mac(self._identity.secret, "acceptor"))

    def removed(self, version: int, known_start: int) -> bytes:
        """Instead of the welcome: the dialler is no member of the cell in that version of the membership.

        `known_start`: its start that was heard of last, 0 for none.
        """
        assert self._said is not None and self.peer, "the hello comes first"
        mac = self._said.mac(self._identity.secret, f"removed {version} {known_start}")
        return _make(self._identity.cell_id, "removed", version, known_start, mac)


def refusal(cell_id: bytes, error: PeerRefused) -> bytes:
    """What is sent before closing, so that the other side's log names the reason."""
    return _make(cell_id, "refused", error.code, error.message)


def _make(cell_id: bytes, kind: str, *fields: object) -> bytes:
    return encode([PEER_VERSION, cell_id, kind, *fields])


def _take(data: bytes, cell_id: bytes, kind: str, count: int) -> list[object]:
    """The fields of the handshake message `kind`; the version is looked at before anything else is."""
    if len(data) > HANDSHAKE_BYTES_MAX:
        raise PeerRefused("malformed", "the handshake message is too long")
    try:
        array = decode(data)
    except Malformed:
        raise PeerRefused("malformed", "the handshake message is not msgpack") from None
    if type(array) is not list or len(array) < 3:
        raise PeerRefused("malformed", "a handshake message is an array with version, cell and kind")
    if array[0] != PEER_VERSION:
        raise PeerRefused(
            "unsupported_version", f"peer format {str(array[0])[:20]} is not known here (known: {PEER_VERSION})"
        )
    if array[2] == "refused" and len(array) == 5:
        raise PeerRefused(str(array[3])[:80], f"the peer says: {str(array[4])[:400]}")
    if array[1] != cell_id:
        raise PeerRefused("wrong_cell", "the other end belongs to another cell")
    if array[2] != kind or len(array) != 3 + count:
        raise PeerRefused("malformed", f"expected the handshake message {kind}")
    return array[3:]


def _dismissal(data: bytes) -> tuple[int, int] | None:
    """Version and known start in a message "removed" that is well formed so far; None for any other message."""
    try:
        array = decode(data) if len(data) <= HANDSHAKE_BYTES_MAX else None
    except Malformed:
        return None
    if type(array) is not list or len(array) != 6 or array[2] != "removed" or not _is_number(array[3], INT_MAX):
        return None
    return (array[3], array[4]) if array[4] == 0 or _is_number(array[4], INT_MAX) else None


def _verify(mac: object, expected: bytes) -> None:
    if not isinstance(mac, bytes) or not hmac.compare_digest(mac, expected):
        raise PeerRefused("bad_proof", "the other end does not know this cell's secret")


def _is_number(value: object, high: int) -> bool:
    return type(value) is int and 1 <= value <= high
