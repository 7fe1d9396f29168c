"""Cache leases at a master, what a new master waits for, and the limits of what waits for caches."""

from __future__ import annotations

from typing import Any

from coordclient.protocol.errors import Refusal
from coordclient.session import DRIFT_PPM, local_ms
from coordd.engine.inputs import Gone
from tests.unit.engine.caching import Reader, reader_of, written
from tests.unit.engine.cell import Cell


def test_rule_1_the_first_lease_is_given_when_the_grants_know_of_caches() -> None:
    cell = Cell(3)
    reader = Reader(cell)
    master = cell.master()
    cell.settle()
    caching = master.engine.replica.caching
    assert caching is not None and caching.wanted
    reader.lease()
    assert 0 < reader.until_ms - cell.now_ms <= cell.lease_ms


def test_rule_1_without_an_answer_to_a_heartbeat_that_says_so_no_lease_is_given() -> None:
    cell = Cell(3)
    cell.open()
    client = cell.open()
    master = cell.master()
    cell.isolate(master.replica)
    client.call("cache", master)
    asked = client.send("cache_lease", master, number=1)
    master.step()
    master.sync()
    cell.settle()
    assert master.engine.replica.lease_valid(cell.now_ms) and asked not in cell.answers
    cell.heal()
    cell.run(400)
    assert cell.answers[asked]["lease_ms"] > 0


def test_rule_2_a_cache_lease_never_outlives_the_master_lease() -> None:
    cell = Cell(3)
    reader = reader_of(cell)
    master = cell.master()
    cell.isolate(master.replica)
    cell.run(700)
    proposer = master.engine.replica.proposer
    assert proposer is not None and master.engine.replica.lease_valid(cell.now_ms)
    request = reader.client.send("cache_lease", master, number=reader.asked + 1)
    cell.settle()
    assert cell.now_ms + cell.answers[request]["lease_ms"] == proposer.lease.until_ms - 1
    cell.run(900)
    late = reader.client.send("cache_lease", master, number=reader.asked + 2)
    cell.settle()
    assert late not in cell.answers, "outside the master lease there is nothing to give"


def test_rule_2_a_lease_is_over_for_the_slowest_clock_before_the_cell_takes_it_for_over() -> None:
    cell = Cell(3)
    reader = Reader(cell)
    reader.lease()
    (queue,) = cell.master().engine._mastership.caching.caches.queues.values()
    told_ms = cell.answers[reader.lease()]["lease_ms"]
    sent = cell.now_ms + 0.999  # by the master's clock, of which it reads whole ms
    over = sent + local_ms(told_ms, DRIFT_PPM) / (1 - DRIFT_PPM / 1_000_000)
    assert queue.until_ms - 2 < over <= queue.until_ms


def test_rule_5_a_lease_waits_for_the_acknowledgement() -> None:
    cell = Cell(3)
    writer = written(cell)
    reader = reader_of(cell, "/a")
    before_ms = reader.until_ms
    writer.call("put", path="/a", contents=b"new")
    cell.run(300)
    asked_ms = cell.now_ms
    request = reader.lease()
    assert request not in cell.answers and reader.until_ms == before_ms
    reader.acknowledge()
    cell.settle()
    reader.take_lease(cell.answers[request], asked_ms)
    assert reader.until_ms > before_ms


def test_rule_5_a_renewal_in_another_mastership_finds_no_queue() -> None:
    cell = Cell(3)
    written(cell)
    reader = reader_of(cell, "/a")
    old = cell.master()
    old.engine.replica.hand_over(cell.now_ms, 2 if old.replica != 2 else 3)
    cell.until(lambda: not old.engine.replica.serving)
    assert cell.answers[reader.queue].code == "not_master"
    assert cell.master() is not old
    cell.until(lambda: cell.master().engine.replica.may_show(cell.now_ms))
    reader.client.attach()
    request = reader.client.send("cache_lease", number=9)
    cell.settle()
    answer = cell.answers[request]
    assert (answer["lease_ms"], answer["drop"]) == (0, True)


def test_the_newest_request_for_a_lease_overtakes_the_one_that_waits() -> None:
    cell = Cell(3)
    writer = written(cell)
    reader = reader_of(cell, "/a")
    writer.call("put", path="/a", contents=b"new")
    cell.settle()
    first, second = reader.lease(), reader.lease()
    assert cell.answers[first]["lease_ms"] == 0 and second not in cell.answers
    cell.do("kill_session", session=reader.client.session, reason="test")
    reader.acknowledge()
    cell.settle()
    assert cell.answers[second].code == "session_expired"


def test_a_new_master_answers_keep_alives_but_neither_reads_nor_writes_while_old_cache_leases_run() -> None:
    cell = Cell(3)
    writer = written(cell)
    reader = reader_of(cell, "/a")
    old = cell.master()
    heir = cell.nodes[2 if old.replica != 2 else 3]
    old.engine.replica.hand_over(cell.now_ms, heir.replica)
    cell.until(lambda: heir.engine.replica.lease_valid(cell.now_ms), 2_000)
    assert reader.holds("/a"), "it has not said a word"
    alive = writer.keep_alive(heir)
    read = writer.call("get", heir, path="/a")
    write = writer.call("put", heir, path="/a", contents=b"new")
    opened = writer.call("cache", heir)
    cell.settle()
    assert isinstance(cell.answers[alive], dict) and not {read, write} & set(cell.answers)
    while reader.holds("/a"):
        cell.run(10, tick_ms=10)
        assert not {read, write} & set(cell.answers) and opened not in cell.pushed
    cell.until(lambda: read in cell.answers and write in cell.answers, cell.lease_ms)
    assert cell.answers[read]["contents"] == b"old" and isinstance(cell.answers[write], dict)
    assert opened in cell.pushed


def test_a_hand_over_with_caches_that_answer_is_as_quick_as_without() -> None:
    cell = Cell(3)
    written(cell)
    reader = reader_of(cell, "/a")
    old = cell.master()
    heir = cell.nodes[2 if old.replica != 2 else 3]
    old.engine.replica.hand_over(cell.now_ms, heir.replica)
    old.step()
    cell.settle()
    assert reader.pushes()[-1]["invalidate"] is None
    reader.invalidated()
    assert reader.get("/a") == b"old" and not reader.holds("/a"), "nothing is kept any more"
    request = reader.lease()
    reader.acknowledge()
    assert request not in cell.answers, "and no lease is given"
    cell.until(lambda: heir.engine.replica.lease_valid(cell.now_ms), 400)
    assert heir.engine.replica.may_show(cell.now_ms)


def test_when_nobody_uses_a_cache_any_more_the_grants_say_so() -> None:
    cell = Cell(3)
    reader = reader_of(cell)
    master = cell.master()
    caching = master.engine.replica.caching
    assert caching is not None and caching.wanted
    reader.gone()
    assert caching.wanted, "its lease runs"
    cell.run(cell.lease_ms)
    assert not caching.wanted


def test_a_second_queue_of_a_session_ends_the_first() -> None:
    cell = Cell(3)
    reader = reader_of(cell)
    first = reader.queue
    reader.open()
    assert cell.answers[first] == {}
    reader.lease()
    assert reader.until_ms > cell.now_ms


def test_a_request_for_a_lease_that_waits_goes_with_its_channel() -> None:
    cell = Cell(3)
    writer = written(cell)
    reader = reader_of(cell, "/a")
    writer.call("put", path="/a", contents=b"new")
    cell.settle()
    asked = reader.lease()
    reader.gone()
    assert cell.answers[asked]["lease_ms"] == 0
    assert not cell.master().engine._mastership.caching._asking


def test_a_request_for_a_lease_that_waits_is_not_forgotten_by_a_second_queue() -> None:
    cell = Cell(3)
    writer = written(cell)
    reader = reader_of(cell, "/a")
    writer.call("put", path="/a", contents=b"new")
    cell.settle()
    asked = reader.lease()
    assert asked not in cell.answers
    reader.open()
    assert cell.answers[asked]["lease_ms"] == 0


def test_the_queue_of_a_session_that_has_ended_is_over_though_its_channel_never_says_so() -> None:
    cell = Cell(3)
    writer = written(cell)
    reader = reader_of(cell, "/a")
    request = writer.call("put", path="/a", contents=b"new")
    asked = reader.lease()
    reader.client.do("close_session")
    assert cell.answers[reader.queue].code == cell.answers[asked].code == "session_expired"
    assert request not in cell.answers, "it may believe in what it holds"
    cell.run(cell.lease_ms)
    assert request in cell.answers
    caches = cell.master().engine._mastership.caching.caches
    assert not caches.in_use and not caches.held
    again = reader.client.call("cache")
    cell.settle()
    assert cell.answers[again].code == "session_expired"


def test_the_queue_of_a_process_that_has_lost_its_session_to_another_is_over() -> None:
    cell = Cell(3)
    written(cell)
    reader = reader_of(cell, "/a")
    about: dict[str, Any] = {"session": reader.client.session, "secret": reader.client.secret}
    cell.do("resume_session", **about, new_secret="n" * 32)
    assert cell.answers[reader.queue].code == "session_expired"
    cell.run(cell.lease_ms)
    assert not cell.master().engine._mastership.caching.caches.in_use


def test_a_channel_that_ends_as_the_next_one_asks_for_a_queue_is_told_nothing() -> None:
    cell = Cell(3)
    reader = reader_of(cell)
    first = reader.queue
    cell.master().inbox.append(Gone((first,)))
    reader.open()
    assert first not in cell.answers
    reader.lease()
    assert reader.until_ms > cell.now_ms


def test_a_new_master_opens_a_queue_when_it_serves() -> None:
    cell = Cell(3)
    client = cell.open()
    master = cell.master()
    cell.isolate(master.replica)
    cell.run(cell.lease_ms)
    opened = client.call("cache", master)
    cell.settle()
    assert opened not in cell.pushed, "it may be the master no more"
    cell.heal()
    cell.until(lambda: opened in cell.pushed or opened in cell.answers, cell.lease_ms)


def test_queues_requests_for_leases_and_reads_that_wait_are_bounded() -> None:
    cell = Cell(3, requests_max=1, waiting_calls_max=1)
    client = cell.open()
    caching = cell.master().engine._mastership.caching
    caching.view.veil()
    first, second = client.call("get", path="/"), client.call("get", path="/")
    cell.settle()
    assert first not in cell.answers and cell.answers[second].code == "overloaded"
    caching.view.lift()
    cell.run(50)
    reader = Reader(cell, client)
    asked, opened = reader.client.send("cache_lease", number=1), client.call("cache")
    cell.settle()
    assert cell.answers[asked].code == cell.answers[opened].code == "overloaded"


def test_queues_of_caches_leave_room_for_the_release_that_others_wait_for() -> None:
    cell = Cell(requests_max=4)
    clients = [cell.open() for _ in range(4)]
    hold = clients[0].do("acquire", path="/l")
    waiting = clients[1].call("acquire", path="/l")
    opened = [client.call("cache") for client in clients]
    cell.settle()
    assert [request in cell.answers for request in opened] == [False, False, True, True]
    assert clients[0].do("release", path="/l", hold=hold["hold"])
    assert cell.answers[waiting]["token"]


def test_a_queue_needs_a_channel_that_speaks_for_a_session() -> None:
    cell = Cell(3)
    client = cell.open()
    about: dict[str, Any] = {"session": client.session, "secret": client.secret}
    assert cell.refused("cache", **about) == "bad_request"
    assert cell.refused("cache") == "session_required"
    answer = cell.do("cache_lease", number=1, **about)
    assert (answer["lease_ms"], answer["drop"]) == (0, True)
    assert cell.do("invalidated", number=1, **about) == {}


def test_changes_that_wait_for_caches_are_bounded() -> None:
    cell = Cell(3, waiting_calls_max=2)
    writer = written(cell)
    reader_of(cell, "/a")
    requests = [writer.call("put", path="/a", contents=b"new") for _ in range(3)]
    cell.settle()
    assert requests[0] not in cell.answers and requests[1] not in cell.answers
    assert cell.answers[requests[2]].code == "overloaded"
    cell.run(cell.lease_ms + 100)
    assert all(isinstance(cell.answers[request], dict) for request in requests[:2])


def test_bytes_of_changes_that_wait_are_bounded_too() -> None:
    cell = Cell(3, waiting_bytes_max=4_000)
    writer = written(cell)
    reader_of(cell, "/a")
    requests = [writer.call("put", path="/a", contents=bytes(2_000)) for _ in range(2)]
    cell.settle()
    assert requests[0] not in cell.answers and cell.answers[requests[1]].code == "overloaded"


def test_the_steps_of_a_transaction_that_waits_count_too() -> None:
    cell = Cell(3, waiting_bytes_max=4_000)
    writer = written(cell)
    reader_of(cell, "/a")
    puts: list[Any] = [{"do": "put", "path": path, "contents": bytes(1_500)} for path in ("/a", "/b")]
    otherwise: dict[str, Any] = {"else": puts[1:]}
    requests = [
        writer.call("txn", then=puts[:1]),
        writer.call("txn", then=puts[:1], **otherwise),
        writer.call("txn", guards=[{"path": "/a", "exists": True}] * 6, then=[{"do": "delete", "path": "/a"}]),
    ]
    cell.settle()
    assert requests[0] not in cell.answers
    assert [cell.answers[request].code for request in requests[1:]] == ["overloaded"] * 2


def test_a_change_that_is_refused_because_too_many_wait_is_not_kept_meanwhile() -> None:
    cell = Cell(3, waiting_calls_max=1)
    writer = written(cell)
    reader = reader_of(cell, "/a")
    requests = [writer.call("put", path="/a", contents=bytes(100_000)) for _ in range(10)]
    cell.settle()
    assert [request in cell.answers for request in requests] == [False] + [True] * 9
    (queue,) = cell.master().engine._mastership.caching.caches.queues.values()
    kept = [wait.then for waits in queue.waits.values() for wait in waits if wait.then is not None]
    assert len(kept) == 1
    reader.acknowledge()
    cell.settle()
    assert isinstance(cell.answers[requests[0]], dict)
    assert isinstance(writer.do("put", path="/a"), dict), "there is room again"


def test_a_change_that_nobody_waits_for_any_more_is_not_made() -> None:
    cell = Cell(3)
    writer = written(cell)
    reader = reader_of(cell, "/a")
    request = writer.call("put", path="/a", contents=b"new")
    cell.settle()
    cell.master().inbox.append(Gone((request,)))
    cell.settle()
    reader.acknowledge()
    cell.settle()
    assert cell.do("get", path="/a")["contents"] == b"old"
    assert reader.get("/a") == b"old" and reader.holds("/a"), "nothing is on its way"


def test_a_change_whose_session_ends_while_it_waits_is_refused() -> None:
    cell = Cell(3)
    writer = written(cell)
    reader = reader_of(cell, "/a")
    request = writer.call("put", path="/a", contents=b"new")
    cell.settle()
    writer.do("close_session")
    reader.acknowledge()
    cell.settle()
    assert isinstance(cell.answers[request], Refusal) and cell.answers[request].code == "session_expired"
    assert cell.do("get", path="/a")["contents"] == b"old"
