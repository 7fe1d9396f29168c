"""Histories of watches and of transactions: those that keep their promise, and those that break it."""

from __future__ import annotations

from collections.abc import Sequence

from tests.unit.nemesis.histories import Story

TABLES = "transactions are linearizable, whole or not at all"
WATCHES = "watches tell of every change, once and in order"
A1, A2, A3 = "1 /reg - / /reg/a - x*0", "2 /reg/a x*0 y*7", "3 /reg/a y*7 -"
B4 = "4 /reg/b - z*0"
Place = tuple[str, int] | None


def txn(
    story: Story,
    at: int,
    guards: Sequence[tuple[str, str | None]],
    then: Sequence[tuple[str, str, str | None]],
    outcome: str = "ok",
    otherwise: Sequence[tuple[str, str, str | None]] = (),
    **result: object,
) -> Story:
    """One transaction on /reg/t, from `at` on for 1 ms."""
    told = {"succeeded": True, "seen": []} | result
    args = {"table": "/reg/t", "guards": guards, "then": then, "otherwise": otherwise}
    return story.op("a", "txn", at, at + 1, outcome, told, **args)


def look(story: Story, at: int, **seen: str | None) -> Story:
    told = {"succeeded": True, "seen": list(seen.values())}
    then = [("look", key, None) for key in seen]
    return story.op("b", "look", at, at + 1, "ok", told, table="/reg/t", guards=(), then=then, otherwise=())


def watch(
    story: Story,
    who: str,
    begins: int,
    *told: str | tuple[int, str],
    asked: int = 10,
    upto: int = 0,
    since: int | None = None,
) -> Story:
    """A watch that is registered 5 ms after it was asked for; each of `told` is the line of a revision, or a resync."""
    number = story.op(who, "watch", asked, 900, path="/reg", since=since).number
    story.note(who, "watching", asked + 5, n=number, revision=begins)
    for place, one in enumerate(told):
        at = asked + 10 + place
        if isinstance(one, str):
            revision = max(upto if place == len(told) - 1 else 0, int(one.partition(" ")[0]))
            story.note(who, "events", at, n=number, upto=revision, batches=[one])
        else:
            story.note(who, "resync", at, n=number, revision=one[0], entries=one[1])
    return story


def pair() -> Story:
    return watch(watch(Story(), "c1.w", 0, A1, A2, A3, B4), "c2.w", 1, A2, A3, B4)


def put(story: Story, at: int, value: str, revision: int, key: str = "/reg/a") -> Story:
    result = {"revision": revision, "generation": revision}
    return story.op("w", "put", at, at + 1, "ok", result, key=key, value=value)


def final(story: Story, **files: Place) -> Story:
    read = {f"/reg/{name}": place for name, place in files.items()}
    return story.note("nemesis.final", "final state", 999, files=read)


BOTH = (("put", "a", "x"), ("put", "b", "x"))

GOOD = {
    "both files of a transaction are seen": (TABLES, look(txn(Story(), 1, (), BOTH, revision=5), 3, a="x", b="x")),
    "a guard that does not hold leads to the other branch": (
        TABLES,
        look(
            txn(
                txn(Story(), 1, (), BOTH, revision=5),
                3,
                [("a", None)],
                [("put", "a", "y")],
                otherwise=[("get", "b", None)],
                succeeded=False,
                seen=["x"],
            ),
            5,
            a="x",
        ),
    ),
    "a refused step has changed nothing": (
        TABLES,
        look(txn(Story(), 1, (), [("put", "a", "x"), ("delete", "b", None)], "not_found", step=1), 3, a=None, b=None),
    ),
    "a transaction of unknown outcome is seen later": (
        TABLES,
        look(look(txn(Story(), 1, (), BOTH, "unknown"), 3, a=None, b=None), 50, a="x", b="x"),
    ),
    "two watches, and what was acknowledged and read": (
        WATCHES,
        final(
            put(put(pair(), 30, "y", 2), 40, "z", 4, "/reg/b"),
            a=None,
            b=("z*0", 4),
        ),
    ),
    "a resync over changes that another one saw": (
        WATCHES,
        watch(watch(Story(), "c1.w", 0, A1, A2, A3, B4), "c2.w", 0, A1, (3, "/reg 1 /"), B4),
    ),
    "a resync over changes that nobody saw": (
        WATCHES,
        watch(Story(), "c1.w", 0, A1, (3, "/reg 1 / /reg/q 3 v*0"), B4),
    ),
    "a watch since a revision of before": (WATCHES, watch(put(Story(), 1, "y", 2), "c1.w", 1, A2, A3, since=1)),
    "a watch that a kill has ended": (WATCHES, final(watch(Story(), "c1.w", 0, A1), a=("n*0", 9))),
    "a file that was deleted after the end of the watch": (
        WATCHES,
        final(watch(Story(), "c1.w", 0, A1).op("w", "delete", 950, 951, result={"revision": 7}, key="/reg/a"), a=None),
    ),
}

BAD = {
    "half a transaction is seen": (TABLES, look(txn(Story(), 1, (), BOTH, revision=5), 3, a="x", b=None)),
    "a transaction whose guard did not hold": (
        TABLES,
        txn(txn(Story(), 1, (), BOTH, revision=5), 3, [("a", None)], [("put", "a", "y")], revision=6),
    ),
    "a refused transaction has changed something": (
        TABLES,
        look(txn(Story(), 1, (), [("put", "a", "x"), ("delete", "b", None)], "not_found", step=1), 3, a="x", b=None),
    ),
    "a file of a table is read as it was before": (
        TABLES,
        look(txn(txn(Story(), 1, (), BOTH, revision=5), 3, (), [("put", "a", "y")], revision=6), 5, a="x"),
    ),
    "an event that is told twice": (WATCHES, watch(Story(), "c1.w", 0, A1, A2, A2)),
    "an event that is told late": (WATCHES, watch(Story(), "c1.w", 0, A2, A1)),
    "an event that only one watch is told of": (
        WATCHES,
        watch(watch(Story(), "c1.w", 0, A1, A2, B4), "c2.w", 0, A1, B4),
    ),
    "an event after which the watch was said to be": (WATCHES, watch(Story(), "c1.w", 3, A2)),
    "a mark that overtakes an event": (WATCHES, watch(watch(Story(), "c1.w", 0, A1, A2), "c2.w", 0, A1, upto=2)),
    "a change on top of what was not there": (WATCHES, watch(Story(), "c1.w", 0, A1, A3)),
    "two watches that are told different things": (
        WATCHES,
        watch(watch(Story(), "c1.w", 0, A1), "c2.w", 0, "1 /reg - / /reg/a - x*1"),
    ),
    "half a revision": (WATCHES, watch(watch(Story(), "c1.w", 0, A1), "c2.w", 0, "1 /reg/a - x*0")),
    "a watch since a revision of before that leaves out what came then": (
        WATCHES,
        watch(put(Story(), 1, "y", 2), "c1.w", 1, B4, since=1),
    ),
    "an acknowledged change of which nobody is told": (
        WATCHES,
        put(watch(Story(), "c1.w", 0, A1, A3.replace("y*7", "x*0")), 30, "y", 2),
    ),
    "an acknowledged change that is told as another": (WATCHES, put(watch(Story(), "c1.w", 0, A1), 30, "q", 1)),
    "an acknowledged transaction of which one file is told": (
        WATCHES,
        txn(watch(Story(), "c1.w", 0, "5 /reg/t/a - x*0"), 30, (), BOTH, revision=5),
    ),
    "a watch that begins before what was acknowledged": (WATCHES, watch(put(Story(), 1, "x", 5), "c1.w", 4)),
    "a watch that begins after what comes later": (WATCHES, put(watch(Story(), "c1.w", 5), 30, "x", 5)),
    "a resync that sets back": (WATCHES, watch(Story(), "c1.w", 0, A1, A2, (1, "/reg 1 / /reg/a 1 x*0"))),
    "a resync that has forgotten a file": (
        WATCHES,
        watch(watch(Story(), "c1.w", 0, A1, A2, A3, B4), "c2.w", 0, A1, (2, "/reg 1 /")),
    ),
    "a resync that shows what was deleted": (
        WATCHES,
        watch(watch(Story(), "c1.w", 0, A1, A2, A3, B4), "c2.w", 0, A1, (3, "/reg 1 / /reg/a 2 y*7")),
    ),
    "a resync that shows an old file as another, though nobody saw what came between": (
        WATCHES,
        watch(Story(), "c1.w", 0, A1, (3, "/reg 1 / /reg/a 1 v*0")),
    ),
    "a change that does not follow the resync": (WATCHES, watch(Story(), "c1.w", 0, A1, (2, "/reg 1 /"), A3)),
    "a file that is another one at the end": (WATCHES, final(watch(Story(), "c1.w", 0, A1, A2), a=("x*0", 1))),
    "a file that nobody has deleted is gone at the end": (WATCHES, final(watch(Story(), "c1.w", 0, A1, A2), a=None)),
    "a file of which the watch was not told is there at the end": (
        WATCHES,
        final(watch(Story(), "c1.w", 0, A1, B4), q=("v*0", 3)),
    ),
    "a watch that does not come to its end": (WATCHES, Story().note("c1.w", "behind", 9, writes=5)),
    "a refused watch": (WATCHES, Story().op("c1.w", "watch", 1, 2, "limit", path="/reg")),
}
