"""What all tests share: hypothesis draws the same examples every time, a run without a test fails, the time is told.

And the nemesis goes on beside the tests of real processes.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.nemesis import dialers
from tests.nemesis.beside import SHORT_SET, ShortSet

# The same examples every time: a failure is everybody's failure. COORD_FUZZ=1000 looks further, with fresh ones. How
# long drawing takes says something about the load of the machine and nothing about the code.
_PATIENT: dict[str, Any] = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("test", derandomize=True, database=None, **_PATIENT)
settings.register_profile("fuzz", max_examples=int(os.environ.get("COORD_FUZZ", "100")), **_PATIENT)
settings.load_profile("fuzz" if "COORD_FUZZ" in os.environ else "test")


class _Totals:
    def __init__(self) -> None:
        self.ran = 0


_TOTALS = pytest.StashKey[_Totals]()


def pytest_configure(config: pytest.Config) -> None:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if (
            signal.getsignal(number) is signal.SIG_IGN
        ):  # begun in the background or by nohup: our children would inherit it
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    config.stash[_TOTALS] = _Totals()
    config.pluginmanager.register(_Counter(config.stash[_TOTALS]), "coord-counter")
    config.stash[SHORT_SET] = ShortSet()
    config.pluginmanager.register(_Beside(config.stash[SHORT_SET]), "coord-nemesis")


class _Counter:
    def __init__(self, totals: _Totals) -> None:
        self.totals = totals

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and not report.skipped:
            self.totals.ran += 1


class _Beside:
    """Begins the short set of the nemesis with the tests of processes, and ends it with all tests."""

    def __init__(self, short_set: ShortSet) -> None:
        self._short_set = short_set
        self._wanted = False

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: item.path.name == "test_nemesis.py")  # what judges it comes last

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        judged = any(item.path.name == "test_nemesis.py" for item in session.items)
        self._wanted = judged and dialers.available() and not session.config.option.collectonly

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self._wanted and item.path.parent.name == "process":
            self._short_set.start()

    def pytest_sessionfinish(self) -> None:
        self._short_set.stop()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Only skipped tests are no tests."""
    if exitstatus == 0 and not session.config.option.collectonly and session.config.stash[_TOTALS].ran == 0:
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
