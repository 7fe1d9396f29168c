"""`cell status`: the cell as a whole, also when replicas or the master are missing."""

from __future__ import annotations

from typing import Any

import pytest

from coordctl.cell import Answer, _problem, describe, summary
from coordctl.members import tolerance


def status(replica: int, members: int, role: str = "follower", epoch: int = 1) -> dict[str, Any]:
    return {
        "cell": "dev",
        "replica": replica,
        "role": role,
        "epoch": epoch,
        "chosen_upto": 9_000,
        "members": [{"replica": number, "address": f"http://h:{number}"} for number in range(1, members + 1)],
    }


def answers(members: int, present: int, master: bool = True) -> list[Answer]:
    found = []
    for replica in range(1, members + 1):
        role = "master" if master and replica == 1 else "follower"
        told = status(replica, members, role) if replica <= present else None
        found.append(Answer(f"http://h:{replica}", told, "" if told else "connection refused"))
    return found


@pytest.mark.parametrize(
    ("members", "present", "words"),
    [
        (1, 1, "can lose none"),
        (3, 3, "can lose 1 more"),
        (3, 2, "can lose none"),
        (3, 1, "too few: 2 are needed"),
        (5, 5, "can lose 2 more"),
        (4, 4, "can lose 1 more (a cell of 4 tolerates no more failures than one of 3)"),
        (2, 2, "can lose none (a cell of 2 tolerates no more failures than one of 1)"),
    ],
)
def test_how_many_more_failures_the_cell_tolerates(members: int, present: int, words: str) -> None:
    text = describe(summary(answers(members, present)))
    assert f"{present} of {members} replicas answer" in text
    assert text.endswith(words)


def test_of_two_that_call_themselves_master_the_later_epoch_counts() -> None:
    found = [Answer("a", status(1, 3, "master", 4)), Answer("b", status(2, 3, "master", 7))]
    assert summary(found)["master"] == 2


def test_a_cell_without_a_master_says_so() -> None:
    assert "there is no master" in describe(summary(answers(3, 3, master=False)))


def test_learners_are_not_counted_and_the_latest_membership_is() -> None:
    old, new = status(1, 3, "master"), status(2, 4)
    old["membership_version"], new["membership_version"] = 1, 3
    new["members"][3]["voter"] = False
    whole = summary([Answer("a", old), Answer("b", new), Answer("c", status(4, 3))])
    assert (whole["members"], whole["answering"], whole["can_lose"]) == (3, 2, 0)


@pytest.mark.parametrize(
    ("voters", "answering", "words"),
    [(3, 3, "can lose 1 more"), (3, 2, "can lose none"), (3, 1, "too few: 2 are needed"),
     (4, 4, "can lose 1 more (a cell of 4 tolerates no more failures than one of 3)")],
)  # fmt: skip
def test_every_change_says_how_many_more_failures_the_cell_tolerates(voters: int, answering: int, words: str) -> None:
    majority = voters // 2 + 1
    lose = max(0, answering - majority)
    text = tolerance({"voters": voters, "answering": answering, "majority": majority, "can_lose": lose})
    assert text.endswith(words)


def test_who_cannot_vote_is_not_counted_on_and_said_to_be() -> None:
    found = answers(3, 3)
    third, second = found[2].status, found[1].status
    assert third is not None and second is not None
    third["disk_full"] = True
    whole = summary(found)
    assert (whole["answering"], whole["able"], whole["can_lose"]) == (3, 2, 0)
    assert "3 of 3 replicas answer, 2 of them can vote, can lose none" in describe(whole)
    second["chosen_upto"] = 6_900
    assert describe(summary(found)).endswith("1 of them can vote, too few: 2 are needed")
    assert [_problem(status, 9_000) for status in (third, second)] == [
        "disk full: does not vote",
        "far behind",
    ]
    assert _problem({"chosen_upto": 9, "differs_from": [2]}, 9) == "another state than replica 2"


def test_one_voter_is_one_voter() -> None:
    assert (
        tolerance({"voters": 1, "answering": 1, "majority": 1, "can_lose": 0}) == "1 voter, all can vote, can lose none"
    )
