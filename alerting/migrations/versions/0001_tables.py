"""The first form of the desk's tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("rule", sa.String(length=64), nullable=False),
        sa.Column("enterprise", sa.String(length=18), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("cell", sa.String(length=64), nullable=False),
        sa.Column("finding", sa.String(length=32), nullable=False),
        sa.Column("tier", sa.Integer(), nullable=False),
        sa.Column("level", sa.String(length=64), nullable=False),
        sa.Column("condition", sa.String(length=16), nullable=False),
        sa.Column("answer", sa.String(length=16), nullable=False),
        sa.Column("rung", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("raised", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("value_time", sa.BigInteger(), nullable=False),
        sa.Column("limit", sa.Float(), nullable=True),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("clause", sa.Text(), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False, comment="JSON: a list of strings"),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("confirmed", sa.BigInteger(), nullable=False),
        sa.Column("acted", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=False),
        sa.Column("closed", sa.BigInteger(), nullable=False),
        sa.Column("close_reason", sa.String(length=64), nullable=False),
        sa.Column("reopened", sa.Integer(), nullable=False),
        sa.Column("confirm_due", sa.BigInteger(), nullable=False),
        sa.Column("action_due", sa.BigInteger(), nullable=False),
        sa.Column("return_due", sa.BigInteger(), nullable=False),
        sa.Column("close_due", sa.BigInteger(), nullable=False),
        sa.Column("next_due", sa.BigInteger(), nullable=False, comment="the earliest of the dues; 0 if none"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("alerts_due", "alerts", ["next_due"], unique=False)
    op.create_index("alerts_enterprise", "alerts", ["enterprise", "raised"], unique=False)
    op.create_index("alerts_joinable", "alerts", ["enterprise", "closed"], unique=False)
    op.create_index("alerts_raised", "alerts", ["raised"], unique=False)
    op.create_table(
        "findings",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("rule", sa.String(length=64), nullable=False),
        sa.Column("enterprise", sa.String(length=18), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("tier", sa.Integer(), nullable=True),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("arrival", sa.BigInteger(), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.Column("alert", sa.String(length=32), nullable=True),
        sa.Column("body", sa.Text(), nullable=False, comment="the newest message, JSON"),
        sa.PrimaryKeyConstraint("id"),
        comment="the newest message of every finding; ids are kept for longer than a replay can reach back",
    )
    op.create_index("findings_alert", "findings", ["alert"], unique=False)
    op.create_index("findings_enterprise", "findings", ["enterprise", "arrival"], unique=False)
    op.create_table(
        "state",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        comment="numbers that rise: the journal offset absorbed, how often all was made durable",
    )
    op.create_table(
        "tokens",
        sa.Column(
            "digest",
            sa.String(length=64),
            nullable=False,
            comment="SHA-256, hex; the token itself is kept nowhere",
        ),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column(
            "person",
            sa.String(length=64),
            nullable=False,
            comment="person id for whom it speaks, '' for none",
        ),
        sa.Column(
            "scope", sa.String(length=80), nullable=False, comment="'enterprise:CODE', 'cell:ID' or 'system'"
        ),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("revoked", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("alert", sa.String(length=32), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=8), nullable=False),
        sa.Column("tier", sa.Integer(), nullable=False),
        sa.Column("channel", sa.String(length=64), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("language", sa.String(length=8), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("maybe_delivered", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("delivered", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["alert"],
            ["alerts.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("outbox_alert", "outbox", ["alert", "person"], unique=False)
    op.create_index("outbox_due", "outbox", ["state", "due"], unique=False)
    op.create_table(
        "steps",
        sa.Column("alert", sa.String(length=32), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False, comment="when it was done, µs"),
        sa.Column(
            "due",
            sa.BigInteger(),
            nullable=False,
            comment="when it was due, where a deadline brought it; else 0",
        ),
        sa.Column("late", sa.BigInteger(), nullable=False, comment="how late that was, µs; 0 if in time"),
        sa.Column("event", sa.String(length=32), nullable=False),
        sa.Column(
            "actor",
            sa.String(length=64),
            nullable=False,
            comment="person id, or a word for the machine's part",
        ),
        sa.Column("detail", sa.Text(), nullable=False, comment="JSON: the finding, the note, whom it asked"),
        sa.ForeignKeyConstraint(
            ["alert"],
            ["alerts.id"],
        ),
        sa.PrimaryKeyConstraint("alert", "step"),
        comment="the history of every alert: who or what, when, why",
    )
