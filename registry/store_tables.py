"""The registry's tables: records, edits, what each of them changed, and compiled versions. The migrations build the
same."""

from pathlib import Path

from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

from registry import migrating

MIGRATIONS = Path(__file__).parent / "migrations"

metadata = MetaData()

records = Table(
    "records",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("key", String(300), primary_key=True),
    Column("enterprise", String(64), nullable=False, comment="credit code, '' of what belongs to none"),
    Column("body", Text, nullable=False, comment="JSON: the texts that a file would hold"),
    Index("records_enterprise", "enterprise", "kind"),
    comment="what is so now",
)

edits = Table(
    "edits",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False, comment="1, 2, 3 ..."),
    Column("time", BigInteger, nullable=False, comment="µs"),
    Column("who", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("origin", String(16), nullable=False, comment="by what way: 'import', 'command', 'api', 'serve'"),
    comment="who changed the registry, when and why; never changed themselves",
)

changes = Table(
    "changes",
    metadata,
    Column("edit", Integer, ForeignKey("edits.id"), primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False, comment="within the edit: 1, 2, 3 ..."),
    Column("kind", String(32), nullable=False),
    Column("key", String(300), nullable=False),
    Column("enterprise", String(64), nullable=False),
    Column("old", Text, comment="JSON; NULL: it was not there"),
    Column("new", Text, comment="JSON; NULL: it was removed"),
    Index("changes_record", "kind", "key"),
    Index("changes_enterprise", "enterprise"),
    comment="what each edit changed; never changed themselves",
)

version_parts = Table(
    "version_parts",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("kind", String(16), primary_key=True, comment="ending of its file: '.registry', '.rulebook'"),
    Column("content", LargeBinary, nullable=False, comment="as in its file, compressed"),
    Column("saved", BigInteger, nullable=False, comment="when it was published last, µs"),
    comment="compiled versions that several machines share",
)

wanted_versions = Table(
    "wanted_versions",
    metadata,
    Column("edition", Integer, primary_key=True, autoincrement=False, comment="1, 2, 3 ..."),
    Column("version", String(80), nullable=False),
    Column(
        "edit", Integer, nullable=False, comment="of the registry's edits, the newest that it was compiled of"
    ),
    Column("since", BigInteger, nullable=False, comment="µs"),
    comment="which version was to take force, and when; the last is wanted now",
)


def newest_form(engine: Engine) -> bool:
    """Whether the registry's tables have their newest form; only looks. Raises as ``migrating.newest_form``."""
    return migrating.newest_form(engine, MIGRATIONS)


def upgrade(engine: Engine) -> None:
    """Bring the registry's tables to their newest form. Raises as ``migrating.upgrade``."""
    migrating.upgrade(engine, MIGRATIONS)
