"""`cell status`: the cell as a whole, also when replicas or the master are missing."""

from __future__ import annotations

from typing import Any

import pytest

from coordctl.cell import Answer, describe, summary
from coordctl.members import tolerance


def status(replica: int, members: int, role: str = "follower", epoch: int = 1) -> dict[str, Any]:
    return {
        "cell": "dev",
        "replica": replica,
        "role": role,
        "epoch": epoch,
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
