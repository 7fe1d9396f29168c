"""Histories of transactions, as `known` has them of single objects."""

from __future__ import annotations

from collections.abc import Mapping

from tests.unit.histories.short import History, txn

BAD: Mapping[str, tuple[History, tuple[int, ...]]] = {
    "half of a transaction is seen": (
        [txn(0, 1, "put x a, put y a"), txn(2, 3, "get x, look y", "a", None)],
        (1,),
    ),
    "a read sees one file before and another after a transaction": (
        [txn(0, 1, "put x a, put y a"), txn(2, 9, "put x b, put y b"), txn(3, 8, "get x, get y", "a", "b")],
        (2,),
    ),
    "both of two that exclude each other succeed": (
        [
            txn(0, 2, "put x a", guards="x is nothing"),
            txn(1, 3, "put x b", guards="x is nothing"),
        ],
        (0, 1),
    ),
    "the wrong branch is taken": (
        [txn(0, 1, "put x a"), txn(2, 3, "put y a", guards="x is a", otherwise="put y b", failed=True)],
        (0, 1),
    ),
    "a guard that does not hold is believed": (
        [txn(0, 1, "put x a"), txn(2, 3, "put y b", guards="x is b")],
        (1,),
    ),
    "a read inside a transaction does not see what came before it": (
        [txn(0, 1, "put x a, look x", None)],
        (0,),
    ),
    "a read inside a transaction sees what comes after it": (
        [txn(0, 1, "look x, put x a", "a")],
        (0,),
    ),
    "what was refused is done by half": (
        [txn(0, 1, "put x a"), txn(2, 3, "put x b, make x c", refused=1), txn(4, 5, "get x", "b")],
        (2,),
    ),
    "a file is read inside a transaction where there is none": (
        [txn(0, 1, "put y a, get x", None)],
        (0,),
    ),
    "a transaction is refused for a step that can be done": (
        [txn(0, 1, "put x a"), txn(2, 3, "delete x", refused=0)],
        (0, 1),
    ),
    "the revision of a transaction falls": (
        [txn(0, 1, "put x a", number=6), txn(2, 3, "put y a", number=5)],
        (0, 1),
    ),
    "without an answer, and twice": (
        [
            txn(0, None, "put x a, put y a"),
            txn(1, 2, "get x, get y", "a", "a"),
            txn(3, 4, "put x b"),
            txn(5, 6, "get x", "a"),
        ],
        (1, 2, 3),
    ),
}

GOOD: Mapping[str, History] = {
    "all of a transaction, or nothing": [
        txn(0, 9, "put x a, put y a", number=5),
        txn(1, 2, "look x, look y", None, None),
        txn(3, 4, "get x, get y", "a", "a"),
        txn(10, 11, "make x b", refused=0),
        txn(12, 13, "delete x, make x b, get x", "b", number=6),
    ],
    "without an answer, and late": [
        txn(0, None, "put x a", guards="y is b"),
        txn(1, 2, "look x", None),
        txn(3, 4, "put y b"),
        txn(5, 6, "get x", "a"),
    ],
    "one of unknown outcome makes another one possible": [
        txn(0, None, "put x a"),
        txn(1, None, "put y b", guards="x is a"),
        txn(2, 3, "get y", "b"),
        txn(4, 5, "get x", "a"),
    ],
    "the other branch": [
        txn(0, 1, "put x a"),
        txn(2, 3, "put y a", "a", guards="x is nothing", otherwise="get x, delete x", failed=True),
        txn(4, 5, "look x, look y", None, None),
    ],
}
