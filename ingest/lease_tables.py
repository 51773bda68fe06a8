"""The tables of leases, by PostgreSQL's own clock. The migrations build the same."""

from pathlib import Path

from sqlalchemy import BigInteger, Column, DateTime, Engine, Integer, MetaData, String, Table

from registry import migrating

MIGRATIONS = Path(__file__).parent / "migrations"

metadata = MetaData()

slots = Table(
    "slots",
    metadata,
    Column("slot", Integer, primary_key=True, autoincrement=False),
    Column("owner", String(128), nullable=False, comment="'' for none"),
    Column("until", DateTime(timezone=True), nullable=False, comment="then it is free, if not renewed"),
    Column("term", BigInteger, nullable=False, comment="rises with every change of owner"),
    comment="which collector has which part of the enterprises",
)

collectors = Table(
    "collectors",
    metadata,
    Column("owner", String(128), primary_key=True),
    Column("until", DateTime(timezone=True), nullable=False, comment="then it is dead, if not renewed"),
    comment="who is alive, with slots or without",
)


def upgrade(engine: Engine) -> None:
    """Bring the tables to the newest form. Raises as registry.migrating.upgrade."""
    migrating.upgrade(engine, MIGRATIONS)


def ready(engine: Engine) -> bool:
    """Whether they have the newest form; only looks. Raises as registry.migrating.newest_form."""
    return migrating.newest_form(engine, MIGRATIONS)
