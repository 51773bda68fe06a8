"""Alembic's entry: runs the migrations of these tables."""

from alerting.tables import metadata
from registry.migrating import migrate

migrate(metadata)
