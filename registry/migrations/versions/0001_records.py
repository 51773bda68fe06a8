"""The first form of the registry's tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "records",
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=300), nullable=False),
        sa.Column(
            "enterprise",
            sa.String(length=64),
            nullable=False,
            comment="credit code, '' of what belongs to none",
        ),
        sa.Column("body", sa.Text(), nullable=False, comment="JSON: the texts that a file would hold"),
        sa.PrimaryKeyConstraint("kind", "key"),
        comment="what is so now",
    )
    op.create_index("records_enterprise", "records", ["enterprise", "kind"])
    op.create_table(
        "edits",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False, comment="1, 2, 3 ..."),
        sa.Column("time", sa.BigInteger(), nullable=False, comment="µs"),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column(
            "origin",
            sa.String(length=16),
            nullable=False,
            comment="by what way: 'import', 'command', 'api', 'serve'",
        ),
        sa.PrimaryKeyConstraint("id"),
        comment="who changed the registry, when and why; never changed themselves",
    )
    op.create_table(
        "changes",
        sa.Column("edit", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(
            "number",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="within the edit: 1, 2, 3 ...",
        ),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=300), nullable=False),
        sa.Column("enterprise", sa.String(length=64), nullable=False),
        sa.Column("old", sa.Text(), nullable=True, comment="JSON; NULL: it was not there"),
        sa.Column("new", sa.Text(), nullable=True, comment="JSON; NULL: it was removed"),
        sa.ForeignKeyConstraint(["edit"], ["edits.id"]),
        sa.PrimaryKeyConstraint("edit", "number"),
        comment="what each edit changed; never changed themselves",
    )
    op.create_index("changes_record", "changes", ["kind", "key"])
    op.create_index("changes_enterprise", "changes", ["enterprise"])
