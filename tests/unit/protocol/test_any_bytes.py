"""Whatever the bytes or the text, each decoder gives a value or an error by name; what it gives, it gives again."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from coordclient.protocol.addresses import parse_address
from coordclient.protocol.codec import Malformed, decode, encode, reference_decode, reference_encode
from coordclient.protocol.errors import ERRORS, Refusal
from coordclient.protocol.frames import BadFrames, frame, split_frames, split_push
from coordclient.protocol.paths import parse_path
from coordd.api import json_body
from tests.fuzz import TEXTS, VALUES, many

BYTES = st.binary(max_size=80)


@many(200)
@given(BYTES | VALUES.map(reference_encode))
def test_any_bytes_are_one_value_or_malformed_for_both_libraries_alike(data):
    answers = []
    for decoder in (decode, reference_decode):
        try:
            decoder(data)
        except Malformed as error:
            answers.append(str(error).partition(":")[0])
        else:
            answers.append("a value")
    assert answers[0] == answers[1] and answers[0] in ("a value", "not msgpack")


@many(100)
@given(VALUES)
def test_both_libraries_write_the_same_bytes(value):
    assert encode(value) == reference_encode(value)


@many(200)
@given(BYTES | st.lists(VALUES.map(frame), max_size=4).map(b"".join), st.integers(0, 90))
def test_any_bytes_are_whole_frames_or_refused_by_name(message, cut):
    for data in (message, message[:cut]):
        try:
            payloads = split_frames(data, 1_000)
        except BadFrames as error:
            assert str(error)
        else:
            assert b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads) == data


CALLS = st.sampled_from([0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32, 2**53]) | st.integers(0, 2**64 - 1)


@many(200)
@given(CALLS, VALUES)
def test_one_answer_of_several_is_split_without_being_decoded_and_nothing_else_is(call, value):
    push = split_push(encode([call, value, None, True]))
    assert push is not None
    assert (push[0], push[1]) == (call, encode(value))
    assert split_push(encode([call, value])) is None
    assert split_push(encode([call, None, {"code": "internal"}])) is None


@many(200)
@given(BYTES | BYTES.map(lambda data: b"\x94" + data + b"\xc0\xc3"))
def test_any_bytes_are_split_as_a_push_or_not_at_all(data):
    push = split_push(data)
    if push is not None:
        with contextlib.suppress(Malformed):
            assert decode(data) == [push[0], decode(push[1]), None, True]


@many(400)
@given(TEXTS | TEXTS.map("/".__add__) | TEXTS.map("/ls/one/".__add__), st.sampled_from([None, "one"]))
def test_any_text_is_a_path_in_its_one_spelling_or_refused_by_name(text, cell):
    try:
        path = parse_path(text, cell)
    except Refusal as refusal:
        assert refusal.code in ("bad_path", "wrong_cell") and refusal.message
    else:
        assert parse_path(path) == path and path.isprintable()
        assert path == "/" or all(part not in ("", ".", "..") for part in path[1:].split("/"))


@many(200)
@given(TEXTS | st.builds(lambda host, port: f"http://{host}:{port}", TEXTS, st.integers(-1, 70_000) | TEXTS))
def test_any_text_is_an_address_in_its_one_spelling_or_refused_in_words(text):
    try:
        address = parse_address(text)
    except ValueError as error:
        assert str(error)
    else:
        assert parse_address(address) == address and address.isascii()


@many(200)
@given(BYTES | TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")) | BYTES.map(b"[1e999,".__add__))
def test_any_body_is_json_or_refused_by_name(body):
    try:
        json_body.parse(body)
    except Refusal as refusal:
        assert refusal.code == "bad_request" and refusal.message


@many(100)
@given(st.dictionaries(st.text(max_size=7) | st.sampled_from(["code", "message", "self"]) | st.integers(0, 9), VALUES))
def test_any_map_is_an_error_of_the_table(wire):
    refusal = Refusal.from_wire(wire)
    assert refusal.code in ERRORS
    with contextlib.suppress(UnicodeEncodeError):
        assert Refusal.from_wire(decode(encode(refusal.to_wire()))).code == refusal.code
