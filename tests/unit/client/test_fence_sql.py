"""The fence in a database, on SQLite: directly and through SQLAlchemy (PostgreSQL: tests/clients)."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from typing import Any

import pytest
import sqlalchemy

from coordclient.errors import BadRequest, NeedsCell, NoTransaction, StaleToken
from coordclient.fence_sql import SqlFence

FENCE = SqlFence()


def opened(path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=0)


@pytest.fixture
def path(tmp_path):
    made = opened(tmp_path / "data")
    with made:
        FENCE.create_table(made)
        made.execute("CREATE TABLE rows (text)")
    made.close()
    return tmp_path / "data"


@pytest.fixture
def connection(path):
    made = opened(path)
    yield made
    made.close()


@pytest.fixture
def engine(path):
    made = sqlalchemy.create_engine(f"sqlite:///{path}", connect_args={"timeout": 0})
    yield made
    made.dispose()


def test_an_old_holder_is_refused_once_its_successor_was_seen_and_names_do_not_mix(connection):
    with connection:
        for name, token in (("/a", 7), ("/a", 9), ("/b", 1), ("/a", 9)):
            FENCE.admit(connection, name, token)
    with pytest.raises(StaleToken, match="token 7 is older than 9") as caught, connection:
        FENCE.admit(connection, "/a", 7)
    assert caught.value.details == {"name": "/a", "token": 7, "highest": 9}
    assert (FENCE.highest(connection, "/a"), FENCE.highest(connection, "/c")) == (9, None)


def test_through_sqlalchemy_it_is_the_same(engine):
    with engine.begin() as connection:
        FENCE.create_table(connection)
        for name, token in (("/a", 7), ("/a", 9), ("/b", 1), ("/a", 9)):
            FENCE.admit(connection, name, token)
    with pytest.raises(StaleToken, match="token 7 is older than 9"), engine.begin() as connection:
        FENCE.admit(connection, "/a", 7)
    with engine.begin() as connection:
        assert (FENCE.highest(connection, "/a"), FENCE.highest(connection, "/c")) == (9, None)


def test_what_is_rolled_back_was_not_seen(connection):
    """The transaction did not happen, and so neither did its check."""
    with pytest.raises(RuntimeError), connection:
        FENCE.admit(connection, "/a", 9)
        raise RuntimeError
    with connection:
        FENCE.admit(connection, "/a", 7)


def test_between_the_check_and_the_commit_nobody_else_is_admitted(path):
    """A writer that is stopped there commits before its successor, or not at all."""
    first, second = opened(path), opened(path)
    with first:
        FENCE.admit(first, "/a", 7)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            FENCE.admit(second, "/a", 9)
        first.execute("INSERT INTO rows VALUES ('first')")
    with second:
        FENCE.admit(second, "/a", 9)
        second.execute("INSERT INTO rows VALUES ('second')")
    with pytest.raises(StaleToken), first:
        FENCE.admit(first, "/a", 7)
    assert [row[0] for row in second.execute("SELECT text FROM rows")] == ["first", "second"]
    first.close()
    second.close()


def test_a_connection_that_commits_by_itself_is_refused_before_anything_is_written(path, engine):
    alone = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(NoTransaction, match="begin one first"):
        FENCE.admit(alone, "/a", 1)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection, pytest.raises(NoTransaction):
        FENCE.admit(connection, "/a", 1)
    assert FENCE.highest(alone, "/a") is None
    alone.execute("BEGIN")
    FENCE.admit(alone, "/a", 1)
    alone.execute("ROLLBACK")
    assert FENCE.highest(alone, "/a") is None
    if sys.version_info >= (3, 12):
        other: Any = sqlite3.connect(path, autocommit=True)
        with pytest.raises(NoTransaction):
            FENCE.admit(other, "/a", 1)
        other.close()
    alone.close()


def test_holders_of_one_shared_period_pass_and_those_of_a_semaphore_must_ask_the_cell(connection):
    with connection:
        for hold in (5, 6):
            claim = FENCE.admit_sequencer(connection, f"coord1:local:/a%20b:shared:5:1:{hold}:00")
            assert (claim.path, claim.token, claim.hold) == ("/a b", 5, hold)
        with pytest.raises(NeedsCell, match="check_sequencer"):
            FENCE.admit_sequencer(connection, "coord1:local:/a:semaphore:7:1:9:00")


@pytest.mark.parametrize("token", [True, -1, "9", 1.5, None, 1 << 63])
def test_what_is_no_token_is_refused_and_remembered_nowhere(connection, token):
    with pytest.raises(ValueError, match="token"), connection:
        FENCE.admit(connection, "/a", token)
    assert FENCE.highest(connection, "/a") is None


@pytest.mark.parametrize("name", ["", "/" + "a" * 1024])
def test_a_name_has_a_limit(connection, name):
    with pytest.raises(BadRequest, match="1 to 1024 bytes"), connection:
        FENCE.admit(connection, name, 1)


def test_a_table_of_another_name_and_schema(connection):
    fence = SqlFence("main.fences")
    with connection:
        fence.create_table(connection)
        fence.admit(connection, "/a", 3)
    assert connection.execute("SELECT * FROM fences").fetchall() == [("/a", 3)]
    for wrong in ("", "a b", "a;b", "a.b.c", '"a"', "1a", "a" * 64):
        with pytest.raises(ValueError, match="name of a table"):
            SqlFence(wrong)


def test_what_it_does_not_know_is_refused_by_name(engine):
    with pytest.raises(TypeError, match="not Engine"):
        FENCE.admit(engine, "/a", 1)
    mysql: Any = sqlalchemy.create_mock_engine("mysql://", executor=None)
    with engine.connect() as connection:
        connection.dialect = mysql.dialect
        with pytest.raises(ValueError, match="not mysql"):
            FENCE.admit(connection, "/a", 1)


def test_it_is_used_without_sqlalchemy_being_there():
    code = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "import sqlite3; from coordclient.fence_sql import SqlFence\n"
        "connection = sqlite3.connect(':memory:'); fence = SqlFence(); fence.create_table(connection)\n"
        "fence.admit(connection, '/a', 1); print(fence.highest(connection, '/a'), 'aiohttp' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "1 False\n", done.stderr
