"""Alembic's entry: runs the migrations of these tables."""

from alerting.tables import metadata
from registry.database import migrate

migrate(metadata)
