"""Histories of which it is known whether they have an order, each named after what it shows.

With a bad one stand the places of those that cannot all be right, whatever the others did.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.unit.histories.short import (
    History,
    acquire,
    add,
    all_of,
    count,
    create,
    delete,
    erase,
    expire,
    free_all,
    get,
    has,
    lapse,
    ls,
    permit,
    put,
    release,
    share,
)

BAD: Mapping[str, tuple[History, tuple[int, ...]]] = {
    # registers
    "a value that nobody wrote is read": ([put(0, 1, "a"), get(2, 3, "b")], (1,)),
    "a value is read before anybody asked to write it": ([get(0, 1, "a"), put(2, 3, "a")], (0,)),
    "an acknowledged write is lost": ([put(0, 1, "a"), get(2, 3)], (0, 1)),
    "a read goes back to what was overwritten": ([put(0, 1, "a"), put(2, 3, "b"), get(4, 5, "a")], (0, 1, 2)),
    "a second read goes back while the write is under way": (
        [put(0, 1, "a"), put(2, 9, "b"), get(3, 4, "b"), get(5, 6, "a")],
        (0, 2, 3),
    ),
    "readers disagree about the order of two writes": (
        [put(0, 9, "a"), put(0, 9, "b"), get(1, 2, "a"), get(3, 4, "b"), get(5, 6, "a")],
        (2, 3, 4),
    ),
    "a write without an answer takes effect twice": (
        [put(0, None, "a"), get(1, 2, "a"), put(3, 4, "b"), get(5, 6, "a")],
        (1, 2, 3),
    ),
    "a read without effect is taken for the writer": ([get(0, None, "a"), get(1, 2, "a")], (1,)),
    "a deleted file is read": ([put(0, 1, "a"), erase(2, 3), get(4, 5, "a")], (1, 2)),
    "a file is deleted twice": ([put(0, 1, "a"), erase(2, 3), erase(4, 5)], (1, 2)),
    "a file is made twice": ([put(0, 2, "a", absent=True), put(1, 3, "b", absent=True)], (0, 1)),
    "two compare-and-sets of one generation both succeed": (
        [put(0, 1, "a", 5), put(2, 4, "b", 6, at=5), put(3, 5, "c", 7, at=5)],
        (1, 2),
    ),
    "a compare-and-set is refused though nobody was in between": (
        [put(0, 1, "a", 5), put(2, 3, "b", 5, "conflict", at=4), put(4, 5, "c", 0, "conflict", at=5)],
        (1, 2),
    ),
    "a compare-and-set of an old generation succeeds": (
        [put(0, 1, "a", 5), put(2, 3, "b", 6), put(4, 5, "c", 7, at=5)],
        (1, 2),
    ),
    "a generation goes back": ([put(0, 1, "a", 5), put(2, 3, "b", 4)], (0, 1)),
    "a generation goes back over a deletion": ([put(0, 1, "a", 5), erase(2, 3, "ok", 6), put(4, 5, "b", 6)], (1, 2)),
    "one generation is given to two writes": ([put(0, 2, "a", 5), put(1, 3, "b", 5)], (0, 1)),
    "a new value is seen under an old generation": (
        [put(0, 1, "a", 5), put(2, 3, "b", 6), get(4, 5, "b", 5)],
        (1, 2),
    ),
    "one content is seen under two generations": ([put(0, None, "a"), get(1, 2, "a", 5), get(3, 4, "a", 6)], (1, 2)),
    "a generation falls below one that was a condition": (
        [put(0, None, "a"), put(1, 2, "b", at=5), put(3, 4, "c", 4)],
        (1, 2),
    ),
    # locks
    "two hold a lock": ([acquire(0, 1, "h1", 5), acquire(2, 3, "h2", 6)], (0, 1)),
    "one holds alone beside a shared one": ([share(0, 1, "h1", 5), acquire(2, 3, "h2", 6)], (0, 1)),
    "a token falls": ([acquire(0, 1, "h1", 5), release(2, 3, "h1"), acquire(4, 5, "h2", 4)], (0, 2)),
    "a token is given twice": ([acquire(0, 1, "h1", 5), release(2, 3, "h1"), acquire(4, 5, "h2", 5)], (0, 2)),
    "holders of one shared period have different tokens": ([share(0, 1, "h1", 5), share(2, 3, "h2", 6)], (0, 1)),
    "a shared token lives on in the next period": (
        [share(0, 1, "h1", 5), release(2, 3, "h1"), share(4, 5, "h2", 5)],
        (0, 1, 2),
    ),
    "a lock is granted before the lock-delay is over": (
        [acquire(0, 1, "h1", 5), expire(10, "h1"), acquire(2, 3, "h2", 6)],
        (0, 2),
    ),
    "a lock that is free is said to be held": (
        [acquire(0, 1, "h1", 5), release(2, 3, "h1"), acquire(4, 5, "h2", 0, "held")],
        (1, 2),
    ),
    "a lock is released by whom it had been taken from": (
        [acquire(0, 1, "h1", 5), expire(1, "h1"), acquire(2, 3, "h2", 6), release(4, 5, "h1")],
        (2, 3),
    ),
    "a lock is released by somebody who never had it": ([acquire(0, 1, "h1", 5), release(2, 3, "h2")], (1,)),
    "a dead holder is in the way after its successor has gone": (
        [
            acquire(0, 1, "h1", 5),
            expire(2, "h1"),
            acquire(3, 4, "h2", 6),
            release(5, 6, "h2"),
            acquire(7, 8, "h3", 0, "held"),
        ],
        (0, 3, 4),
    ),
    "a shared period goes on without holders": (
        [share(0, 1, "h1", 5), release(2, 3, "h1"), share(4, 5, "h2"), release(6, 7, "h2"), share(8, 9, "h3", 5)],
        (0, 1, 4),
    ),
    "a grant that nobody heard of ends before it may": (
        [
            acquire(0, None, "h1"),
            expire(10, "h1"),
            acquire(1, 2, "h2", 0, "held"),
            acquire(3, None, "g"),
            expire(3, "g"),
            acquire(4, 5, "h3", 6),
        ],
        (2, 5),
    ),
    "a release of what was not yet asked for": (
        [acquire(0, None, "g"), expire(0, "g"), release(1, 2, "h1"), acquire(3, None, "h1"), expire(3, "h1")],
        (2,),
    ),
    # semaphores
    "a semaphore has more holders than permits": (
        [permit(0, 1, "h1", 5), permit(2, 3, "h2", 6), permit(4, 5, "h3", 7)],
        (0, 1, 2),
    ),
    "a permit of a dead holder is given away before its lock-delay is over": (
        [permit(0, 1, "h1", 5), permit(2, 3, "h2", 6), expire(20, "h1"), permit(4, 5, "h3", 7), release(6, 7, "h2")],
        (0, 1, 3),
    ),
    "two holders of a semaphore have one token": ([permit(0, 1, "h1", 5), permit(2, 3, "h2", 5)], (0, 1)),
    "the token of a semaphore falls": ([permit(0, 1, "h1", 5), permit(2, 3, "h2", 4)], (0, 1)),
    "two think differently of the number of permits": ([permit(0, 1, "h1", 5, of=3), permit(2, 3, "h2", 6)], (0, 1)),
    "somebody holds alone beside one who has a permit": ([permit(0, 1, "h1", 5), acquire(2, 3, "h2", 6)], (0, 1)),
    "a shared one beside one who has a permit": ([permit(0, 1, "h1", 5), share(2, 3, "h2", 6)], (0, 1)),
    "the permits are said to differ, and do not": ([permit(0, 1, "h1", 5), permit(2, 3, "h2", 0, "differs")], (1,)),
    "the permits are said to differ where nobody holds": (
        [permit(0, 1, "h1", 5, of=3), release(2, 3, "h1"), permit(4, 5, "h2", 0, "differs")],
        (1, 2),
    ),
    "a permit is released twice": ([permit(0, 1, "h1", 5), release(2, 3, "h1"), release(4, 5, "h1")], (1, 2)),
    # several locks at once
    "two acquires of several meet in one path": ([all_of(0, 1, "h1", "ab", 5), all_of(2, 3, "h2", "bc", 6)], (0, 1)),
    "several are granted in parts": (
        [all_of(0, 1, "h1", "a", 5), all_of(0, 3, "h2", "ab", 6), free_all(4, 5, "h1")],
        (0, 1),
    ),
    "a part of several is held when it is granted": (
        [all_of(0, 1, "h1", "ab", 5), lapse(2, "h1", "a"), all_of(3, 4, "h2", "ab", 6)],
        (0, 2),
    ),
    "tokens of several fall": ([all_of(0, 1, "h1", "ab", 5), free_all(2, 3, "h1"), all_of(4, 5, "h2", "b", 4)], (0, 2)),
    "no moment at which all were free": (
        [
            all_of(0, 1, "h1", "a", 5),
            all_of(2, 9, "h2", "ab"),
            lapse(2, "h2", "a"),
            lapse(2, "h2", "b"),
            all_of(3, 4, "h3", "b", 6),
            free_all(5, 6, "h1"),
            free_all(10, 11, "h3"),
        ],
        (0, 1, 4),
    ),
    "several are released twice": (
        [all_of(0, 1, "h1", "ab", 5), free_all(2, 3, "h1"), free_all(4, 5, "h1")],
        (1, 2),
    ),
    # counters
    "an increment is lost": ([add(0, 2), add(1, 3), count(4, 5, 1)], (0, 1, 2)),
    "an increment is counted twice": ([add(0, None), count(1, 2, 2)], (1,)),
    "a counter goes back": ([add(0, None), add(0, None), count(1, 2, 2), count(3, 4, 1)], (2, 3)),
    "two increments are told the same value": ([add(0, 2, 1, 1), add(1, 3, 1, 1)], (0, 1)),
    # directories
    "a new name is not listed": ([create(0, 1, "a"), ls(2, 3)], (0, 1)),
    "a deleted name is listed": ([create(0, 1, "a"), delete(2, 3, "a"), ls(4, 5, "a")], (1, 2)),
    "a name that nobody created is listed": ([create(0, 1, "a"), ls(2, 3, "a", "b")], (1,)),
    "a name is created twice": ([create(0, 2, "a"), create(1, 3, "a")], (0, 1)),
    "a name is deleted twice": ([create(0, 1, "a"), delete(2, 4, "a"), delete(3, 5, "a")], (1, 2)),
    "a listing mixes two moments": (
        [create(0, 1, "a"), ls(2, 9, "a", "b"), delete(3, 4, "a"), create(5, 6, "b")],
        (1, 2),
    ),
    "two listings disagree about the order of two creations": (
        [create(0, 9, "a"), create(0, 9, "b"), ls(1, 8, "a"), ls(1, 8, "b")],
        (2, 3),
    ),
    "a creation without an answer takes effect twice": (
        [create(0, None, "a"), has(1, 2, "a", True), delete(3, 4, "a"), has(5, 6, "a", True)],
        (2, 3),
    ),
    "a name is refused for being there when it is not": (
        [create(0, 1, "a"), delete(2, 3, "a"), create(4, 5, "a", "exists")],
        (1, 2),
    ),
    "revisions fall from one name to another": ([create(0, 1, "a", number=6), create(2, 3, "b", number=5)], (0, 1)),
}

GOOD: Mapping[str, History] = {
    "nothing happened": [],
    "nobody was answered": [put(0, None, "a"), get(0, None), put(1, None, "b")],
    # registers
    "a read sees either value while a write is under way": [
        put(0, 1, "a"),
        put(2, 9, "b"),
        get(3, 4, "a"),
        get(5, 6, "b"),
    ],
    "a write without an answer takes effect late": [put(0, None, "a"), put(1, 2, "b"), get(3, 4, "b"), get(5, 6, "a")],
    "a write without an answer never takes effect": [put(0, None, "a"), put(1, 2, "b"), get(3, 4, "b")],
    "two readers see two writes in one order": [put(0, 9, "a"), put(0, 9, "b"), get(1, 2, "a"), get(3, 4, "b")],
    "an answer and a question at one moment are concurrent": [put(0, 2, "a"), get(2, 3)],
    "the value comes back by a write of its own": [put(0, 1, "a"), put(2, 3, "b"), put(4, 5, "a"), get(6, 7, "a")],
    "the same value by two, one without an answer": [
        put(0, None, "a"),
        get(1, 2, "a"),
        put(3, 4, "b"),
        put(5, 6, "a"),
        get(7, 8, "a"),
        put(9, 10, "c"),
        get(11, 12, "c"),
    ],
    "who made it and who deleted it": [
        put(0, 3, "a", absent=True),
        put(1, 2, "b", 0, "exists", absent=True),
        erase(4, 5),
        erase(6, 7, "missing"),
    ],
    "a condition on what a lost answer wrote": [
        put(0, None, "a"),
        get(1, 2, "a", 5),
        put(3, 4, "b", 6, at=5),
        erase(5, 6, "conflict", at=5),
        erase(7, 8, at=6),
    ],
    "revisions tell the order of concurrent writes": [
        put(0, 9, "a", 7),
        put(0, 9, "b", 6),
        get(1, 8, "b", 6),
        get(10, 11, "a", 7),
    ],
    # locks
    "one after the other": [acquire(0, 1, "h1", 5), acquire(1, 5, "h2", 6), release(2, 3, "h1"), release(6, 7, "h2")],
    "a shared period": [
        share(0, 1, "h1", 5),
        share(2, 3, "h2", 5),
        release(4, 5, "h1"),
        acquire(3, 9, "h3", 7),
        release(6, 7, "h2"),
        share(10, 11, "h4", 0, "held"),
    ],
    "an expired hold makes room": [acquire(0, 1, "h1", 5), expire(2, "h1"), acquire(1, 4, "h2", 6)],
    "a grant that nobody heard of": [
        acquire(0, None, "h1"),
        expire(0, "h1"),
        acquire(1, 2, "h2", 0, "held"),
        acquire(3, 4, "h3", 6),
    ],
    "a grant that nobody heard of is released": [
        acquire(0, None, "h1"),
        expire(0, "h1"),
        acquire(1, 2, "h2", 0, "held"),
        release(3, 4, "h1"),
        acquire(5, 6, "h3", 6),
    ],
    "a release without an answer": [
        acquire(0, 1, "h1", 5),
        release(2, None, "h1"),
        expire(10, "h1"),
        acquire(3, 4, "h2", 6),
    ],
    "a shared grant that nobody heard of keeps the period": [
        share(0, 1, "h1", 5),
        share(0, None, "h2"),
        expire(0, "h2"),
        release(2, 3, "h1"),
        share(4, 5, "h3", 5),
        release(6, 7, "h3"),
        acquire(8, 9, "h4", 6),
    ],
    "the token of a period that somebody unheard of began": [
        share(0, None, "h1"),
        share(1, 2, "h2", 5),
        share(3, 4, "h3", 5),
    ],
    "an expiry that finds nothing": [
        acquire(0, 1, "h1", 5),
        release(2, 3, "h1"),
        expire(4, "h1"),
        acquire(5, 6, "h2", 6),
    ],
    # semaphores
    "permits come and go": [
        permit(0, 1, "h1", 5),
        permit(2, 3, "h2", 6),
        permit(1, 9, "h3", 8),
        permit(4, 5, "h4", 0, "held"),
        release(6, 7, "h1"),
        permit(8, 9, "h5", 0, "differs", of=3),
    ],
    "another number of permits in another period": [
        permit(0, 1, "h1", 5),
        release(2, 3, "h1"),
        permit(4, 5, "h2", 6, of=3),
        permit(6, 7, "h3", 7, of=3),
        permit(8, 9, "h4", 8, of=3),
    ],
    "permits that nobody heard of": [
        permit(0, None, "h1"),
        expire(0, "h1"),
        permit(0, None, "h2"),
        expire(0, "h2"),
        permit(1, 2, "h3", 0, "differs", of=3),
        permit(3, 4, "h4", 6),
        permit(5, 6, "h5", 7),
    ],
    "a lock is a semaphore, then shared, then exclusive": [
        permit(0, 1, "h1", 5),
        expire(2, "h1"),
        share(3, 4, "h2", 6),
        release(5, 6, "h2"),
        acquire(7, 8, "h3", 7),
    ],
    # several locks at once
    "all at once, one after the other": [
        all_of(0, 1, "h1", "ab", 5),
        all_of(0, 5, "h2", "bc", 6),
        free_all(2, 3, "h1"),
        all_of(4, 5, "h3", "a", 7),
        free_all(6, 7, "h2"),
    ],
    "parts that end at different moments": [
        all_of(0, 1, "h1", "ab", 5),
        lapse(2, "h1", "a"),
        lapse(9, "h1", "b"),
        all_of(3, 4, "h2", "a", 6),
        free_all(5, 6, "h2"),
        all_of(3, 12, "h3", "ab", 7),
    ],
    "shared ones of several periods": [
        all_of(0, 1, "h1", "a", 5, "shared"),
        all_of(2, 3, "h2", "b", 6, "shared"),
        all_of(4, 5, "h3", "ab", 0, "shared"),
        free_all(6, 7, "h1"),
        all_of(8, 9, "h4", "a", 5, "shared"),
    ],
    "several that nobody heard of": [
        all_of(0, None, "h1", "ab"),
        lapse(0, "h1", "b"),
        all_of(1, 2, "h2", "b", 6, "semaphore"),
        free_all(3, 4, "h1"),
        all_of(5, 6, "h3", "ab", 7, "semaphore"),
    ],
    # counters
    "each increment once": [add(0, 2, 1, 2), add(1, 3, 1, 1), count(4, 5, 2)],
    "of equal increments the one that is answered first goes first": [
        count(0, 1, 1),
        add(0, 2),
        count(3, 4, 1),
        add(0, 6),
        count(7, 8, 2),
    ],
    "what need not have happened is kept for later": [
        add(0, None),
        add(0, None, 2),
        count(1, 2, 2),
        count(3, 4, 3),
    ],
    "what was kept for later is used, and something else is not": [
        add(0, None, 1),
        add(1, None, 2),
        add(2, None, 1),
        add(3, 11, 2, 5),
        count(8, 48, 2),
    ],
    # directories
    "a name comes and goes": [
        create(0, 1, "a"),
        create(2, 3, "a", "exists"),
        ls(4, 5, "a"),
        delete(6, 7, "a"),
        delete(8, 9, "a", "missing"),
        ls(10, 11),
    ],
    "a listing in the middle": [create(0, 1, "a"), ls(2, 9, "a", "b"), create(3, 4, "b"), delete(5, 6, "a")],
    "what one listing needs is done before what another one needs": [
        create(0, None, "a"),
        create(0, 9, "b"),
        delete(0, None, "a"),
        ls(1, 10, "a"),
        ls(2, 3, "b"),
    ],
}
