"""The desk's database: engines with the pragmas that make a commit durable, transactions, migrations."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection as SqliteConnection
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

MIGRATIONS = Path(__file__).parent / "migrations"


class DeskError(Exception):
    """Base of all that the desk raises."""


class DeskBusy(DeskError):
    """Another process holds the database; nothing was done, try again."""


class DeskUnwritable(DeskError):
    """The database cannot be written (full, read-only or broken disk); nothing was done."""


# SQLite's primary result codes, and PostgreSQL's SQLSTATEs, by what they mean to us.
_BUSY = {5, 6, "40001", "40P01", "55P03"}  # busy, locked; serialization, deadlock, lock not available
_UNWRITABLE = {8, 10, 13, 14, "25006", "53100"}  # read-only, I/O error, full, cannot open; the same there


def open_database(where: Path | str, *, busy: float = 5.0) -> Engine:
    """An engine on the desk's database.

    Args:
        where: a SQLite file, or a SQLAlchemy URL (``sqlite:///...``, ``postgresql+psycopg://...``).
        busy: seconds to wait for another process's transaction before DeskBusy.
    """
    engine = create_engine(f"sqlite:///{where}" if isinstance(where, Path) else where)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _prepare(connection: SqliteConnection, _record: Any) -> None:
            connection.isolation_level = None  # BEGIN is ours: the driver's would not be IMMEDIATE
            connection.execute(f"PRAGMA busy_timeout = {int(busy * 1000)}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            reading = connection.get_execution_options().get("reading", False)
            connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that may write: committed at the end of the block, or nothing is done.

    Raises:
        DeskBusy: another process holds the database.
        DeskUnwritable: the disk is full, read-only or broken.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except DBAPIError as error:
        raise _translated(error) from error


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent look at the database that keeps nobody from writing (SQLite's WAL, MVCC elsewhere).

    Raises:
        DeskBusy, DeskUnwritable: as ``writing``.
    """
    try:
        with engine.connect() as connection:
            yield connection.execution_options(reading=True)
    except DBAPIError as error:
        raise _translated(error) from error


def upgrade(engine: Engine) -> None:
    """Bring the tables to the newest form, in one transaction; does nothing if they have it."""
    with writing(engine) as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _translated(error: DBAPIError) -> Exception:
    code = getattr(error.orig, "sqlite_errorcode", None)
    code = code & 0xFF if code is not None else getattr(error.orig, "sqlstate", None)
    if code in _BUSY:
        return DeskBusy(str(error.orig))
    if code in _UNWRITABLE:
        return DeskUnwritable(str(error.orig))
    return error
