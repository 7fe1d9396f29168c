"""Start numbers: which data directory a process runs on, and how often one was started with it.

`mark * 2^32 + count`. The mark was drawn when the directory was made (0 in directories of builds that drew none), so
two directories of one replica id are told apart by every message; the count rises with every start. Numbers with one
mark compare like their counts; numbers with different marks must not be compared.
"""

from __future__ import annotations

COUNT_BITS = 32
COUNT_MAX = 2**31 - 1
MARK_MAX = 2**31 - 1


def start_number(mark: int, count: int) -> int:
    """The number of the `count`-th start with the directory of this mark."""
    assert 0 <= mark <= MARK_MAX and 0 <= count <= COUNT_MAX
    return mark << COUNT_BITS | count


def mark_of(start: int) -> int:
    """Which directory."""
    return start >> COUNT_BITS


def count_of(start: int) -> int:
    """Which of the starts with it."""
    return start & (1 << COUNT_BITS) - 1


def start_text(start: int) -> str:
    """For people."""
    return f"{count_of(start)} with directory {mark_of(start):08x}"
