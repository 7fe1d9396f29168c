"""What objects do, one operation at a time. A model is a small pure class; `MODELS` has one of each by its name.

A new kind of object: a class here with a name of its own, a row in `MODELS`, and its lines in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.histories.models.base import Model
from tests.histories.models.counter import Counter
from tests.histories.models.directory import Directory
from tests.histories.models.lock import Lock
from tests.histories.models.register import Register
from tests.histories.models.several import Several
from tests.histories.models.table import Table

MODELS: Mapping[str, Model[Any]] = {
    model.name: model for model in (Register(), Lock(), Several(), Counter(), Directory(), Table())
}

__all__ = ["MODELS", "Counter", "Directory", "Lock", "Model", "Register", "Several", "Table"]
