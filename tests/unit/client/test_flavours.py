"""Both flavours have the same names with the same signatures, and every public name says what it is for."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from typing import Any

import pytest

import coordclient
from coordclient import aio

PAIRS = [
    (getattr(coordclient, name), getattr(aio, name))
    for name in ("Client", "Lock", "LockSet", "Watch", "Batches", "Txn", "Handle")
]
RENAMED = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__aiter__": "__iter__", "__anext__": "__next__"}


def public(cls) -> dict[str, Any]:
    dunders = {"__init__", *RENAMED, *RENAMED.values()}
    members: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("coordclient"):
            members.update(vars(base))
    return {RENAMED.get(name, name): value for name, value in members.items() if name[0] != "_" or name in dunders}


@pytest.mark.parametrize(("threads", "tasks"), PAIRS)
def test_both_flavours_have_the_same_names(threads, tasks):
    assert public(threads).keys() == public(tasks).keys()


@pytest.mark.parametrize(("threads", "tasks"), PAIRS)
def test_both_flavours_have_the_same_signatures(threads, tasks):
    if threads is not coordclient.Client:
        return _compare(threads, tasks, without={"__init__"})  # made by Client.lock and its like alone
    return _compare(threads, tasks, without=set())


def _compare(threads, tasks, without):
    for name, value in public(threads).items():
        other = public(tasks)[name]
        assert isinstance(value, property) == isinstance(other, property), name
        if isinstance(value, property) or name in without:
            continue
        mine, theirs = inspect.signature(value), inspect.signature(other)
        assert list(mine.parameters.values()) == list(theirs.parameters.values()), name
        assert mine.return_annotation == theirs.return_annotation, name


@pytest.mark.parametrize(("threads", "tasks"), PAIRS)
def test_a_method_that_may_wait_is_a_coroutine_in_one_flavour_and_none_in_the_other(threads, tasks):
    makers = {"lock", "locks", "semaphore", "locked", "watch", "batches", "txn"}
    local = {"__init__", "__iter__", "check", "poison", "cache_info", *makers}
    for name, value in public(tasks).items():
        if inspect.isfunction(value) and name not in local and value.__module__ != "coordclient.aio.steps":
            assert inspect.iscoroutinefunction(value), name
    assert not any(inspect.iscoroutinefunction(value) for value in public(threads).values())


@pytest.mark.parametrize("name", coordclient.__all__)
def test_every_public_name_has_a_docstring(name):
    thing = getattr(coordclient, name)
    assert inspect.getdoc(thing)
    for member, value in public(thing).items():
        if member.startswith("__") or not (inspect.isfunction(value) or isinstance(value, property)):
            continue
        assert inspect.getdoc(value), f"{name}.{member}"


def test_the_rules_of_the_protocol_are_imported_without_aiohttp():
    code = "import sys, coordclient.protocol.errors, coordclient; print('aiohttp' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "False"


def test_an_unknown_name_is_no_attribute():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = coordclient.nonsense
