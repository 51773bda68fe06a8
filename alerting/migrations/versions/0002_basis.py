"""What compound findings say: why, on what grounds, and what they ask for; and findings as worklists by cell."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_context().dialect.name != "sqlite":  # which holds a text of any length, and cannot alter
        op.alter_column("alerts", "level", type_=sa.String(length=64), existing_nullable=False)
    op.add_column(
        "alerts",
        sa.Column(
            "basis",
            sa.Text(),
            server_default="{}",
            nullable=False,
            comment="JSON: why, grounds, what it asks for",
        ),
    )
    op.add_column(
        "findings",
        sa.Column(
            "cell",
            sa.String(length=64),
            server_default="",
            nullable=False,
            comment="of the enterprise, or the cell itself",
        ),
    )
    op.create_index("findings_rule", "findings", ["rule", "arrival"], unique=False)
    op.create_index("findings_cell", "findings", ["cell", "arrival"], unique=False)
    op.create_index("findings_arrival", "findings", ["arrival"], unique=False)
