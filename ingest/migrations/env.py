"""Alembic's entry: runs the migrations of these tables."""

from ingest.lease_tables import metadata
from registry.database import migrate

migrate(metadata)
