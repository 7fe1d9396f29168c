"""The bytes of both hellos, pinned: another layout is another version, in a golden file of its own."""

from __future__ import annotations

from pathlib import Path

from coordclient.protocol.frames import CHANNEL_VERSION, frame
from coordclient.protocol.paths import cell_id
from coordd.transport.hello import Acceptor, Dialler, Identity
from coordd.transport.wire import PEER_VERSION

GOLDEN = Path(__file__).parent / "golden"


def test_the_frames_of_a_channel_are_those_of_the_golden_file() -> None:
    frames = {
        "client hello": [CHANNEL_VERSION, "dev", {"host": "h", "pid": "7"}],
        "server hello": [CHANNEL_VERSION, "dev", 1, 3, "http://127.0.0.1:7422"],
        "server hello, no master": [CHANNEL_VERSION, "dev", 1, None, None],
        "call": [5, "acquire", {"path": "/a", "mode": "exclusive"}, 4],
        "result": [5, {"token": 9, "sequencer": "s"}],
        "error": [6, None, {"code": "not_found", "message": "there is nothing at /b"}],
        "last words": [0, None, {"code": "bad_request", "message": "m"}],
    }
    made = "".join(f"{name}: {frame(value).hex()}\n" for name, value in frames.items())
    assert made == (GOLDEN / f"channel-{CHANNEL_VERSION}.txt").read_text()


def test_the_handshake_of_peers_is_that_of_the_golden_file() -> None:
    secret, founding = bytes(range(32)), "voters 1 2 3, lease_ms 1500"
    dialler = Dialler(Identity(cell_id("dev"), 1, 4, secret), 2, nonce=b"d" * 32, founding=founding)
    acceptor = Acceptor(Identity(cell_id("dev"), 2, 9, secret), [1, 3].__contains__, nonce=b"a" * 32, founding=founding)
    hello = dialler.hello()
    challenge = acceptor.greeted(hello)
    proof = dialler.challenged(challenge)
    welcome = acceptor.proven(proof)
    dialler.welcomed(welcome)
    said = {"hello": hello, "challenge": challenge, "proof": proof, "welcome": welcome}
    made = "".join(f"{name}: {data.hex()}\n" for name, data in said.items())
    assert made == (GOLDEN / f"peer-hello-{PEER_VERSION}.txt").read_text()
