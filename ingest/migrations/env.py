"""Alembic's entry: runs the migrations on the connection that it is handed."""

from alembic import context

from ingest.lease_tables import metadata

connection = context.config.attributes.get("connection")
if connection is None:  # "--sql": print the statements for another database
    context.configure(dialect_name=context.config.get_main_option("dialect"), target_metadata=metadata)
else:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=context.config.attributes["version_table"],
        transactional_ddl=True,
    )
with context.begin_transaction():
    context.run_migrations()
