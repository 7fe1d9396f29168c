"""What the demo must have shown, as questions to what was seen. PURE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

SHOWN_TOKENS = 6
Events = Sequence[dict[str, Any]]


@dataclass
class Findings:
    """What the story noted on its way."""

    killed: int = 0  # the replica
    killed_at: float = 0.0
    new_master: int = 0
    first_after: float = 0.0  # when the first increment that began after the kill was done
    old_token: int = 0
    new_token: int = 0
    refused: str = ""  # what the protected side said to the old token
    told: str = ""  # what the stopped holder was told


def verdict(
    found: Findings, made: Sequence[Events], value: int, acquired: Events, kept: Events
) -> list[tuple[bool, str]]:
    """(is it so?, the sentence). `made`: the increments of each counter; `value`: what their file says at the end;
    `acquired` and `kept`: what the third process told before and after the fail-over."""
    increments = sorted((event for events in made for event in events), key=lambda event: int(event["value"]))
    total, tokens = len(increments), [int(event["token"]) for event in increments]
    each_once = [event["value"] for event in increments] == list(range(1, total + 1))
    lost = "none was lost" if total == value and each_once else "NOT THE SAME"
    sums = " + ".join(str(len(events)) for events in made)
    shown = ", ".join(str(token) for token in tokens[:SHOWN_TOKENS])
    last = tokens[-1] if tokens else "none"
    rising = all(before < after for before, after in pairwise(tokens))
    order = "in order" if rising else "NOT IN ORDER"
    kept_tokens = [event["token"] for event in (*acquired, *kept)]
    kept_token = kept_tokens[0] if kept_tokens else "none"
    is_kept = len(acquired) == len(kept) == 1 and kept_tokens[0] == kept_tokens[1]
    gap = found.first_after - found.killed_at
    return [
        (total == value and each_once, f"{sums} = {total} increments made, the file says {value}: {lost}"),
        (
            gap > 0 and found.killed != found.new_master,
            f"{gap:.2f} s without a master (replica {found.killed} killed, replica {found.new_master} took over)",
        ),
        (rising and total > SHOWN_TOKENS, f"{total} tokens {order}: {shown}, ... {last}"),
        (
            is_kept,
            f"the lock held through the fail-over {'is still' if is_kept else 'is NOT'} held: token {kept_token}",
        ),
        (
            0 < found.old_token < found.new_token,
            f"the lock of the stopped holder: token {found.old_token}, then {found.new_token}",
        ),
        (found.told == "LockLost", f"the stopped holder was told {found.told or 'NOTHING'}"),
        (bool(found.refused), f"its old token was {'refused by the protected side' if found.refused else 'ACCEPTED'}"),
    ]
