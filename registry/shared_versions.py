"""Compiled versions that several machines share: their parts in a database, and which of them is wanted.

Each machine's folder (registry/versions.py) holds copies of what it has needed. Every function raises as
``database.reading`` and ``database.writing``, beside what it says itself; to look where there are no tables yet
raises DatabaseUnwritable.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Engine, delete, insert, select, text, tuple_, update
from sqlalchemy.exc import DBAPIError

from registry import store_tables, versions
from registry.clock import DAY, SystemClock
from registry.database import DatabaseBusy, DatabaseUnwritable, reading, writing
from registry.store_tables import version_parts, wanted_versions
from registry.versions import BrokenVersion, NoSuchVersion, kinds, part

COPIED = DAY
"""How long a machine keeps a copy of a part at least, µs."""

_ALONE = text(f"LOCK TABLE {wanted_versions.name} IN SHARE ROW EXCLUSIVE MODE")
"""Of two that publish at once, the second sees what the first has."""


class Wanted(NamedTuple):
    """The version that should take force. edition: 1, 2, 3 ...: a later one is wanted later, whatever its version."""

    version: str
    edition: int


class Overtaken(DatabaseBusy):
    """Another was wanted meanwhile, of which this one knows nothing: compile again. Nothing was done."""


class _Newest(NamedTuple):
    edition: int
    version: str
    edit: int


def upgrade(engine: Engine) -> None:
    """Bring the tables to their newest form; they are of the registry's. Raises as ``database.upgrade``."""
    store_tables.upgrade(engine)


def publish(
    engine: Engine, folder: Path, version: str, now: int, *, edit: int = 0, after: int | None = None
) -> int:
    """Bring the parts of a version from a folder into the database, and want it, in one transaction.

    What was compiled of an older edit than what is wanted is not wanted any more: nothing is done. Several may
    publish at once.

    Args:
        now: µs. edit: of the registry's edits, the newest that it was compiled of.
        after: the edition that was wanted when its compiling began (0 for none), if that matters.

    Returns:
        The edition that is wanted now; that of before, if its version is the same.

    Raises:
        NoSuchVersion, BrokenVersion: what the folder has, or has not. OSError.
        Overtaken: a version that is another than this is wanted since ``after``.
    """
    files = {kind: versions.copy_out(folder, version, kind) for kind in kinds(version)}
    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":  # SQLite has one that writes anyway
            connection.execute(_ALONE)
        newest = _newest(connection) or _Newest(0, "", 0)
        if edit < newest.edit:
            return newest.edition
        other = version != newest.version
        if other and after is not None and newest.edition != after:
            raise Overtaken(f"edition {newest.edition} is wanted, {newest.version}, and not {after} any more")
        for kind, content in files.items():
            _put(connection, part(version, kind), kind, content, now)
        if other:
            newest = _Newest(newest.edition + 1, version, edit)
            connection.execute(insert(wanted_versions).values(**newest._asdict(), since=now))
        elif edit > newest.edit:
            same = wanted_versions.c.edition == newest.edition
            connection.execute(update(wanted_versions).where(same).values(edit=edit))
        return newest.edition


def wanted(engine: Engine) -> Wanted | None:
    """The version that should take force; None if none was ever wanted."""
    with _looking(engine) as connection:
        newest = _newest(connection)
    return Wanted(newest.version, newest.edition) if newest is not None else None


def fetch(engine: Engine, folder: Path, version: str) -> None:
    """Bring the parts of a version that the folder lacks, or has broken, into it.

    Raises:
        NoSuchVersion: the database has none, either. BrokenVersion: what it has is not what was published. OSError.
    """
    for kind in kinds(version):
        name = part(version, kind)
        with suppress(NoSuchVersion, BrokenVersion):
            versions.copy_out(folder, version, kind)
            continue
        query = select(version_parts.c.content).where(_is(name, kind))
        with _looking(engine) as connection:
            content = connection.execute(query).scalar()
        if content is None:
            raise NoSuchVersion(f"the database has no {kind[1:]} of version {version}")
        versions.copy_in(folder, name, kind, content)
        versions.discard_older(folder, SystemClock().now() - COPIED, version)


def in_force_since(engine: Engine, time: int) -> set[str]:
    """The versions that were wanted at this time (µs) or later."""
    table = wanted_versions.c
    with _looking(engine) as connection:
        rows = connection.execute(select(table.version, table.since).order_by(table.edition.desc()))
        found = set()
        for version, since in rows:
            found.add(version)
            if since <= time:
                break
    return found


def discard_all_but(engine: Engine, keep: Collection[str], now: int) -> int:
    """Remove all parts but those of these versions, and say how many.

    The wanted version stays, and so does what was published within the hour before ``now`` (µs).
    """
    table = version_parts.c
    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(_ALONE)
        newest = _newest(connection)
        kept = {*keep, newest.version} if newest is not None else {*keep}
        parts = [(part(version, kind), kind) for version in kept for kind in kinds(version)]
        old = table.saved < now - versions.KEPT
        gone = connection.execute(
            delete(version_parts).where(old, tuple_(table.name, table.kind).not_in(parts))
        )
    return gone.rowcount


@contextmanager
def _looking(engine: Engine) -> Iterator[Connection]:
    try:
        with reading(engine) as connection:
            yield connection
    except (DBAPIError, engine.dialect.loaded_dbapi.Error) as error:
        why = str(error).splitlines()[0]
        raise DatabaseUnwritable(f"{why}: `fenghuo prepare` makes the tables that are missing") from error


def _newest(connection: Connection) -> _Newest | None:
    table = wanted_versions.c
    query = select(table.edition, table.version, table.edit).order_by(table.edition.desc()).limit(1)
    row = connection.execute(query).first()
    return _Newest(*row) if row is not None else None


def _is(name: str, kind: str) -> ColumnElement[bool]:
    return (version_parts.c.name == name) & (version_parts.c.kind == kind)


def _put(connection: Connection, name: str, kind: str, content: bytes, now: int) -> None:
    """What is there under its name is the same; it only becomes young."""
    there = connection.execute(update(version_parts).where(_is(name, kind)).values(saved=now))
    if not there.rowcount:
        connection.execute(insert(version_parts).values(name=name, kind=kind, content=content, saved=now))
