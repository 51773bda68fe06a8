"""Alembic's entry: runs the migrations of these tables."""

from ingest.lease_tables import metadata
from registry.migrating import migrate

migrate(metadata)
