"""Databases: engines with the pragmas that make a commit durable, and transactions."""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from sqlalchemy import (
    URL,
    ClauseElement,
    Connection,
    Dialect,
    Engine,
    Insert,
    Update,
    create_engine,
    event,
)
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.sql.compiler import SQLCompiler

from registry.clock import stopwatch

T = TypeVar("T")


class DatabaseError(Exception):
    """Base of all that goes wrong with a database, or is refused by what keeps it."""


class DatabaseBusy(DatabaseError):
    """The database is held by others, or cannot be reached just now: try again. Nothing was done; only where
    the connection was lost in the very commit, that is not known."""


class DatabaseUnwritable(DatabaseError):
    """The database cannot be written (full, read-only or broken disk); nothing was done."""


class DatabaseTooNew(DatabaseError):
    """The tables were made by a newer Fenghuo; nothing was done."""


# SQLite's primary result codes, and PostgreSQL's SQLSTATEs, by what they mean to us.
_BUSY = {
    *(5, 6, 15),  # busy, locked, a race for the WAL's locks
    *("40001", "40P01", "55P03"),  # serialization, deadlock, lock not available
    "23505",  # two desks began the same at once: the second finds it when it tries again
    *("25P03", "57P05"),  # we stood still so long that the server gave us up
    *("53300", "57P01", "57P02", "57P03"),  # too many connections; shut down, crashed, starting up
}
_UNWRITABLE = {8, 10, 13, 14, "25006", "53100"}  # read-only, I/O error, full, cannot open; the same there

AGAIN = 0.0003
"""Seconds of real time between two tries to take SQLite's write lock."""

_moment = threading.Event()  # never set: a pause


THINKING = 300.0
"""Seconds of real time that a transaction may think between two statements: an edit of a city's registry is judged
in one, and an import of it takes 100 s in all (docs/performance.md)."""

STANDING = 5.0
"""The same for who never thinks long: desks, senders, leases. Others wait for what they hold."""

# So long after the machine of a client has gone, the server lets go of all that it held.
_KEEPALIVE = "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3"


def open_database(
    where: Path | str | URL, *, busy: float = 5.0, lasting: bool = True, thinking: float = THINKING
) -> Engine:
    """An engine on a database.

    Args:
        where: a SQLite file, or a SQLAlchemy URL (``sqlite:///...``, ``postgresql+psycopg://...``).
        busy: seconds to wait for another process's locks before DatabaseBusy.
        lasting: a commit waits until it is on the disk, with all that was committed before it. If not, others
            see it at once and a killed process loses nothing, but a power cut may undo the newest of them.
        thinking: seconds that a transaction may be left waiting for its next statement; then PostgreSQL ends it,
            so that a process that is frozen or cut off holds up no other for ever. It finds DatabaseBusy.
    """
    milliseconds = max(1, int(busy * 1000))
    engine = create_engine(URL.create("sqlite", database=str(where)) if isinstance(where, Path) else where)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
            connection.isolation_level = None  # BEGIN is ours: the driver's would not be IMMEDIATE
            connection.execute(f"PRAGMA busy_timeout = {milliseconds}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {'FULL' if lasting else 'NORMAL'}")
            connection.execute("PRAGMA foreign_keys = ON")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            cursor = connection.connection.cursor()
            if connection.get_execution_options().get("reading", False):
                cursor.execute("BEGIN")
            else:
                _begin_writing(cursor, milliseconds)

    elif engine.dialect.name == "postgresql":

        @event.listens_for(engine, "connect")
        def _limit(connection: DBAPIConnection, _record: Any) -> None:
            cursor = connection.cursor()
            cursor.execute(f"SET lock_timeout = {milliseconds}")
            cursor.execute(f"SET synchronous_commit = {'on' if lasting else 'off'}")
            cursor.execute(f"SET idle_in_transaction_session_timeout = {max(1, int(thinking * 1000))}")
            cursor.execute(_KEEPALIVE)
            cursor.close()
            connection.commit()  # else a rollback would take the setting along

    return engine


def _begin_writing(cursor: DBAPICursor, busy: int) -> None:
    """Take SQLite's write lock. Others hold it for a millisecond; its own waits are 1, 2, 5, 10 ms and so on,
    so that an alert would often wait much longer than the lock is held."""
    cursor.execute("PRAGMA busy_timeout = 0")
    patience = stopwatch() + busy / 1000
    try:
        while True:
            try:
                cursor.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in _BUSY or stopwatch() > patience:
                    raise
                _moment.wait(AGAIN)
            else:
                return
    finally:
        cursor.execute(f"PRAGMA busy_timeout = {busy}")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that may write: committed at the end of the block, or nothing is done.

    Raises:
        DatabaseBusy: others hold the database, or it cannot be reached just now.
        DatabaseUnwritable: the disk is full, read-only or broken.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except (DBAPIError, NoConnection, engine.dialect.loaded_dbapi.Error) as error:
        raise _meaning(error, engine.dialect.loaded_dbapi) from error


_LOOK: dict[str, dict[str, Any]] = {
    "sqlite": {"reading": True},
    "postgresql": {"isolation_level": "REPEATABLE READ"},  # else every statement would see another state
}
"""What makes a transaction one consistent look."""


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent look at the database that keeps nobody from writing (SQLite's WAL, MVCC elsewhere).

    Raises:
        DatabaseBusy, DatabaseUnwritable: as ``writing``.
    """
    try:
        with engine.connect() as connection:
            yield connection.execution_options(**_LOOK.get(engine.dialect.name, {}))
    except (DBAPIError, NoConnection, engine.dialect.loaded_dbapi.Error) as error:
        raise _meaning(error, engine.dialect.loaded_dbapi) from error


@contextmanager
def understood(engine: Engine) -> Iterator[None]:
    """Around work on a connection that outlives the block: raises DatabaseBusy, DatabaseUnwritable, as ``writing``."""
    try:
        yield
    except (DBAPIError, NoConnection, engine.dialect.loaded_dbapi.Error) as error:
        raise _meaning(error, engine.dialect.loaded_dbapi) from error


# What a round of the desk does goes straight to the driver, within `writing`: SQLAlchemy words a statement,
# once for each database, and sees nothing of the plain values. That takes a third off a round of one alert.


def execute_many(connection: Connection, statement: Insert | Update, rows: Sequence[dict[str, Any]]) -> None:
    """Run a statement for each of the rows, which have equal keys, two or more; nothing to do for none."""
    if rows:
        text, in_order = _worded(statement, connection.dialect, tuple(rows[0]))
        cursor = connection.connection.cursor()
        cursor.executemany(text, list(map(in_order, rows)) if in_order else rows)
        cursor.close()


def fetch(
    connection: Connection, query: ClauseElement, values: Mapping[str, Any]
) -> Sequence[tuple[Any, ...]]:
    """The rows of a query, as the driver gives them: no type of a column is converted.

    Args:
        values: of the query's parameters; lists for those that expand.
    """
    compiled = _compiled(query, connection.dialect)
    asked = compiled.construct_expanded_state(values)
    cursor = connection.connection.cursor()
    cursor.execute(asked.statement, asked.positional_parameters if compiled.positional else asked.parameters)
    rows = cursor.fetchall()
    cursor.close()
    return rows


@lru_cache(maxsize=64)
def _compiled(query: ClauseElement, dialect: Dialect) -> SQLCompiler:
    return cast(SQLCompiler, query.compile(dialect=dialect))


@lru_cache(maxsize=64)
def _worded(
    statement: Insert | Update, dialect: Dialect, keys: tuple[str, ...]
) -> tuple[str, Callable[[dict[str, Any]], tuple[Any, ...]] | None]:
    """The statement in a database's SQL, and what puts a row's values in order; None if they go by name."""
    compiled = statement.compile(dialect=dialect, column_keys=list(keys))
    order = getattr(compiled, "positiontup", None)
    return str(compiled), itemgetter(*order) if order else None


class Commits:
    """Counts the commits of all other connections, as SQLite does: so it has a connection of its own, and to
    ask costs a few microseconds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: PoolProxiedConnection | None = None

    def count(self) -> int | None:
        """A number that differs after a commit; None where the database cannot say.

        Raises:
            DatabaseBusy: others hold the database.
            DatabaseUnwritable: anything else is wrong with it.
        """
        if self._engine.dialect.name != "sqlite":
            return None
        try:
            if self._connection is None:
                self._connection = self._engine.raw_connection()
            cursor = self._connection.cursor()
            cursor.execute("PRAGMA data_version")
            row = cursor.fetchone()
            cursor.close()
        except (DBAPIError, NoConnection, sqlite3.Error) as error:
            meaning = _meaning(error, sqlite3)
            raise (
                meaning if isinstance(meaning, DatabaseError) else DatabaseUnwritable(str(error))
            ) from error
        return int(row[0]) if row else None

    def close(self) -> None:
        """Give the connection back; the next count takes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Watch(Generic[T]):
    """Something read of the database, read again only when the database may have changed."""

    def __init__(self, engine: Engine, read: Callable[[Connection], T]) -> None:
        self._engine = engine
        self._read = read
        self._seen: tuple[int, T] | None = None
        self._commits = Commits(engine)

    def look(self) -> T:
        """What ``read`` gives now.

        Raises:
            DatabaseBusy: others hold the database, or it cannot be reached just now.
            DatabaseUnwritable: anything else is wrong with it.
        """
        count = self._commits.count()
        seen = self._seen
        if seen is None or count is None or seen[0] != count:
            try:
                with reading(self._engine) as connection:
                    seen = (count or 0, self._read(connection))
            except (DBAPIError, self._engine.dialect.loaded_dbapi.Error) as error:
                raise DatabaseUnwritable(str(error)) from error
            self._seen = seen
        return seen[1]


def _meaning(error: Exception, driver_module: Any) -> Exception:
    """What an error means to us: busy, unwritable, or (neither) the driver's error itself."""
    driver = (error.orig if isinstance(error, DBAPIError) else None) or error
    code: int | str | None = getattr(driver, "sqlstate", None)
    # The server has gone, or is not there.
    lost = isinstance(driver, driver_module.OperationalError) and code is None
    if isinstance(driver, sqlite3.Error):
        code, lost = getattr(driver, "sqlite_errorcode", 0) & 0xFF, False
    if lost or code in _BUSY or str(code).startswith("08") or isinstance(error, NoConnection):
        return DatabaseBusy(str(driver))
    if code in _UNWRITABLE:
        return DatabaseUnwritable(str(driver))
    return driver
