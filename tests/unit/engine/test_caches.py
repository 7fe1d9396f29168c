"""Who holds what in a cache, who owes an acknowledgement, and what waits for whom: the rules by their numbers."""

from __future__ import annotations

from typing import Any

from coordclient.protocol.codec import encode
from coordclient.protocol.frames import FRAME_BYTES_MAX
from coordd.engine.caches import Caches, Queue
from coordd.engine.effects import Push
from coordd.engine.inputs import Call


class Books:
    """Caches with a clock, and what was pushed: `(request, paths or None, number)` for each one told."""

    def __init__(self, keys_max: int = 10, total_max: int = 100) -> None:
        self.pushes: list[Push] = []
        self.caches = Caches(keys_max, total_max, self.pushes.append)
        self.now_ms = 0
        self.tick(1_000)

    def tick(self, ms: int = 0) -> None:
        self.now_ms += ms
        self.caches.tick(self.now_ms)

    def open(self, session: int, attachment: int = 1, incarnation: int = 1) -> Queue:
        request = 100 * session + attachment
        self.caches.open(Call(request, "cache", {}, session, attachment=attachment, incarnation=incarnation), epoch=7)
        self.told()
        return self.caches.queues[session]

    def leased(self, session: int, ms: int = 500) -> Queue:
        queue = self.open(session)
        assert self.caches.lease(queue, self.now_ms + ms)
        return queue

    def told(self) -> list[tuple[int, Any, Any]]:
        told: list[tuple[int, Any, Any]] = [
            (request, push.body["invalidate"], push.body["number"]) for push in self.pushes for request in push.requests
        ]
        self.pushes.clear()
        return told

    def ready(self) -> list[object]:
        ready, self.caches.ready = self.caches.ready, []
        return [wait.then for wait in ready]


def number_of(told: list[tuple[int, Any, Any]]) -> int:
    ((_, _, number),) = told
    assert isinstance(number, int)
    return number


def test_the_first_word_of_a_queue_says_that_it_is_open_and_in_which_epoch() -> None:
    books = Books()
    books.caches.open(Call(5, "cache", {}, 1, attachment=1), epoch=7)
    (push,) = books.pushes
    assert push.requests == (5,)
    assert push.body == {"number": 1, "invalidate": [], "epoch": 7}


def test_a_change_waits_until_all_that_hold_it_under_a_lease_have_acknowledged() -> None:
    books = Books()
    first, second, other = books.leased(1), books.leased(2), books.leased(3)
    for queue in (first, second):
        assert books.caches.fill(queue, "/a")
    assert books.caches.fill(other, "/b")
    assert books.caches.ask(["/a"], "write") is not None
    told = books.told()
    assert [(request, paths) for request, paths, _ in told] == [(101, ["/a"]), (201, ["/a"])]
    books.caches.acknowledge(first, told[0][2])
    assert not books.ready(), "one has not answered"
    books.caches.acknowledge(second, told[1][2])
    assert books.ready() == ["write"]


def test_the_same_word_to_many_is_one_body() -> None:
    books = Books()
    for session in (1, 2, 3):
        books.caches.fill(books.leased(session), "/a")
    books.caches.ask(["/a", "/b"], "write")
    (push,) = books.pushes
    assert push.requests == (101, 201, 301) and push.body["invalidate"] == ["/a"]


def test_a_change_that_nobody_holds_waits_for_nobody() -> None:
    books = Books()
    books.caches.fill(books.leased(1), "/a")
    assert books.caches.ask(["/b"], "write") is None and not books.told()


def test_rule_6_the_end_of_the_lease_ends_the_wait() -> None:
    books = Books()
    books.caches.fill(books.leased(1, ms=500), "/a")
    books.caches.ask(["/a"], "write")
    books.tick(499)
    assert not books.ready()
    books.tick(1)
    assert books.ready() == ["write"]


def test_rule_6_the_end_of_the_channel_does_not() -> None:
    books = Books()
    queue = books.leased(1, ms=500)
    books.caches.fill(queue, "/a")
    queue.leave(101)
    books.tick(10)
    assert books.caches.find(queue.call) is None
    assert books.caches.ask(["/a"], "after it has gone") is not None
    assert not books.told(), "nobody listens"
    books.tick(400)
    assert not books.ready() and books.caches.in_use
    books.tick(100)
    assert books.ready() == ["after it has gone"]
    assert not books.caches.in_use and not books.caches.held


def test_rule_6_a_wait_goes_on_when_the_channel_ends_meanwhile() -> None:
    books = Books()
    queue = books.leased(1, ms=500)
    books.caches.fill(queue, "/a")
    books.caches.ask(["/a"], "write")
    queue.leave(101)
    books.tick(400)
    assert not books.ready()
    books.tick(100)
    assert books.ready() == ["write"]


def test_rule_6_a_newer_queue_of_the_same_process_is_an_acknowledgement_of_all_before() -> None:
    for broken in (False, True):
        books = Books()
        queue = books.leased(1)
        books.caches.fill(queue, "/a")
        books.caches.fill(queue, "/b")
        books.caches.ask(["/a"], "write")
        if broken:
            queue.leave(101)
            books.tick(10)
        books.open(1, attachment=2)
        assert books.ready() == ["write"]
        assert books.caches.ask(["/b"], "next") is None, "the new one holds nothing"
        assert not books.caches.held


def test_rule_6_but_a_queue_of_another_process_is_not() -> None:
    books = Books()
    queue = books.leased(1, ms=500)
    books.caches.fill(queue, "/a")
    books.open(1, attachment=1, incarnation=2)
    assert books.caches.ask(["/a"], "write") is not None
    books.tick(500)
    assert books.ready() == ["write"]


def test_a_second_change_waits_for_the_acknowledgement_that_the_first_asked_for() -> None:
    books = Books()
    queue = books.leased(1)
    books.caches.fill(queue, "/a")
    books.caches.ask(["/a"], "first")
    number = number_of(books.told())
    assert books.caches.ask(["/a"], "second") is not None
    assert not books.told(), "it was told already"
    books.caches.acknowledge(queue, number)
    assert books.ready() == ["first", "second"]


def test_an_acknowledgement_ends_no_wait_for_a_later_one() -> None:
    books = Books()
    queue = books.leased(1)
    books.caches.fill(queue, "/a")
    books.caches.fill(queue, "/b")
    books.caches.ask(["/a"], "first")
    books.caches.ask(["/b"], "second")
    first, second = books.told()
    books.caches.acknowledge(queue, first[2])
    assert books.ready() == ["first"]
    books.caches.acknowledge(queue, second[2])
    assert books.ready() == ["second"]


def test_rule_3_a_path_is_not_held_anew_while_a_change_of_it_is_on_its_way() -> None:
    books = Books()
    queue = books.leased(1)
    books.caches.mark("one", ["/a"])
    books.caches.mark("another", ["/a", "/b"])
    assert books.caches.fill(queue, "/a") is None
    books.caches.unmark("one")
    assert books.caches.fill(queue, "/a") is None
    books.caches.unmark("another")
    books.caches.unmark("another")
    assert books.caches.fill(queue, "/a") and books.caches.fill(queue, "/b")


def test_rule_4_fills_and_invalidations_are_numbered_by_one_counter() -> None:
    books = Books()
    queue = books.leased(1)
    first = books.caches.fill(queue, "/a")
    books.caches.ask(["/a"], "write")
    dropped = number_of(books.told())
    again = books.caches.fill(queue, "/a")
    assert first is not None and again is not None and first < dropped < again


def test_what_is_held_anew_is_not_forgotten_by_the_acknowledgement_of_the_old() -> None:
    books = Books()
    queue = books.leased(1)
    books.caches.fill(queue, "/a")
    books.caches.ask(["/a"], "first")
    number = number_of(books.told())
    books.caches.fill(queue, "/a")
    books.caches.acknowledge(queue, number)
    assert books.caches.ask(["/a"], "second") is not None
    assert number_of(books.told()) > number
    assert books.caches.held == 1


def test_rule_5_no_lease_for_whoever_owes_an_acknowledgement() -> None:
    books = Books()
    queue = books.leased(1)
    books.caches.fill(queue, "/a")
    books.caches.ask(["/a"], "write")
    number = number_of(books.told())
    assert not books.caches.lease(queue, books.now_ms + 900)
    books.tick(500)
    assert books.ready() == ["write"], "the lease was not prolonged"
    assert not books.caches.lease(queue, books.now_ms + 500), "it still owes, though nothing waits"
    books.caches.acknowledge(queue, number)
    assert books.caches.lease(queue, books.now_ms + 500)


def test_rule_5_nothing_is_skipped_for_whoever_has_no_lease_at_the_moment() -> None:
    books = Books()
    queue = books.open(1)
    books.caches.fill(queue, "/a")
    assert books.caches.ask(["/a"], "write") is None, "nobody believes in it"
    assert [paths for _, paths, _ in books.told()] == [["/a"]]
    assert not books.caches.lease(queue, books.now_ms + 500)


def test_a_lease_that_is_over_is_none() -> None:
    books = Books()
    queue = books.open(1)
    assert not books.caches.lease(queue, books.now_ms)
    assert not books.caches.lease(queue, 0)


def test_nobody_has_a_lease_on_a_channel_that_has_ended() -> None:
    books = Books()
    queue = books.open(1)
    queue.leave(101)
    assert not books.caches.lease(queue, books.now_ms + 500)


def test_a_lease_is_not_made_shorter_by_a_later_one() -> None:
    books = Books()
    queue = books.leased(1, ms=500)
    books.caches.fill(queue, "/a")
    books.caches.lease(queue, books.now_ms + 300)
    books.caches.ask(["/a"], "write")
    books.tick(499)
    assert not books.ready()
    books.tick(1)
    assert books.ready() == ["write"]


def test_nobody_acknowledges_what_was_not_said_yet() -> None:
    books = Books()
    queue = books.leased(1)
    books.caches.fill(queue, "/a")
    books.caches.acknowledge(queue, 10**9)
    assert books.caches.ask(["/a"], "write") is not None
    books.caches.acknowledge(queue, 10**9)
    assert books.ready() == ["write"]


def test_a_call_finds_only_the_queue_of_its_own_channel() -> None:
    books = Books()
    queue = books.open(1, attachment=3)
    for attachment, incarnation, found in ((3, 1, True), (2, 1, False), (4, 1, False), (3, 2, False), (0, 1, False)):
        call = Call(9, "get", {}, 1, attachment=attachment, incarnation=incarnation)
        assert (books.caches.find(call) is queue) is found
    assert books.caches.find(Call(9, "get", {}, 2, attachment=3)) is None


def test_everybody_is_told_to_drop_everything() -> None:
    books = Books()
    queues = [books.leased(1), books.leased(2), books.leased(3)]
    books.caches.fill(queues[0], "/a")
    books.caches.fill(queues[1], "/b")
    assert books.caches.ask_all("end") is not None
    told = books.told()
    assert [(request, paths) for request, paths, _ in told] == [(101, None), (201, None)]
    assert books.caches.believed
    for queue in queues[:2]:
        books.caches.acknowledge(queue, told[0][2])
    assert books.ready() == ["end"] and not books.caches.believed


def test_everybody_is_asked_for_what_he_owes_too_and_the_gone_are_waited_for() -> None:
    books = Books()
    owes, gone = books.leased(1), books.leased(2, ms=300)
    books.caches.fill(owes, "/a")
    books.caches.ask(["/a"], "write")
    number = number_of(books.told())
    books.caches.fill(gone, "/b")
    gone.leave(201)
    books.tick(1)
    assert books.caches.ask_all("end") is not None
    assert not books.told()
    books.caches.acknowledge(owes, number)
    assert books.ready() == ["write"]
    books.tick(299)
    assert books.ready() == ["end"]


def test_a_session_that_holds_as_much_as_it_may_drops_the_oldest() -> None:
    books = Books(keys_max=2)
    queue = books.leased(1)
    for path in ("/a", "/b", "/c"):
        assert books.caches.fill(queue, path)
    assert [paths for _, paths, _ in books.told()] == [["/a"]]
    assert list(queue.keys) == ["/b", "/c"]
    assert books.caches.fill(queue, "/b"), "what it holds already needs no room"
    assert not books.told()


def test_who_never_acknowledges_fills_no_memory() -> None:
    books = Books(keys_max=3)
    queue = books.leased(1)
    kept = [books.caches.fill(queue, f"/{number}") is not None for number in range(20)]
    assert kept == [True] * 6 + [False] * 14
    assert books.caches.held == 6
    books.caches.acknowledge(queue, 10**9)
    assert books.caches.held == 3 and books.caches.fill(queue, "/more")


def test_all_together_hold_no_more_than_the_limit() -> None:
    books = Books(keys_max=3, total_max=4)
    first, second, third = books.leased(1), books.leased(2), books.leased(3)
    for path in ("/a", "/b", "/c"):
        books.caches.fill(first, path)
    books.caches.fill(second, "/a")
    assert books.caches.fill(third, "/a") is None
    assert books.caches.fill(second, "/b") is None
    told = books.told()
    assert [paths for _, paths, _ in told] == [["/a"]], "its own oldest goes"
    assert books.caches.fill(second, "/b") is None and not books.told(), "there is no room before that has gone"
    books.caches.acknowledge(second, told[0][2])
    assert books.caches.fill(second, "/b") and books.caches.held == 4


def test_nor_when_nobody_acknowledges() -> None:
    books = Books(keys_max=10, total_max=20)
    queues = [books.leased(session) for session in range(1, 21)]
    for number in range(40):
        for queue in queues:
            books.caches.fill(queue, f"/{number}")
        assert books.caches.held <= 20


def test_what_is_owed_and_held_anew_takes_no_second_place_in_a_full_table() -> None:
    books = Books(keys_max=2, total_max=2)
    queue = books.leased(1)
    for path in ("/a", "/b"):
        books.caches.fill(queue, path)
    books.caches.ask(["/a"], "write")
    assert books.caches.fill(queue, "/a") and books.caches.held == 2


def test_a_list_of_paths_that_no_frame_holds_is_told_as_everything() -> None:
    books = Books(keys_max=1_000, total_max=1_000)
    queue = books.leased(1)
    paths = [f"/{number:03}/" + "\N{EURO SIGN}" * 330 for number in range(1_000)]
    for path in paths:
        books.caches.fill(queue, path)
    for count, is_listed in ((200, True), (800, False)):
        part, paths = paths[:count], paths[count:]
        assert books.caches.ask(part, "write") is not None
        (push,) = books.pushes
        assert len(encode(push.body)) < FRAME_BYTES_MAX - 1_000
        assert push.body["invalidate"] == (part if is_listed else None)
        books.told()
        books.caches.acknowledge(queue, 10**9)
        assert books.ready() == ["write"]


def test_nothing_is_left_of_a_mastership_but_the_numbers() -> None:
    books = Books()
    queue = books.leased(1)
    before = books.caches.fill(queue, "/a")
    books.caches.mark("write", ["/a"])
    books.caches.clear()
    assert not books.caches.in_use and not books.caches.held
    queue = books.open(1, attachment=2)
    after = books.caches.fill(queue, "/a")
    assert before is not None and after is not None and after > before
