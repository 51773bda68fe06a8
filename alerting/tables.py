"""The desk's tables: alerts, their steps, findings, outbox, tokens. The migrations build the same."""

from pathlib import Path

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

from registry import migrating

MIGRATIONS = Path(__file__).parent / "migrations"

metadata = MetaData()

state = Table(
    "state",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
    comment="numbers that rise: the journal offset absorbed, how often all was made durable",
)

findings = Table(
    "findings",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("rule", String(64), nullable=False),
    Column("enterprise", String(18), nullable=False),
    Column("subject", String(128), nullable=False),
    Column("phase", String(16), nullable=False),
    Column("tier", Integer),
    Column("since", BigInteger, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("arrival", BigInteger, nullable=False),
    Column("late", Boolean, nullable=False),
    Column("alert", String(32)),
    Column("body", Text, nullable=False, comment="the newest message, JSON"),
    Column(
        "cell", String(64), nullable=False, server_default="", comment="of the enterprise, or the cell itself"
    ),
    Index("findings_enterprise", "enterprise", "arrival"),
    Index("findings_rule", "rule", "arrival"),
    Index("findings_cell", "cell", "arrival"),
    Index("findings_arrival", "arrival"),
    Index("findings_alert", "alert"),
    comment="the newest message of every finding; ids are kept for longer than a replay can reach back",
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("rule", String(64), nullable=False),
    Column("enterprise", String(18), nullable=False),
    Column("subject", String(128), nullable=False),
    Column("cell", String(64), nullable=False),
    Column("finding", String(32), nullable=False),
    Column("tier", Integer, nullable=False),
    Column("level", String(64), nullable=False),
    Column("condition", String(16), nullable=False),
    Column("answer", String(16), nullable=False),
    Column("rung", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("raised", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("value", Float),
    Column("value_time", BigInteger, nullable=False),
    Column("limit", Float),
    Column("unit", Text, nullable=False),
    Column("clause", Text, nullable=False),
    Column("version", String(32), nullable=False),
    Column("evidence", Text, nullable=False, comment="JSON: a list of strings"),
    Column(
        "basis", Text, nullable=False, server_default="{}", comment="JSON: why, grounds, what it asks for"
    ),
    Column("holder", String(64), nullable=False),
    Column("confirmed", BigInteger, nullable=False),
    Column("acted", BigInteger, nullable=False),
    Column("ended", BigInteger, nullable=False),
    Column("closed", BigInteger, nullable=False),
    Column("close_reason", String(64), nullable=False),
    Column("reopened", Integer, nullable=False),
    Column("confirm_due", BigInteger, nullable=False),
    Column("action_due", BigInteger, nullable=False),
    Column("return_due", BigInteger, nullable=False),
    Column("close_due", BigInteger, nullable=False),
    Column("next_due", BigInteger, nullable=False, comment="the earliest of the dues; 0 if none"),
    Index("alerts_joinable", "enterprise", "closed"),
    Index("alerts_due", "next_due"),
    Index("alerts_enterprise", "enterprise", "raised"),
    Index("alerts_raised", "raised"),
)

steps = Table(
    "steps",
    metadata,
    Column("alert", String(32), ForeignKey("alerts.id"), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("time", BigInteger, nullable=False, comment="when it was done, µs"),
    Column("due", BigInteger, nullable=False, comment="when it was due, where a deadline brought it; else 0"),
    Column("late", BigInteger, nullable=False, comment="how late that was, µs; 0 if in time"),
    Column("event", String(32), nullable=False),
    Column("actor", String(64), nullable=False, comment="person id, or a word for the machine's part"),
    Column("detail", Text, nullable=False, comment="JSON: the finding, the note, whom it asked"),
    comment="the history of every alert: who or what, when, why",
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("alert", String(32), ForeignKey("alerts.id"), nullable=False),
    Column("step", Integer, nullable=False),
    Column("person", String(64), nullable=False),
    Column("role", String(8), nullable=False),
    Column("tier", Integer, nullable=False),
    Column("channel", String(64), nullable=False),
    Column("address", Text, nullable=False),
    Column("language", String(8), nullable=False),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("due", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("maybe_delivered", Boolean, nullable=False),
    Column("state", String(16), nullable=False),
    Column("error", Text, nullable=False),
    Column("delivered", BigInteger, nullable=False),
    Index("outbox_due", "state", "due"),
    Index("outbox_alert", "alert", "person"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("digest", String(64), primary_key=True, comment="SHA-256, hex; the token itself is kept nowhere"),
    Column("name", String(64), nullable=False),
    Column("person", String(64), nullable=False, comment="person id for whom it speaks, '' for none"),
    Column("scope", String(80), nullable=False, comment="'enterprise:CODE', 'cell:ID' or 'system'"),
    Column("created", BigInteger, nullable=False),
    Column("revoked", BigInteger, nullable=False),
)


def upgrade(engine: Engine) -> None:
    """Bring the desk's tables to their newest form; does nothing if they have it. Raises as ``writing``."""
    migrating.upgrade(engine, MIGRATIONS)
