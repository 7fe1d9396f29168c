"""Stories of whole cells, as transcripts that people review: `engine/*.txt`. COORD_REWRITE=1 writes them anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.scenarios.engine_story import Story

STORIES = sorted((Path(__file__).parent / "engine").glob("*.txt"))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story(path: Path):
    story = Story()
    lines: list[str] = []
    for line in path.read_text().splitlines():
        if not line.startswith("  ["):  # what followed the last time is made anew
            lines.append(line)
        if line.startswith("> "):
            lines += story.play(line[2:])
    told = "\n".join(lines) + "\n"
    if os.environ.get("COORD_REWRITE"):
        path.write_text(told)
    assert told == path.read_text(), "the story goes differently; if it should: COORD_REWRITE=1, and review the diff"


def test_there_are_stories():
    assert len(STORIES) >= 5
