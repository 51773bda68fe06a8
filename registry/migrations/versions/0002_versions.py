"""Compiled versions that several machines share, and which of them is wanted."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "version_parts",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column(
            "kind",
            sa.String(length=16),
            nullable=False,
            comment="ending of its file: '.registry', '.rulebook'",
        ),
        sa.Column("content", sa.LargeBinary(), nullable=False, comment="as in its file, compressed"),
        sa.Column("saved", sa.BigInteger(), nullable=False, comment="when it was published last, µs"),
        sa.PrimaryKeyConstraint("name", "kind"),
        comment="compiled versions that several machines share",
    )
    op.create_table(
        "wanted_versions",
        sa.Column("edition", sa.Integer(), autoincrement=False, nullable=False, comment="1, 2, 3 ..."),
        sa.Column("version", sa.String(length=80), nullable=False),
        sa.Column(
            "edit",
            sa.Integer(),
            nullable=False,
            comment="of the registry's edits, the newest that it was compiled of",
        ),
        sa.Column("since", sa.BigInteger(), nullable=False, comment="µs"),
        sa.PrimaryKeyConstraint("edition"),
        comment="which version was to take force, and when; the last is wanted now",
    )
