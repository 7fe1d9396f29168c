"""Caches at a master: what changes wait for, what may be seen meanwhile, and what a new master waits for."""

from __future__ import annotations

import pytest

from coordd.machine.limits import Limits
from coordd.paxos.messages import Accepted, Message
from tests.unit.engine.caching import Reader, reader_of, written
from tests.unit.engine.cell import Cell


def no_votes(sender: int, to: int, message: Message) -> bool:
    return isinstance(message, Accepted)


def nothing(sender: int, to: int, message: Message) -> bool:
    return False


def test_a_read_with_cache_is_numbered_and_shows_no_lock() -> None:
    cell = Cell(3)
    writer = written(cell)
    writer.do("acquire", path="/a")
    reader = Reader(cell)
    answer = reader.client.do("get", path="/a", cache=True)
    assert answer["cached"] > reader.pushes()[0]["number"] and answer["stat"]["lock_generation"] is None
    assert cell.do("get", path="/a")["stat"]["lock_generation"]
    assert reader.client.do("stat", path="/a", cache=True)["cached"]
    listing = reader.client.do("ls", path="/", cache=True)
    assert listing["cached"] and listing["entries"][0]["stat"]["lock_generation"] is None
    refused = reader.client.do("get", path="/none", cache=True)
    assert refused.code == "not_found" and refused.details["cached"]


def test_what_is_no_whole_present_truth_of_a_path_may_not_be_kept() -> None:
    cell = Cell()
    written(cell)
    reader = Reader(cell)
    revision = cell.do("get", path="/a")["stat"]["revision"]
    assert "cached" not in reader.client.do("get", path="/a", cache=True, revision=revision)
    before = reader.client.do("get", path="/a", cache=True, revision=revision - 1)
    assert before.code == "not_found" and "cached" not in before.details, "it is there now"
    assert "cached" not in reader.client.do("get", path="/", cache=True).details, "is_a_directory"
    assert "cached" not in reader.client.do("get", path="/a")
    without = cell.open()
    assert "cached" not in without.do("get", path="/a", cache=True), "no queue"
    assert "cached" not in cell.do("get", path="/a", cache=True), "no session"


def test_a_write_waits_for_the_acknowledgement_and_is_not_even_proposed_before() -> None:
    cell = Cell(3)
    writer = written(cell)
    reader = reader_of(cell, "/a")
    request = writer.call("put", path="/a", contents=b"new")
    cell.settle()
    assert request not in cell.answers
    assert cell.do("get", path="/a")["contents"] == b"old"
    other = writer.do("put", path="/b", contents=b"x")
    assert isinstance(other, dict), "others do not wait for it"
    assert reader.acknowledge() == ["/a"]
    cell.settle()
    assert cell.answers[request]["stat"]["revision"] > other["stat"]["revision"]
    assert reader.get("/a") == b"new" and reader.holds("/a")


def test_rule_6_a_dead_reader_delays_a_write_by_its_lease_and_no_longer() -> None:
    cell = Cell(3)
    writer = written(cell)
    reader = reader_of(cell, "/a")
    began_ms = cell.now_ms
    request = writer.call("put", path="/a", contents=b"new")
    while True:
        cell.run(10, tick_ms=10)
        if request in cell.answers:
            break
        assert cell.do("get", path="/a")["contents"] == b"old"
    assert not reader.holds("/a"), "by its own clock it was over before"
    assert cell.now_ms - began_ms <= cell.lease_ms


@pytest.mark.parametrize("end", ["channel", "session", "itself"])
def test_rule_6_neither_a_broken_channel_nor_the_end_of_the_session_nor_being_the_writer_ends_a_wait(end: str) -> None:
    cell = Cell(3)
    writer = written(cell)
    reader = reader_of(cell, "/a")
    if end == "channel":
        reader.gone()
    elif end == "session":
        reader.client.do("close_session")
    else:
        writer = reader.client
    request = writer.call("put", path="/a", contents=b"new")
    while reader.holds("/a"):
        assert request not in cell.answers
        cell.run(10, tick_ms=10)
    cell.run(100)
    assert request in cell.answers


def test_a_client_that_comes_back_on_a_new_channel_ends_the_wait() -> None:
    cell = Cell(3)
    writer = written(cell)
    reader = reader_of(cell, "/a")
    reader.gone()
    request = writer.call("put", path="/a", contents=b"new")
    cell.settle()
    assert request not in cell.answers
    reader.attach()
    cell.settle()
    assert request in cell.answers and reader.get("/a") == b"new"


def test_rule_3_what_is_being_changed_is_not_kept_anew_before_the_change_is_applied() -> None:
    cell = Cell(3)
    writer = written(cell)
    reader, late = reader_of(cell, "/a"), reader_of(cell)
    writer.call("put", path="/a", contents=b"new")
    cell.settle()
    assert late.get("/a") == b"old" and not late.holds("/a"), "while it waits"
    master = cell.master()
    master.disk_held = True
    for other in cell.nodes.values():
        other.disk_held = True
    reader.acknowledge()
    assert late.get("/a") == b"old" and not late.holds("/a"), "while it is on its way through the log"
    for other in cell.nodes.values():
        other.disk_held = False
    cell.settle()
    assert late.get("/a") == b"new" and late.holds("/a")


def test_rule_3_also_where_nobody_had_to_be_asked() -> None:
    cell = Cell(3)
    writer = written(cell)
    reader = reader_of(cell)
    for node in cell.nodes.values():
        node.disk_held = True
    request = writer.call("put", path="/a", contents=b"new")
    cell.settle()
    assert reader.get("/a") == b"old" and not reader.holds("/a")
    for node in cell.nodes.values():
        node.disk_held = False
    cell.settle()
    assert request in cell.answers, "so nobody has to be asked when it is applied"


def test_a_listing_shows_the_stat_of_each_child_so_it_is_dropped_when_one_is_written_or_has_more_children() -> None:
    cell = Cell(3)
    writer = written(cell)
    for operation, path in (("mkdir", "/d"), ("mkdir", "/d/e"), ("put", "/d/x")):
        writer.do(operation, path=path)
    reader = reader_of(cell)
    for operation, path, dropped in (
        ("put", "/d/x", ["/d"]),
        ("put", "/d/e/new", ["/d", "/d/e"]),
        ("put", "/d/e/new", ["/d/e"]),
        ("delete", "/d/e/new", ["/d", "/d/e"]),
    ):
        for held in ("/", "/d", "/d/e"):
            assert reader.client.do("ls", path=held, cache=True)["cached"]
        request = writer.call(operation, path=path)
        cell.settle()
        assert request not in cell.answers
        assert reader.acknowledge() == dropped
        cell.settle()
        assert isinstance(cell.answers[request], dict)
        reader.lease()


def test_before_a_change_is_proposed_it_is_known_how_far_up_it_reaches() -> None:
    cell = Cell(3)
    writer = cell.open()
    reader = reader_of(cell)
    machine = cell.master().engine.machine
    for operation, arguments in (
        ("put", {"path": "/x/y/z", "contents": b"", "parents": True}),
        ("mkdir", {"path": "/x/w"}),
        ("delete", {"path": "/x/y/z"}),
        ("delete", {"path": "/x/w"}),
    ):
        listing = reader.client.do("ls", path="/", cache=True)
        assert listing["cached"]
        revision = machine.revision
        request = writer.call(operation, **arguments)
        cell.settle()
        reaches = operation != "delete" or arguments["path"] == "/x/w"
        assert (machine.revision == revision) is reaches, "it waits outside the log, or nobody is asked"
        if reaches:
            assert reader.acknowledge() == ["/"]
            cell.settle()
        assert isinstance(cell.answers[request], dict)
        reader.lease()


def test_rule_7_what_nobody_was_asked_about_before_is_found_when_it_is_applied_and_not_seen_until_then() -> None:
    cell = Cell(3)
    writer, client = written(cell), cell.open()
    cell.dropped = no_votes
    early = writer.call("put", path="/a", contents=b"new")  # proposed before any cache is in use
    cell.settle()
    reader = reader_of(cell, "/a", client=client)
    cell.dropped = nothing
    machine = cell.master().engine.machine
    revision = machine.revision
    cell.until(lambda: machine.revision > revision, cell.lease_ms)
    assert early not in cell.answers and reader.holds("/a"), "applied, and not seen"
    assert cell.master().engine.machine.query("get", {"path": "/a", "revision": 0, "if_instance": None})["contents"]
    read = cell.call("get", path="/a")
    retry = writer.call("put", number=writer.number, path="/a", contents=b"new")
    later = writer.call("put", path="/c", contents=b"later")
    cell.settle()
    assert not {read, retry, later} & set(cell.answers)
    alive = reader.client.keep_alive()
    cell.settle()
    assert alive in cell.answers, "KeepAlives do not wait"
    assert reader.acknowledge() == ["/a"]
    cell.settle()
    assert cell.answers[read]["contents"] == b"new"
    assert cell.answers[early] == cell.answers[retry] and isinstance(cell.answers[later], dict)


def test_rule_7_a_watcher_is_told_of_a_change_when_nobody_believes_otherwise() -> None:
    cell = Cell(3)
    writer, client = written(cell), cell.open()
    watch = cell.call("watch", path="/a", channel=1)
    cell.settle()
    cell.dropped = no_votes
    writer.call("put", path="/a", contents=b"new")
    reader = reader_of(cell, "/a", client=client)
    cell.dropped = nothing
    machine = cell.master().engine.machine
    revision = machine.revision
    cell.until(lambda: machine.revision > revision, cell.lease_ms)
    late = cell.call("watch", path="/a", channel=2)
    cell.settle()
    assert [body["events"] for body in cell.pushed[watch]] == [[]] and late not in cell.pushed
    reader.acknowledge()
    cell.settle()
    assert [len(body["events"]) for body in cell.pushed[watch]] == [0, 1]
    assert cell.pushed[late][0]["revision"] == cell.pushed[watch][1]["revision"]


def test_rule_7_a_result_that_was_not_told_when_the_mastership_ends_is_unknown() -> None:
    cell = Cell(3)
    writer, client = written(cell), cell.open()
    cell.dropped = no_votes
    early = writer.call("put", path="/a", contents=b"new")
    cell.settle()
    reader_of(cell, "/a", client=client)
    cell.dropped = nothing
    machine = cell.master().engine.machine
    revision = machine.revision
    cell.until(lambda: machine.revision > revision, cell.lease_ms)
    read = cell.call("get", path="/a")
    old = cell.master()
    cell.settle()
    old.engine.replica.hand_over(cell.now_ms, 2 if old.replica != 2 else 3)
    cell.until(lambda: not old.engine.replica.serving)
    assert cell.answers[early].code == "outcome_unknown" and cell.answers[read].code == "not_master"


def test_rule_7_more_than_the_history_holds_is_dropped_by_everybody() -> None:
    cell = Cell(1)
    cell.master().engine.machine.state.limits = Limits(changes=2)
    writer = written(cell)
    reader = reader_of(cell, "/a")
    request = writer.call("put", path="/new/many/parents/file", contents=b"x", parents=True)
    cell.settle()
    assert request not in cell.answers
    assert reader.pushes()[-1]["invalidate"] is None
    reader.acknowledge()
    cell.settle()
    assert request in cell.answers and not reader.kept


def test_rule_8_a_lock_on_what_is_there_costs_nobody_anything() -> None:
    cell = Cell(3)
    writer = written(cell)
    reader = reader_of(cell, "/a")
    held = writer.do("acquire", path="/a")
    assert writer.do("release", path="/a", hold=held["hold"])
    assert reader.invalidated() == [] and reader.holds("/a")


def test_rule_8_but_a_lock_that_makes_its_file_does() -> None:
    cell = Cell(3)
    writer = cell.open()
    reader = reader_of(cell, "/lock")
    assert reader.kept["/lock"] is None
    request = writer.call("acquire", path="/lock")
    cell.settle()
    assert request not in cell.answers
    reader.acknowledge()
    cell.settle()
    assert request in cell.answers
    assert reader.get("/lock") == b"" and reader.holds("/lock")


def test_an_expiry_waits_like_any_change_and_its_session_is_in_decision_meanwhile() -> None:
    cell = Cell(3)
    dying = cell.open(lease_ms=1_000)
    dying.do("create", path="/mine", ephemeral=True)
    reader = reader_of(cell, "/mine")
    end_ms = cell.now_ms + 1_000
    while cell.now_ms < end_ms + 50:
        cell.run(50)
        reader.client.keep_alive()
        if not reader.holds("/mine") or cell.now_ms % 500 == 0:
            reader.lease()
    assert reader.holds("/mine") and dying.session in cell.master().engine.machine.sessions
    late, another = dying.keep_alive(), Reader(cell)
    assert another.get("/mine") == b"" and "/mine" not in another.kept, "nobody begins to hold it"
    assert late not in cell.answers, "an expiry is on its way"
    assert "/mine" in reader.acknowledge()
    cell.settle()
    assert dying.session not in cell.master().engine.machine.sessions
    assert cell.answers[late].code == "session_expired" and reader.get("/mine") is None


def test_an_expiry_of_what_nobody_holds_waits_for_nobody() -> None:
    cell = Cell(3)
    written(cell)
    dying = cell.open(lease_ms=1_000)
    dying.do("create", path="/mine", ephemeral=True)
    reader = reader_of(cell, "/a")
    cell.run(1_000)
    reader.lease()
    cell.run(100)
    assert dying.session not in cell.master().engine.machine.sessions
    assert reader.holds("/a") and not reader.invalidated()


def test_more_decisions_than_a_batch_holds_may_wait_for_one_reader() -> None:
    cell = Cell()
    dying = cell.open(lease_ms=1_000)
    for group in range(9):
        dying.do("acquire_all", locks=[{"path": f"/l/{group}-{one}"} for one in range(64)], lock_delay_ms=100)
    reader = reader_of(cell)
    assert reader.client.do("ls", path="/l", cache=True)["cached"]
    machine = cell.master().engine.machine
    while dying.session in machine.sessions:
        reader.client.keep_alive()
        reader.lease()
        cell.run(50)
    reader.lease()
    caching = cell.master().engine._mastership.caching
    cell.until(lambda: len(caching._decisions) == 9 * 64, cell.lease_ms)
    assert len(machine.state.locks) == 9 * 64, "their lock-delays are over, and nothing is known of the reader"
    cell.until(lambda: not machine.state.locks, 2 * cell.lease_ms)
    assert not caching._decided and cell.refused("stat", path="/l") == "not_found"


def test_an_expiry_that_waits_when_the_lease_is_lost_is_not_made_and_everybody_begins_whole() -> None:
    cell = Cell(3)
    dying = cell.open(lease_ms=1_000)
    dying.do("create", path="/mine", ephemeral=True)
    reader = reader_of(cell, "/mine")
    master = cell.master()
    caching = master.engine._mastership.caching
    while not caching._decisions:
        cell.run(10, tick_ms=10)
        reader.lease()
    cell.isolate(master.replica)
    while master.engine.replica.lease_valid(cell.now_ms):
        assert dying.session in master.engine.machine.sessions
        cell.run(10, tick_ms=10)
    cell.heal()
    late = dying.keep_alive(master)
    cell.run(100, tick_ms=10)
    assert master.engine.replica.lease_valid(cell.now_ms), "regained, in the same mastership"
    assert isinstance(cell.answers[late], dict) and dying.session in master.engine.machine.sessions
    assert reader.get("/mine") == b"" and "/mine" in reader.kept, "nothing is on its way any more"
