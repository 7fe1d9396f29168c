"""The protected side: the highest token per name, smaller ones refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordclient.errors import StaleToken
from coordclient.fence import Fence


def test_an_old_holder_is_refused_once_its_successor_was_seen_and_names_do_not_mix():
    fence = Fence()
    fence.admit("/a", 7)
    fence.admit("/a", 9)
    fence.admit("/b", 1)
    with pytest.raises(StaleToken, match="token 7 is older than 9") as caught:
        fence.admit("/a", 7)
    assert caught.value.details == {"name": "/a", "token": 7, "highest": 9}
    assert isinstance(caught.value, PermissionError)
    assert (fence.highest("/a"), fence.highest("/c")) == (9, None)


def test_holders_of_one_shared_period_carry_the_same_token_and_all_pass():
    fence = Fence()
    for _ in range(3):
        fence.admit("/a", 5)


@pytest.mark.parametrize("token", [True, -1, "9", 1.5, None])
def test_what_is_no_token_is_refused_and_remembered_nowhere(token):
    kept: dict[str, int] = {}
    with pytest.raises(ValueError, match="token"):
        Fence(kept).admit("/a", token)
    assert kept == {}


@given(st.lists(st.integers(0, 50)))
def test_what_passes_never_goes_back(tokens):
    kept: dict[str, int] = {}
    fence, passed = Fence(kept), []
    for token in tokens:
        try:
            fence.admit("/a", token)
            passed.append(token)
        except StaleToken:
            pass
    assert passed == sorted(passed)
    assert kept.get("/a", -1) == max(tokens, default=-1)
