"""What all tests of decoders share: values of every kind, texts that mislead, and how many examples are drawn."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

TEXTS = st.text(max_size=40) | st.text(alphabet="/.:%ls-a1\x00\x7f\xa0é\u202e \ud800", max_size=40)

# Whatever msgpack or JSON can say.
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


def many(examples: int) -> settings:
    """So many examples, or as many as COORD_FUZZ asks for, if that is more."""
    profile = settings.default
    assert profile is not None
    return settings(max_examples=max(examples, profile.max_examples), deadline=None)
