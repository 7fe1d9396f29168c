"""The fence in a database, on a real PostgreSQL server, with writers that race."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy.exc import DBAPIError, OperationalError

from coordclient.errors import NoTransaction, StaleToken
from coordclient.fence_sql import SqlFence
from tests.clients import postgresql

FENCE = SqlFence()
SECONDS_MAX = 20.0
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@pytest.fixture(scope="module")
def engine() -> Iterator[sqlalchemy.Engine]:
    with postgresql.server() as socket:
        made = sqlalchemy.create_engine("postgresql+pg8000://fence@/postgres", connect_args={"unix_sock": socket})
        with made.begin() as connection:
            FENCE.create_table(connection)
            connection.execute(sqlalchemy.text("CREATE TABLE rows (number SERIAL, name TEXT, token BIGINT)"))
        yield made
        made.dispose()


@pytest.fixture
def name(request) -> str:
    return "/" + request.node.name


def write(connection: sqlalchemy.Connection, name: str, token: int) -> None:
    statement = sqlalchemy.text("INSERT INTO rows (name, token) VALUES (:name, :token)")
    connection.execute(statement, {"name": name, "token": token})


def written(engine: sqlalchemy.Engine, name: str) -> list[int]:
    statement = sqlalchemy.text("SELECT token FROM rows WHERE name = :name ORDER BY number")
    with engine.begin() as connection:
        return [row.token for row in connection.execute(statement, {"name": name})]


def until_somebody_waits(engine: sqlalchemy.Engine) -> None:
    """Until a statement of another connection waits for a lock."""
    look = threading.Event()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for _ in range(int(SECONDS_MAX / 0.01)):
            if connection.execute(sqlalchemy.text(WAITING)).scalar_one() > 0:
                return
            look.wait(0.01)
    raise AssertionError("nobody waits")


def test_an_old_holder_is_refused_once_its_successor_was_seen(engine, name):
    with engine.begin() as connection:
        for token in (7, 9, 9):
            FENCE.admit(connection, name, token)
    with pytest.raises(StaleToken, match="token 7 is older than 9"), engine.begin() as connection:
        FENCE.admit(connection, name, 7)
    with engine.begin() as connection:
        assert (FENCE.highest(connection, name), FENCE.highest(connection, "/other")) == (9, None)


def test_a_writer_that_is_stopped_before_its_commit_is_before_its_successor_or_never(engine, name):
    """Two paused writers. Both have been admitted by nobody but the database: it puts them in order."""
    with ThreadPoolExecutor(1) as threads:
        with engine.connect() as first:
            FENCE.admit(first, name, 7)  # and here it is stopped
            later = threads.submit(_admit_and_write, engine, name, 9)
            until_somebody_waits(engine)
            assert not later.done()
            write(first, name, 7)  # it wakes up
            first.commit()
        assert later.result(SECONDS_MAX) is None
    assert written(engine, name) == [7, 9]


def test_a_writer_that_waits_while_its_successor_commits_is_refused(engine, name):
    """It had begun before: the row that it waited for is looked at again, not as it was then."""
    with engine.begin() as connection:
        FENCE.admit(connection, name, 5)
    with ThreadPoolExecutor(1) as threads:
        with engine.connect() as successor:
            FENCE.admit(successor, name, 9)
            late = threads.submit(_admit_and_write, engine, name, 7)
            until_somebody_waits(engine)
            write(successor, name, 9)
            successor.commit()
        with pytest.raises(StaleToken, match="older than 9"):
            late.result(SECONDS_MAX)
    assert written(engine, name) == [9]


def test_the_first_two_of_a_name_are_put_in_order_too(engine, name):
    """There is no row yet that could be locked: the key is."""
    with ThreadPoolExecutor(1) as threads:
        with engine.connect() as successor:
            FENCE.admit(successor, name, 9)
            late = threads.submit(_admit_and_write, engine, name, 7)
            until_somebody_waits(engine)
            successor.commit()
        with pytest.raises(StaleToken):
            late.result(SECONDS_MAX)


def test_at_a_higher_isolation_the_database_itself_refuses_who_waited(engine, name):
    with engine.begin() as connection:
        FENCE.admit(connection, name, 5)
    with ThreadPoolExecutor(1) as threads:
        with engine.connect() as successor:
            FENCE.admit(successor, name, 9)
            options = {"isolation_level": "SERIALIZABLE"}
            late = threads.submit(_admit_and_write, engine.execution_options(**options), name, 7)
            until_somebody_waits(engine)
            successor.commit()
        with pytest.raises(DBAPIError, match="could not serialize"):
            late.result(SECONDS_MAX)
    assert written(engine, name) == []


def test_many_writers_at_once_never_go_back(engine, name):
    """Each token of its own thread, as fast as it can, until a newer one was seen."""

    def hold(token: int) -> int:
        count = 0
        try:
            for _ in range(25):
                _admit_and_write(engine, name, token)
                count += 1
        except StaleToken:
            return count
        return count

    with ThreadPoolExecutor(5) as threads:
        counts = list(threads.map(hold, range(1, 6)))
    tokens = written(engine, name)
    assert tokens == sorted(tokens)
    assert len(tokens) == sum(counts)
    assert counts[-1] == 25, "the newest is never refused"


def test_a_connection_that_commits_by_itself_is_refused(engine, name):
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        with pytest.raises(NoTransaction):
            FENCE.admit(connection, name, 1)
        assert FENCE.highest(connection, name) is None


def test_a_time_out_of_the_database_admits_nobody(engine, name):
    with engine.connect() as first, engine.connect() as second:
        FENCE.admit(first, name, 7)
        second.execute(sqlalchemy.text("SET LOCAL lock_timeout = '20ms'"))
        with pytest.raises((OperationalError, DBAPIError), match="lock timeout"):
            FENCE.admit(second, name, 9)
        second.rollback()
        first.commit()
        assert FENCE.highest(second, name) == 7


def _admit_and_write(engine: Any, name: str, token: int) -> None:
    with engine.begin() as connection:
        FENCE.admit(connection, name, token)
        write(connection, name, token)
