"""Messages between keeper and front: whole or not at all, and nobody ever waits for the other."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from coordctl import pipes


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = pipes.make_pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            continue  # closed by the test


def test_messages_arrive_whole_and_in_order(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    inbox = pipes.Inbox(reader)
    assert inbox.take() == []
    assert pipes.send(writer, {"deadline": 12.5})
    assert pipes.send(writer, {"note": "zwei\nZeilen ü"})
    assert inbox.take() == [{"deadline": 12.5}, {"note": "zwei\nZeilen ü"}]
    assert not inbox.closed


def test_half_a_message_waits_for_its_other_half(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    inbox = pipes.Inbox(reader)
    os.write(writer, b'{"a":1}\n{"b"')
    assert inbox.take() == [{"a": 1}]
    os.write(writer, b":2}\n")
    assert inbox.take() == [{"b": 2}]


def test_the_end_of_the_pipe_is_seen_after_the_last_message(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    inbox = pipes.Inbox(reader)
    pipes.send(writer, {"done": True})
    os.close(writer)
    assert inbox.take() == [{"done": True}]
    assert inbox.closed


def test_a_peer_that_does_not_read_loses_messages_and_blocks_nobody(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    message = {"note": "x" * 1000}
    assert any(not pipes.send(writer, message) for _ in range(1000))


def test_a_peer_that_is_gone_is_no_error(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    assert not pipes.send(writer, {"beat": True})


def test_a_message_that_could_be_torn_is_a_bug(pipe: tuple[int, int]) -> None:
    with pytest.raises(AssertionError):
        pipes.send(pipe[1], {"note": "x" * pipes.MESSAGE_BYTES_MAX})


def test_the_ends_are_not_inherited_by_the_command(pipe: tuple[int, int]) -> None:
    assert not any(os.get_inheritable(descriptor) for descriptor in pipe)
