"""The peer handshake: only who knows the cell's secret is believed, and every refusal has a name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordclient.protocol.codec import encode
from coordd.paxos.membership import Membership
from coordd.transport.hello import (
    HANDSHAKE_BYTES_MAX,
    Acceptor,
    Dialler,
    Identity,
    PeerDismissed,
    PeerRefused,
    refusal,
)
from coordd.transport.wire import PEER_VERSION

CELL = b"cell-one"
SECRET = b"a secret of some length"
ONE = Identity(CELL, 1, 5, SECRET)
TWO = Identity(CELL, 2, 9, SECRET)
NONCE_D, NONCE_A = b"d" * 32, b"a" * 32


def acceptor(identity: Identity = TWO, peers: tuple[int, ...] = (1, 3), nonce: bytes = NONCE_A) -> Acceptor:
    return Acceptor(identity, peers.__contains__, nonce)


def test_two_replicas_of_a_cell_prove_themselves_to_each_other() -> None:
    dialler, other = Dialler(ONE, 2, NONCE_D), acceptor()
    dialler.welcomed(other.proven(dialler.challenged(other.greeted(dialler.hello()))))
    assert (other.peer, other.start) == (1, 5)


def test_the_hello_begins_with_the_version_and_the_cell() -> None:
    assert Dialler(ONE, 2, NONCE_D).hello() == encode([PEER_VERSION, CELL, "hello", 1, 2, 5, NONCE_D])


def refused(hello: bytes, other: Acceptor | None = None) -> str:
    with pytest.raises(PeerRefused) as caught:
        (other or acceptor()).greeted(hello)
    return caught.value.code


def test_another_version_is_refused_by_name_before_anything_else_is_read() -> None:
    assert refused(encode([PEER_VERSION + 1, b"whatever", {"no": "hello"}])) == "unsupported_version"


def test_another_cell_is_refused_by_name() -> None:
    assert refused(Dialler(replace(ONE, cell_id=b"cell-two"), 2, NONCE_D).hello()) == "wrong_cell"


def test_a_call_for_another_replica_is_refused_by_name() -> None:
    assert refused(Dialler(ONE, 3, NONCE_D).hello()) == "wrong_replica"


@pytest.mark.parametrize("caller", [2, 4])
def test_a_caller_that_is_no_peer_is_refused_by_name(caller: int) -> None:
    assert refused(Dialler(replace(ONE, replica=caller), 2, NONCE_D).hello()) == "wrong_replica"


def test_who_does_not_know_the_secret_is_refused_by_name() -> None:
    stranger, other = Dialler(replace(ONE, secret=b"guessed guessed guessed"), 2, NONCE_D), acceptor()
    proof = stranger.challenged(other.greeted(stranger.hello()))
    with pytest.raises(PeerRefused, match="bad_proof"):
        other.proven(proof)


def test_the_dialler_does_not_believe_who_does_not_know_the_secret() -> None:
    dialler, impostor = Dialler(ONE, 2, NONCE_D), acceptor(replace(TWO, secret=SECRET))
    dialler.challenged(impostor.greeted(dialler.hello()))
    with pytest.raises(PeerRefused, match="bad_proof"):
        dialler.welcomed(encode([PEER_VERSION, CELL, "welcome", b"m" * 32]))


def test_a_proof_is_good_for_one_handshake_only() -> None:
    dialler, first = Dialler(ONE, 2, NONCE_D), acceptor()
    overheard = dialler.challenged(first.greeted(dialler.hello()))
    second = acceptor(nonce=b"b" * 32)
    second.greeted(dialler.hello())
    with pytest.raises(PeerRefused, match="bad_proof"):
        second.proven(overheard)


def test_a_proof_cannot_be_reflected_to_its_maker() -> None:
    dialler, other = Dialler(ONE, 2, NONCE_D), acceptor()
    proof = dialler.challenged(other.greeted(dialler.hello()))
    mac = proof[-32:]
    with pytest.raises(PeerRefused, match="bad_proof"):
        dialler.welcomed(encode([PEER_VERSION, CELL, "welcome", mac]))


def test_a_proof_is_of_one_start() -> None:
    dialler, other = Dialler(ONE, 2, NONCE_D), acceptor()
    other.greeted(Dialler(replace(ONE, start=6), 2, NONCE_D).hello())
    with pytest.raises(PeerRefused, match="bad_proof"):
        other.proven(dialler.challenged(encode([PEER_VERSION, CELL, "challenge", NONCE_A])))


def test_a_refusal_reaches_the_other_end_with_its_reason() -> None:
    dialler = Dialler(ONE, 2, NONCE_D)
    with pytest.raises(PeerRefused, match="the peer says: not you"):
        dialler.challenged(refusal(CELL, PeerRefused("wrong_replica", "not you")))


def test_no_log_of_an_identity_shows_the_secret() -> None:
    assert "secret of some" not in repr(ONE)


@given(st.one_of(st.binary(max_size=100), st.lists(st.one_of(st.integers(0, 9), st.binary(max_size=9))).map(encode)))
def test_any_bytes_for_a_handshake_message_are_refused_by_name(data: bytes) -> None:
    dialler = Dialler(ONE, 2, NONCE_D)
    other = acceptor()
    other.greeted(dialler.hello())
    for step in (acceptor().greeted, other.proven, dialler.challenged):
        with pytest.raises(PeerRefused):
            step(data)


def test_a_removed_replica_is_told_so_by_who_knows_the_secret() -> None:
    dialler, other = Dialler(ONE, 2, NONCE_D), acceptor()
    other.proven(dialler.challenged(other.greeted(dialler.hello())))
    with pytest.raises(PeerDismissed) as caught:
        dialler.welcomed(other.removed(7, known_start=4))
    assert (caught.value.version, caught.value.known_start) == (7, 4)


def test_nobody_else_can_send_a_replica_away() -> None:
    dialler, other = Dialler(ONE, 2, NONCE_D), acceptor(replace(TWO, secret=b"guessed guessed guessed"))
    dialler.challenged(other.greeted(dialler.hello()))
    with pytest.raises(PeerRefused) as caught:
        dialler.welcomed(other.removed(7, known_start=0))
    assert caught.value.code == "bad_proof"


# ---- what the cell was founded with ----

FOUNDED, OTHERWISE = "lease_ms 1500, voters 1,2,3", "lease_ms 500, voters 1,2,3"


def shake_hands(dialler_founding: str, acceptor_founding: str) -> None:
    dialler = Dialler(ONE, 2, NONCE_D, dialler_founding)
    other = Acceptor(TWO, (1, 3).__contains__, NONCE_A, acceptor_founding)
    dialler.welcomed(other.proven(dialler.challenged(other.greeted(dialler.hello()))))


@pytest.mark.parametrize("founding", [(FOUNDED, FOUNDED), ("", FOUNDED), (FOUNDED, ""), ("", "")])
def test_replicas_that_were_founded_alike_or_do_not_know_yet_meet(founding: tuple[str, str]) -> None:
    shake_hands(*founding)


def test_a_replica_that_was_founded_with_other_numbers_is_refused_by_name_with_both() -> None:
    with pytest.raises(PeerRefused) as caught:
        shake_hands(OTHERWISE, FOUNDED)
    assert caught.value.code == "other_founding"
    assert f"replica 1 began with {OTHERWISE}; replica 2 began with {FOUNDED}" in caught.value.message
    assert "Way out" in caught.value.message


def test_what_a_cell_was_founded_with_is_said_to_nobody_without_the_secret_and_cannot_be_changed_on_the_way() -> None:
    dialler = Dialler(ONE, 2, NONCE_D, FOUNDED)
    other = Acceptor(TWO, (1, 3).__contains__, NONCE_A, FOUNDED)
    hello = dialler.hello()
    challenge = other.greeted(hello)
    assert FOUNDED.encode() not in hello + challenge
    proof = dialler.challenged(challenge)
    with pytest.raises(PeerRefused, match="bad_proof"):
        other.proven(proof.replace(b"1500", b"1501"))
    with pytest.raises(PeerRefused, match="malformed"):
        other.proven(encode([PEER_VERSION, CELL, "proof", 7, b"m" * 32]))


def test_the_longest_founding_fits_into_a_handshake() -> None:
    founding = Membership(1, tuple(range(249, 256)), lease_ms=30_000).founding
    shake_hands(founding, founding)
    with pytest.raises(PeerRefused) as caught:
        shake_hands(founding, founding.replace("30000", "10000"))
    assert len(refusal(CELL, caught.value)) <= HANDSHAKE_BYTES_MAX
    dialler = Dialler(ONE, 2, NONCE_D)
    with pytest.raises(PeerRefused) as heard:
        dialler.challenged(refusal(CELL, caught.value))
    assert caught.value.message in str(heard.value), "nothing of it is cut off"
