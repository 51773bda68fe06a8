"""Alembic's entry: runs the migrations of these tables."""

from registry.migrating import migrate
from registry.store_tables import metadata

migrate(metadata)
