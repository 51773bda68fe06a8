"""The first form of the tables of leases."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "slots",
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False, comment="'' for none"),
        sa.Column(
            "until", sa.DateTime(timezone=True), nullable=False, comment="then it is free, if not renewed"
        ),
        sa.Column("term", sa.BigInteger(), nullable=False, comment="rises with every change of owner"),
        sa.PrimaryKeyConstraint("slot"),
        comment="which collector has which part of the enterprises",
    )
    op.create_table(
        "collectors",
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column(
            "until", sa.DateTime(timezone=True), nullable=False, comment="then it is dead, if not renewed"
        ),
        sa.PrimaryKeyConstraint("owner"),
        comment="who is alive, with slots or without",
    )
