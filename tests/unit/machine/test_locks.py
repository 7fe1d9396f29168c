"""Locks: one test per sentence of the promises."""

from __future__ import annotations

import pytest

from coordclient.protocol.errors import Refusal
from tests.unit.machine.harness import Cell


@pytest.fixture
def cell() -> Cell:
    return Cell()


def test_an_exclusive_lock_has_one_holder_and_others_wait_in_order(cell: Cell) -> None:
    first, second, third = cell.open(), cell.open(), cell.open()
    grant = cell.acquire(first, "/a")
    assert grant["token"] == cell.machine.revision
    assert cell.acquire(second, "/a") is None
    assert cell.acquire(third, "/a") is None
    assert cell.queue("/a") == [(second, 1), (third, 1)]
    cell.release(first, "/a")
    assert cell.woke() == [(second, 1, cell.machine.revision)]
    cell.release(second, "/a")
    assert cell.woke() == [(third, 1, cell.machine.revision)]


def test_shared_holders_share_and_carry_the_token_of_the_period(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    token = cell.acquire(first, "/a", "shared")["token"]
    assert cell.acquire(second, "/a", "shared")["token"] == token
    cell.release(first, "/a")
    third = cell.open()
    assert cell.acquire(third, "/a", "shared")["token"] == token
    cell.release(second, "/a")
    cell.release(third, "/a")
    assert cell.acquire(third, "/a", "shared")["token"] > token


def test_a_shared_request_behind_a_waiting_exclusive_one_waits(cell: Cell) -> None:
    reader, writer, late = cell.open(), cell.open(), cell.open()
    cell.acquire(reader, "/a", "shared")
    assert cell.acquire(writer, "/a") is None
    assert cell.acquire(late, "/a", "shared") is None
    cell.release(reader, "/a")
    assert cell.holders("/a") == [(writer, 1)]
    cell.release(writer, "/a")
    assert cell.holders("/a") == [(late, 1)]


def test_all_shared_requests_at_the_head_are_granted_in_one_step(cell: Cell) -> None:
    holder = cell.open()
    cell.acquire(holder, "/a")
    waiters = [cell.open() for _ in range(4)]
    for waiter in waiters[:3]:
        assert cell.acquire(waiter, "/a", "shared") is None
    assert cell.acquire(waiters[3], "/a") is None
    cell.release(holder, "/a")
    assert cell.holders("/a") == [(waiter, 1) for waiter in waiters[:3]]
    assert len({token for _, _, token in cell.woke()}) == 1
    assert cell.queue("/a") == [(waiters[3], 1)]


def test_two_lock_objects_of_one_session_exclude_each_other(cell: Cell) -> None:
    session = cell.open()
    cell.acquire(session, "/a")
    assert cell.acquire(session, "/a") is None
    cell.release(session, "/a")
    assert cell.holders("/a") == [(session, 2)]


def test_without_wait_the_refusal_names_the_holder(cell: Cell) -> None:
    first, second = cell.open(host="alpha"), cell.open()
    token = cell.acquire(first, "/a")["token"]
    refusal = cell.refused("acquire", second, cell.call(second), path="/a", wait=False)
    assert refusal.code == "not_acquired"
    holder = refusal.details["holder"]
    assert isinstance(holder, dict)
    assert (holder["session"], holder["hold"], holder["token"]) == (first, 1, token)
    assert holder["client"] == {"host": "alpha"}
    assert cell.queue("/a") == []


def test_before_there_is_a_key_nothing_is_granted() -> None:
    cell = Cell(ready=False)
    session = cell.open()
    assert cell.refused("acquire", session, cell.call(session), path="/a").code == "unavailable"
    cell.begin_epoch(1)
    assert not cell.machine.has_key
    cell.master("set_sequencer_key", key=bytes(32), epoch=1)
    assert cell.machine.has_key
    # "unavailable" ran nothing, so the same call may come again and run
    assert cell.do("acquire", session, 1, path="/a")["hold"] == 1


def test_an_expired_holder_blocks_until_its_lock_delay_ends(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    token = cell.acquire(first, "/a", lock_delay_ms=5_000)["token"]
    assert cell.acquire(second, "/a") is None
    assert cell.expire(first) == {"expired": True}
    assert cell.woke() == []
    assert list(cell.machine.delayed_holds()) == [("/a", first, 1, 5_000)]
    assert cell.end_lock_delay("/a", first, 1) == {"ended": True}
    [(session, call, later)] = cell.woke()
    assert (session, call) == (second, 1)
    assert isinstance(later, int) and later > token


def test_closing_frees_at_once(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    cell.acquire(first, "/a", lock_delay_ms=60_000)
    cell.acquire(second, "/a")
    cell.do("close_session", first, cell.call(first))
    assert cell.holders("/a") == [(second, 1)]
    reply = cell.apply("release", first, 9, path="/a", hold=1).reply
    assert isinstance(reply, Refusal) and reply.code == "session_expired"


def test_a_lock_on_a_missing_path_makes_the_file_and_its_parents_and_removes_them_again(cell: Cell) -> None:
    session = cell.open()
    cell.acquire(session, "/a/b/c")
    assert [cell.query("stat", path=path)["stat"]["kind"] for path in ("/a", "/a/b", "/a/b/c")] == [
        "directory",
        "directory",
        "file",
    ]
    cell.release(session, "/a/b/c")
    assert list(cell.machine.state.nodes) == ["/"]


def test_a_lock_never_removes_what_existed_before(cell: Cell) -> None:
    session = cell.open()
    cell.do("put", path="/a/file", contents=b"mine", parents=True)
    cell.acquire(session, "/a/file")
    cell.release(session, "/a/file")
    cell.acquire(session, "/a/lock")
    cell.release(session, "/a/lock")
    assert sorted(cell.machine.state.nodes) == ["/", "/a", "/a/file"]


def test_a_temporary_file_stays_while_somebody_waits_or_a_delay_runs(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    cell.acquire(first, "/a")
    cell.acquire(second, "/a")
    cell.expire(first)
    assert cell.exists("/a")
    cell.do("cancel", second, cell.call(second), target=1)
    assert cell.exists("/a")
    cell.end_lock_delay("/a", first, 1)
    assert not cell.exists("/a")


def test_a_put_on_a_temporary_file_keeps_it_and_what_is_above_it(cell: Cell) -> None:
    session = cell.open()
    cell.acquire(session, "/a/b")
    cell.do("put", session, cell.call(session), path="/a/b", contents=b"who leads")
    cell.release(session, "/a/b")
    assert cell.query("get", path="/a/b")["contents"] == b"who leads"


def test_what_is_made_below_a_temporary_directory_keeps_that_directory(cell: Cell) -> None:
    session = cell.open()
    cell.acquire(session, "/a/b")
    cell.do("create", path="/a/my/own", parents=True)
    cell.release(session, "/a/b")
    cell.do("delete", path="/a/my/own")
    assert sorted(cell.machine.state.nodes) == ["/", "/a", "/a/my"]


def test_a_temporary_directory_stays_while_another_lock_is_below_it(cell: Cell) -> None:
    session = cell.open()
    cell.acquire(session, "/a/b")
    cell.acquire(session, "/a/c/d")
    cell.release(session, "/a/b")
    assert sorted(cell.machine.state.nodes) == ["/", "/a", "/a/c", "/a/c/d"]
    cell.release(session, "/a/c/d")
    assert list(cell.machine.state.nodes) == ["/"]


def test_a_temporary_directory_that_is_locked_itself_goes_when_its_own_lock_is_free(cell: Cell) -> None:
    session = cell.open()
    cell.acquire(session, "/a/b")
    cell.acquire(session, "/a")
    cell.release(session, "/a/b")
    assert sorted(cell.machine.state.nodes) == ["/", "/a"]
    cell.release(session, "/a")
    assert list(cell.machine.state.nodes) == ["/"]


def test_directories_and_the_root_can_be_locked(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    cell.do("mkdir", path="/a")
    for path in ("/", "/a"):
        assert cell.acquire(first, path)["path"] == path
        assert cell.acquire(second, path) is None
        cell.do("cancel", second, cell.call(second), target=cell.calls[second] - 1)
        cell.release(first, path)
    assert sorted(cell.machine.state.nodes) == ["/", "/a"]


def test_there_is_no_lock_below_a_file(cell: Cell) -> None:
    session = cell.open()
    cell.do("put", path="/a")
    assert cell.refused("acquire", session, cell.call(session), path="/a/b").code == "not_a_directory"


def test_a_held_node_cannot_be_deleted_and_the_refusal_names_a_holder(cell: Cell) -> None:
    first = cell.open()
    cell.do("put", path="/a")
    cell.acquire(first, "/a")
    refusal = cell.refused("delete", path="/a")
    assert refusal.code == "locked"
    assert isinstance(refusal.details["holder"], dict) and refusal.details["holder"]["session"] == first
    cell.expire(first)
    refusal = cell.refused("delete", path="/a")
    assert isinstance(refusal.details["holder"], dict) and refusal.details["holder"]["delayed"] is True
    cell.end_lock_delay("/a", first, 1)
    cell.do("delete", path="/a")


def test_tokens_rise_over_delete_and_creation_of_the_same_path(cell: Cell) -> None:
    session = cell.open()
    tokens = []
    for _ in range(3):
        cell.do("put", path="/a")
        tokens.append(cell.acquire(session, "/a")["token"])
        cell.release(session, "/a")
        cell.do("delete", path="/a")
        tokens.append(cell.acquire(session, "/a")["token"])
        cell.release(session, "/a")
    assert tokens == sorted(set(tokens))


def test_a_release_wakes_in_the_same_step(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    cell.acquire(first, "/a")
    cell.acquire(second, "/a")
    [applied] = cell.batch(cell.command("release", first, cell.call(first), path="/a", hold=1))
    assert [(one.session, one.call) for one in applied.woken] == [(second, 1)]


def test_an_expiry_wakes_everyone_on_every_path_in_the_same_step(cell: Cell) -> None:
    gone, other, third = cell.open(), cell.open(), cell.open()
    cell.acquire(gone, "/free", lock_delay_ms=0)
    cell.acquire(other, "/free")
    cell.acquire(other, "/queue", "shared")
    cell.acquire(gone, "/queue")  # waits, and makes the shared request behind it wait
    cell.acquire(third, "/queue", "shared")
    cell.acquire(gone, "/delayed")
    cell.acquire(third, "/delayed")
    cell.expire(gone)
    assert [(session, call) for session, call, _ in cell.woke()] == [(gone, 2), (third, 1), (other, 1)]
    assert cell.holders("/free") == [(other, 1)]
    assert cell.holders("/queue") == [(other, 2), (third, 1)]
    assert cell.holders("/delayed") == [(gone, 3)] and cell.queue("/delayed") == [(third, 2)]


def test_no_waiter_of_a_dead_session_is_ever_granted(cell: Cell) -> None:
    holder, gone = cell.open(), cell.open()
    cell.acquire(holder, "/a")
    cell.acquire(gone, "/a")
    cell.expire(gone)
    assert cell.woke() == [(gone, 1, "session_expired")]
    cell.release(holder, "/a")
    assert cell.holders("/a") == [] and not cell.exists("/a")


def test_shared_requests_join_a_shared_period_of_which_only_delayed_holds_are_left(cell: Cell) -> None:
    gone, reader, writer = cell.open(), cell.open(), cell.open()
    token = cell.acquire(gone, "/a", "shared")["token"]
    cell.expire(gone)
    assert cell.acquire(reader, "/a", "shared")["token"] == token
    assert cell.acquire(writer, "/a") is None
    cell.release(reader, "/a")
    assert cell.woke() == []
    cell.end_lock_delay("/a", gone, 1)
    assert cell.holders("/a") == [(writer, 1)]


def test_the_end_of_a_lock_delay_decided_in_another_epoch_does_nothing(cell: Cell) -> None:
    gone = cell.open()
    cell.acquire(gone, "/a")
    cell.expire(gone)
    cell.begin_epoch(2)
    stale = cell.master("end_lock_delay", path="/a", session=gone, hold=1, epoch=1)
    assert stale == {"ended": False} and cell.holders("/a") == [(gone, 1)]
    assert cell.end_lock_delay("/b", gone, 1) == {"ended": False}
    assert cell.end_lock_delay("/a", gone, 1) == {"ended": True}
    assert cell.end_lock_delay("/a", gone, 1) == {"ended": False}


def test_a_live_hold_is_not_ended_by_the_end_of_a_lock_delay(cell: Cell) -> None:
    session = cell.open()
    cell.acquire(session, "/a")
    assert cell.end_lock_delay("/a", session, 1) == {"ended": False}
    assert cell.holders("/a") == [(session, 1)]


def test_only_the_own_hold_on_that_very_path_is_released(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    cell.acquire(first, "/a")
    assert cell.refused("release", second, cell.call(second), path="/a", hold=1).code == "not_held"
    assert cell.refused("release", first, cell.call(first), path="/b", hold=1).code == "not_held"
    assert cell.refused("release", first, cell.call(first), path="/a", hold=2).code == "not_held"
    assert cell.holders("/a") == [(first, 1)]


def test_anyone_can_ask_who_holds_since_when_and_who_waits(cell: Cell) -> None:
    first, second = cell.open(host="alpha"), cell.open(host="beta")
    cell.acquire(first, "/x/a", actor="main")
    since_ms = cell.wall_ms
    cell.acquire(second, "/x/a", "shared", actor="worker")
    cell.acquire(second, "/y")
    assert cell.query("locks", path="/x")["locks"] == [
        {
            "path": "/x/a",
            "mode": "exclusive",
            "token": cell.lock_at("/x/a")["token"],
            "permits": 0,
            "holders": [
                {
                    "session": first,
                    "hold": 1,
                    "actor": "main",
                    "since_ms": since_ms,
                    "token": cell.lock_at("/x/a")["token"],
                    "mode": "exclusive",
                    "permits": 0,
                    "lock_delay_ms": 5_000,
                    "delayed": False,
                    "revoked": None,
                    "client": {"host": "alpha"},
                    "principal": "anonymous",
                }
            ],
            "waiters": [
                {
                    "session": second,
                    "call": 1,
                    "actor": "worker",
                    "mode": "shared",
                    "permits": 0,
                    "several": False,
                    "since_ms": since_ms + 1,
                    "place": 1,
                    "client": {"host": "beta"},
                    "principal": "anonymous",
                }
            ],
        }
    ]
    assert [row["path"] for row in cell.query("locks")["locks"]] == ["/x/a", "/y"]
    cell.expire(first)
    (delayed,) = cell.lock_at("/x/a")["holders"]
    assert delayed["client"] == {"host": "alpha"} and delayed["principal"] == "anonymous", "its session is gone"


def test_a_holder_and_a_waiter_show_their_principals_and_a_holder_whose_session_is_gone_does_too(cell: Cell) -> None:
    holder, waiter = cell.open("ops"), cell.open("web")
    cell.acquire(holder, "/a")
    cell.acquire(waiter, "/a")
    row = cell.lock_at("/a")
    assert (row["holders"][0]["principal"], row["waiters"][0]["principal"]) == ("ops", "web")
    cell.expire(holder)
    assert cell.lock_at("/a")["holders"][0]["principal"] == "ops"


def test_an_ephemeral_file_that_is_locked_goes_when_its_lock_is_free(cell: Cell) -> None:
    owner, other = cell.open(), cell.open()
    cell.do("create", owner, cell.call(owner), path="/a", ephemeral=True)
    cell.acquire(other, "/a")
    cell.expire(owner)
    assert cell.exists("/a")
    cell.release(other, "/a")
    assert not cell.exists("/a")


def test_an_ephemeral_file_kept_by_a_lock_lives_on_when_somebody_opens_it(cell: Cell) -> None:
    owner, other = cell.open(), cell.open()
    cell.do("create", owner, cell.call(owner), path="/a", ephemeral=True)
    cell.acquire(owner, "/a")
    cell.expire(owner)
    cell.do("open", other, cell.call(other), path="/a")
    cell.end_lock_delay("/a", owner, 2)
    assert cell.exists("/a")
    cell.expire(other)
    assert not cell.exists("/a")
