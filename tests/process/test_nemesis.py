"""The short set of `./dev nemesis`: real daemons and clients under every kind of fault for three minutes."""

from __future__ import annotations

import sys

import pytest

from tests.nemesis import dialers
from tests.nemesis.beside import SECONDS_MAX, SHORT_SET


@pytest.mark.slow
@pytest.mark.timeout(SECONDS_MAX + 10)
@pytest.mark.skipif(not dialers.available(), reason="SKIPPED: needs Linux (/proc/net/tcp)")
def test_no_promise_is_broken_under_faults(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    short_set = request.config.stash[SHORT_SET]
    status, said = short_set.judge()
    closing = said.splitlines()[-1]
    assert status == 0 and closing.startswith("nemesis: "), f"seed {short_set.seed}\n{said}"
    faults = next(line for line in said.splitlines() if line.startswith("Faults: "))
    with capsys.disabled():
        sys.stdout.write(f"\n{faults}\n{closing} ")
    short_set.forget()
