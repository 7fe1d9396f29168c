"""A fence in a database: the check of the token and the write that it protects are one transaction.

    fence = SqlFence()
    with connection:                                    # sqlite3; with SQLAlchemy: engine.begin() as connection
        fence.admit(connection, "/billing", token)      # first, so that nothing was read before it
        connection.execute("UPDATE accounts SET ...")

`admit` writes the token into a row per name and so locks that row (SQLite: the database) until the transaction ends.
From there on the database itself puts the writers in order: whoever comes with a larger token waits until this
transaction is over, and whoever comes with a smaller one afterwards finds the larger one and gets `StaleToken`. So a
writer that is stopped between `admit` and its commit commits before its successor begins, or never. Its successor waits
meanwhile, for as long as the database lets it (`idle_in_transaction_session_timeout` in PostgreSQL).

For connections of `sqlite3` (SQLite 3.24 and later) and of SQLAlchemy Core 2 on SQLite and PostgreSQL. At PostgreSQL's
`REPEATABLE READ` and above the database refuses a writer that waited by a serialization failure of its own.
"""

from __future__ import annotations

import re
import sqlite3
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

from coordclient.errors import BadRequest, NoTransaction
from coordclient.fence import check_token, comparable, stale
from coordclient.protocol.paths import PATH_BYTES_MAX
from coordclient.sequencer import Sequencer, parse_sequencer

if TYPE_CHECKING:
    import sqlalchemy

    Connection: TypeAlias = sqlite3.Connection | sqlalchemy.Connection

DIALECTS = ("sqlite", "postgresql")
_table = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,62}\.)?[A-Za-z_][A-Za-z0-9_]{0,62}").fullmatch


class SqlFence:
    """Remembers the highest token per name in `table` (`name` or `schema.name`). It holds no connection and no state.

    Of a session of SQLAlchemy's ORM take `session.connection()`. Several names in one transaction: always in the same
    order, or the database may find a deadlock.

    >>> fence = SqlFence()
    >>> fence.create_table(connection)
    >>> with connection:
    ...     fence.admit(connection, "/billing", lock.token)
    ...     connection.execute("INSERT INTO invoices VALUES (1)")
    """

    def __init__(self, table: str = "coord_fence") -> None:
        if not _table(table):
            raise ValueError(f"not the name of a table: {table!r:.80} (letters, digits and '_')")
        self._create = (
            f"CREATE TABLE IF NOT EXISTS {table} (name VARCHAR({PATH_BYTES_MAX}) PRIMARY KEY, token BIGINT NOT NULL)"
        )
        self._admit = (
            f"INSERT INTO {table} AS held (name, token) VALUES (:name, :token)"
            " ON CONFLICT (name) DO UPDATE SET token = excluded.token WHERE held.token <= excluded.token"
        )
        self._highest = f"SELECT token FROM {table} WHERE name = :name"

    def create_table(self, connection: Connection) -> None:
        """Make the table where it is missing. Once, before the writers begin; a migration may do it instead."""
        _run(connection, self._create, {})

    def admit(self, connection: Connection, name: str, token: int) -> None:
        """Let the holder of `token` pass and remember it, in the transaction of `connection`.

        Raises `StaleToken` when a larger one was seen for `name` (nothing was changed by this call then), and
        NoTransaction where the connection would commit each statement by itself. What the database raises, a time-out
        of its lock for example, comes through: nothing is admitted then.
        """
        check_token(token)
        if not 0 < len(name.encode()) <= PATH_BYTES_MAX:
            raise BadRequest(f"a name has 1 to {PATH_BYTES_MAX} bytes, not {len(name.encode())}")
        if _commits_by_itself(connection):
            raise NoTransaction(f"{name}: the check and the write must be one transaction: begin one first")
        if not _run(connection, self._admit, {"name": name, "token": token}):
            raise stale(name, token, self.highest(connection, name))

    def admit_sequencer(self, connection: Connection, sequencer: str) -> Sequencer:
        """`admit` the path and the token of a sequencer; its parts. Raises NeedsCell for a semaphore's, BadRequest."""
        claim = comparable(parse_sequencer(sequencer))
        self.admit(connection, claim.path, claim.token)
        return claim

    def highest(self, connection: Connection, name: str) -> int | None:
        """The highest token seen for `name`, as this transaction sees it, or None."""
        if isinstance(connection, sqlite3.Connection):
            row = connection.execute(self._highest, {"name": name}).fetchone()
        else:
            row = connection.execute(_text(self._highest), {"name": name}).fetchone()
        return None if row is None else int(row[0])


def _run(connection: Connection, statement: str, values: dict[str, object]) -> int:
    """How many rows were changed."""
    if isinstance(connection, sqlite3.Connection):
        return connection.execute(statement, values).rowcount
    _check_dialect(connection)
    prepared = _text(statement).execution_options(preserve_rowcount=True)
    return connection.execute(prepared, values).rowcount


def _text(statement: str) -> sqlalchemy.TextClause:
    """Whoever has a connection of SQLAlchemy has imported it; this library does not."""
    return sys.modules["sqlalchemy"].text(statement)  # type: ignore[no-any-return]


def _check_dialect(connection: Any) -> None:
    known = sys.modules.get("sqlalchemy")
    if known is None or not isinstance(connection, known.Connection):
        raise TypeError(f"a connection of sqlite3 or of SQLAlchemy Core, not {type(connection).__name__}")
    if connection.dialect.name not in DIALECTS:
        raise ValueError(f"this fence knows {' and '.join(DIALECTS)}, not {connection.dialect.name}")


def _commits_by_itself(connection: Connection) -> bool:
    driver: object = connection
    if not isinstance(connection, sqlite3.Connection):
        _check_dialect(connection)
        driver = connection.connection.dbapi_connection
    if not isinstance(driver, sqlite3.Connection):
        return getattr(driver, "autocommit", False) is True
    # From Python 3.12 on `autocommit` may be True; before, and by default, `isolation_level` alone decides.
    by_itself = driver.isolation_level is None or getattr(driver, "autocommit", None) is True
    return by_itself and not driver.in_transaction
