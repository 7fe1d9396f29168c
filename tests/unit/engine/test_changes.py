"""Changes of the cell through the engine: what is asked for, what is refused by name, and what is answered when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coordclient.protocol.errors import Refusal
from coordd.engine.inputs import Gone
from coordd.paxos.membership import LEARNERS_MAX, REPLICA_ID_MAX
from tests.unit.engine.changing import ADDRESSES, add, cell_of, change


def test_members_says_who_takes_part_and_how_many_more_may_fail() -> None:
    cell = cell_of(3)
    said = cell.do("members")
    assert (said["version"], said["majority"], said["can_lose"], said["voters"]) == (1, 2, 1, 3)
    assert said["master"] == cell.master().replica
    assert [(row["replica"], row["voter"], row["address"]) for row in said["members"]] == [
        (replica, True, ADDRESSES[replica]) for replica in (1, 2, 3)
    ]
    assert all(row["heard_ms_ago"] < 1_000 and row["chosen_upto"] <= cell.master().engine.replica.chosen_upto
               for row in said["members"])  # fmt: skip


def test_a_cell_grows_from_one_to_three() -> None:
    cell = cell_of(1)
    for replica in (2, 3):
        add(cell, replica, promote=True)
    said = cell.do("members")
    assert (said["voters"], said["can_lose"]) == (3, 1)
    assert {node.engine.status(cell.now_ms)["standing"] for node in cell.nodes.values()} == {"voter"}
    assert [row["address"] for row in said["members"]] == [ADDRESSES[replica] for replica in (1, 2, 3)]
    cell.nodes[1].crash()
    assert cell.master().replica in (2, 3)


def test_without_an_id_the_next_free_one_is_given() -> None:
    cell = cell_of(3)
    said = change(cell, "add_member", address=ADDRESSES[4])
    assert (said["replica"], said["changed"], said["highest"]) == (4, True, 4)


def test_every_replica_tells_its_driver_who_is_a_member_from_the_start_and_at_every_change() -> None:
    cell = cell_of(3)
    add(cell, 4)
    assert [membership.version for membership in cell.nodes[1].memberships] == [1, 2]
    assert [membership.version for membership in cell.nodes[4].memberships] == [0, 2]
    cell.nodes[4].crash()
    cell.nodes[4].start()
    cell.run(100)
    assert cell.nodes[4].memberships[-1].version == 2


def test_a_removed_replica_is_told_to_end_and_the_cell_goes_on() -> None:
    cell = cell_of(3)
    other = next(replica for replica in cell.nodes if replica != cell.master().replica)
    said = change(cell, "remove_member", replica=other)
    assert (said["changed"], said["voters"], said["can_lose"]) == (True, 2, 0)
    assert cell.nodes[other].left
    assert not any(node.left for replica, node in cell.nodes.items() if replica != other)


def test_a_master_that_removes_itself_still_answers() -> None:
    cell = cell_of(3)
    master = cell.master()
    request = cell.call("remove_member", replica=master.replica)
    cell.run(5_000)
    assert cell.answers[request]["changed"]
    assert cell.answers[request]["voters"] == 2
    assert cell.master() is not master
    assert master.left


def test_what_is_so_already_is_answered_and_not_done_twice() -> None:
    cell = cell_of(3)
    add(cell, 4, promote=True)
    version = cell.do("members")["version"]
    assert not change(cell, "add_member", replica=4, address=ADDRESSES[4])["changed"]
    assert not change(cell, "promote_member", replica=4)["changed"]
    assert not change(cell, "transfer_master", to=cell.master().replica)["changed"]
    assert change(cell, "remove_member", replica=4)["changed"]
    assert not change(cell, "remove_member", replica=4)["changed"]
    assert cell.do("members")["version"] == version + 1


# ---- refusals ----


@pytest.mark.parametrize(
    ("operation", "arguments", "code", "words"),
    [
        ("add_member", {"replica": 2, "address": "http://h9:7420"}, "exists", "member already"),
        ("add_member", {"address": "http://h2:7420"}, "conflict", "address of replica 2"),
        ("promote_member", {"replica": 9}, "not_found", "no member (add it first)"),
        ("remove_member", {"replica": 9}, "not_found", "no member; members are 1, 2, 3"),
        ("transfer_master", {"to": 9}, "not_found", "no voter"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_by_name(operation, arguments, code, words) -> None:
    answer = change(cell_of(3), operation, **arguments)
    assert isinstance(answer, Refusal)
    assert answer.code == code
    assert words in answer.message


def test_an_id_is_given_once() -> None:
    cell = cell_of(3)
    add(cell, 4)
    change(cell, "remove_member", replica=4)
    for operation, arguments in (
        ("add_member", {"replica": 4, "address": ADDRESSES[5]}),
        ("promote_member", {"replica": 4}),
    ):
        answer = change(cell, operation, **arguments)
        assert isinstance(answer, Refusal)
        assert answer.code == "conflict"
        assert "given" in answer.message


def test_a_learner_that_is_silent_or_behind_is_not_promoted() -> None:
    cell = cell_of(1, caught_up_slots=4)
    assert change(cell, "add_member", replica=2, address=ADDRESSES[2])["changed"]
    silent = change(cell, "promote_member", replica=2)
    assert isinstance(silent, Refusal)
    assert "does not answer" in silent.message
    cell.join(2)
    cell.run(2_000)
    cell.dropped = lambda sender, to, message: to == 2 and type(message).__name__ in ("Accept", "Learned")
    for number in range(8):
        cell.do("put", path=f"/{number}", parents=False)
    behind = change(cell, "promote_member", replica=2)
    assert isinstance(behind, Refusal)
    assert int(str(behind.details["behind"])) >= 5
    cell.dropped = lambda sender, to, message: False
    cell.run(1_000)
    assert change(cell, "promote_member", replica=2)["changed"]


def test_a_change_that_would_leave_no_majority_that_answers_is_refused() -> None:
    cell = cell_of(3)
    master = cell.master().replica
    alive, dead = [replica for replica in cell.nodes if replica != master]
    cell.nodes[dead].crash()
    cell.run(4_000)
    for replica in (alive, master):
        answer = change(cell, "remove_member", replica=replica)
        assert isinstance(answer, Refusal)
        assert answer.code == "conflict"
        assert str(dead) in answer.message
    said = change(cell, "remove_member", replica=dead)
    assert (said["voters"], said["can_lose"]) == (2, 0)


def test_the_last_voter_stays_and_a_master_of_two_does_not_remove_itself() -> None:
    cell = cell_of(1)
    assert "last voter" in change(cell, "remove_member", replica=1).message
    add(cell, 2, promote=True)
    assert "transfer" in change(cell, "remove_member", replica=1).message
    assert change(cell, "transfer_master", to=2)["changed"]
    cell.until(lambda: cell.nodes[2].engine.replica.lease_valid(cell.now_ms))
    cell.run(2_000)
    assert change(cell, "remove_member", replica=1)["changed"]
    assert cell.nodes[1].left


def test_more_than_seven_voters_are_refused() -> None:
    cell = cell_of(7)
    add(cell, 8)
    answer = change(cell, "promote_member", replica=8)
    assert isinstance(answer, Refusal)
    assert answer.code == "limit"


# ---- turns ----


def test_changes_wait_for_each_other_and_all_are_answered() -> None:
    cell = cell_of(3)
    requests = [cell.call("add_member", address=ADDRESSES[replica]) for replica in (4, 5, 6)]
    cell.run(3_000)
    assert [cell.answers[request]["replica"] for request in requests] == [4, 5, 6]
    assert [cell.answers[request]["version"] for request in requests] == [2, 3, 4]


def test_a_change_waits_until_the_pipeline_is_empty_and_commands_wait_behind_it() -> None:
    cell = cell_of(3)
    master = cell.master()
    master.disk_held = True
    cell.dropped = lambda sender, to, message: type(message).__name__ == "Accepted"
    first = cell.call("put", path="/a")
    master.step()
    request = cell.call("add_member", address=ADDRESSES[4])
    behind = cell.call("put", path="/b")
    master.step()
    assert not master.engine.replica.can_change()
    cell.dropped = lambda sender, to, message: False
    master.disk_held = False
    cell.run(1_000)
    slots = {chosen: cell.answers[chosen] for chosen in (first, request, behind)}
    assert slots[request]["changed"]
    assert slots[first]["stat"]["revision"] < slots[behind]["stat"]["revision"]


def test_a_change_that_cannot_begin_in_time_is_refused_and_nothing_was_done() -> None:
    cell = cell_of(3)
    master = cell.master()
    cell.dropped = lambda sender, to, message: to == master.replica and type(message).__name__ == "Accepted"
    stuck = cell.call("put", path="/a")
    cell.settle()
    request = cell.call("add_member", master, address=ADDRESSES[4])
    cell.run(4_000)
    assert cell.answers[request].code == "unavailable"
    assert stuck not in cell.answers
    cell.dropped = lambda sender, to, message: False
    cell.run(3_000)
    assert cell.do("members")["version"] == 1


def test_a_change_whose_reign_ends_has_an_unknown_outcome() -> None:
    cell = cell_of(3)
    master = cell.master()
    request = cell.call("add_member", master, address=ADDRESSES[4])
    master.step()
    cell.isolate(master.replica)
    cell.run(6_000)
    assert cell.answers[request].code == "outcome_unknown"


def test_changes_are_asked_of_the_master() -> None:
    cell = cell_of(3)
    other = next(node for node in cell.nodes.values() if node is not cell.master())
    for operation in ("members", "add_member", "remove_member", "transfer_master"):
        given: dict[str, dict[str, Any]] = {
            "add_member": {"address": ADDRESSES[4]},
            "remove_member": {"replica": 1},
        }
        arguments = given.get(operation, {})
        assert cell.refused(operation, other, **arguments) == "not_master"


def test_a_snapshot_carries_the_membership_to_a_replica_that_joins_late() -> None:
    cell = cell_of(1, snapshot_log_bytes=2_000)
    add(cell, 2, promote=True)
    for number in range(60):
        cell.do("put", path=f"/{number % 5}", contents=b"x" * 100)
    cell.run(1_000)
    assert change(cell, "add_member", address=ADDRESSES[3])["replica"] == 3
    cell.join(3)
    cell.run(3_000)
    assert cell.nodes[3].engine.replica.membership == cell.nodes[1].engine.replica.membership
    assert cell.nodes[3].engine.status(cell.now_ms)["standing"] == "learner"


def test_a_replica_that_does_not_know_the_members_yet_takes_no_snapshot() -> None:
    """It knows them with the first change that it applies; whoever got an older snapshot would forget them."""
    cell = cell_of(1)
    for number in range(30):
        cell.do("put", path=f"/{number % 5}", contents=b"x" * 200_000)
    assert change(cell, "add_member", address=ADDRESSES[2])["replica"] == 2
    joined = cell.join(2)
    joined.engine.settings = replace(joined.engine.settings, snapshot_log_bytes=1_000)
    joined.wishes = []
    cell.run(3_000)
    assert joined.engine.replica.membership.version == 2
    (wish,) = joined.wishes
    assert wish.membership.version == 2, "only when it knows them"


def test_a_change_for_whose_answer_nobody_waits_any_more_is_made_all_the_same() -> None:
    cell = cell_of(3)
    request = cell.call("add_member", address=ADDRESSES[4])
    cell.master().inbox.append(Gone((request,)))
    cell.run(1_000)
    assert request not in cell.answers
    assert cell.do("members")["version"] == 2


def test_outside_the_lease_who_takes_part_is_told_after_a_round() -> None:
    cell = cell_of(3)
    master = cell.master()
    cell.cut |= {(replica, master.replica) for replica in cell.nodes}
    cell.until(lambda: not master.engine.replica.lease_valid(cell.now_ms))
    request = cell.call("members", master)
    master.step()
    assert request not in cell.answers
    cell.heal()
    cell.run(350)
    assert cell.answers[request]["version"] == 1


def test_ids_and_learners_come_to_an_end_and_the_refusal_says_so() -> None:
    cell = cell_of(1)
    for number, replica in enumerate((*range(2, LEARNERS_MAX + 1), REPLICA_ID_MAX)):
        assert change(cell, "add_member", replica=replica, address=f"http://l{number}:7420")["changed"]
    used_up = change(cell, "add_member", address="http://more:7420")
    assert (used_up.code, "begin a new cell" in used_up.message) == ("limit", True)
    assert change(cell, "remove_member", replica=REPLICA_ID_MAX)["changed"]
    cell = cell_of(1)
    for replica in range(2, LEARNERS_MAX + 2):
        assert change(cell, "add_member", replica=replica, address=f"http://l{replica}:7420")["changed"]
    too_many = change(cell, "add_member", address="http://more:7420")
    assert (too_many.code, "promote or remove one" in too_many.message) == ("limit", True)


def test_status_says_what_a_replica_is_to_the_cell() -> None:
    cell = cell_of(3)

    def standing(replica: int) -> str:
        return str(cell.do("status", cell.nodes[replica])["standing"])

    assert change(cell, "add_member", replica=4, address=ADDRESSES[4])["changed"]
    cell.join(4)
    assert standing(4) == "joining"
    cell.run(2_000)
    assert standing(4) == "learner"
    assert change(cell, "promote_member", replica=4)["changed"] and standing(4) == "voter"
    assert change(cell, "remove_member", replica=4)["changed"] and standing(4) == "removed"
