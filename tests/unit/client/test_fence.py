"""The protected side: the highest token per name, smaller ones refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordclient.errors import BadRequest, LimitReached, NeedsCell, StaleToken
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


@pytest.mark.parametrize("token", [True, -1, "9", 1.5, None, 1 << 63])
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


def test_a_sequencer_brings_its_name_and_token_and_a_semaphores_is_for_the_cell():
    fence = Fence()
    assert fence.admit_sequencer("coord1:local:/a%20b:exclusive:9:1:2:00")[:4] == ("local", "/a b", "exclusive", 9)
    with pytest.raises(StaleToken):
        fence.admit_sequencer("coord1:local:/a%20b:shared:8:1:2:00")
    with pytest.raises(NeedsCell, match="check_sequencer") as caught:
        fence.admit_sequencer("coord1:local:/a:semaphore:9:1:2:00")
    assert caught.value.details == {"name": "/a", "token": 9}
    assert fence.highest("/a") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "coord1",
        "coord2:local:/a:exclusive:9:1:2:00",
        "coord1:local:/a:exclusive:9:1:2",
        "coord1:local:/a:exclusive:09:1:2:00",
        "coord1:local:/a:exclusive:-9:1:2:00",
        "coord1:local:/a:exclusive:١:1:2:00",
        "coord1:local:a:exclusive:9:1:2:00",
        "coord1:local:/a:mine:9:1:2:00",
        "coord1:LOCAL:/a:exclusive:9:1:2:00",
        f"coord1:local:/{'a' * 5000}:exclusive:9:1:2:00",
    ],
)
def test_what_is_no_sequencer_is_refused_by_name(text):
    with pytest.raises(BadRequest, match="sequencer"):
        Fence().admit_sequencer(text)


def test_a_fence_has_room_for_so_many_names_and_forgets_none():
    fence = Fence(names_max=2)
    fence.admit("/a", 5)
    fence.admit("/b", 1)
    with pytest.raises(LimitReached, match="2 names"):
        fence.admit("/c", 1)
    fence.admit("/a", 6)
    with pytest.raises(StaleToken):
        fence.admit("/a", 5)
