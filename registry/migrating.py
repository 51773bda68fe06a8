"""Migrations: how tables get their newest form, and whether they have it.

Alembic is read only where it is needed: a tenth of a second of every start of a process.
"""

from pathlib import Path

from sqlalchemy import Dialect, Engine, MetaData, text

from registry.database import DatabaseTooNew, reading, writing


def version_table(dialect: Dialect, migrations: Path) -> str:
    """Where the form of the tables is noted: on a server, desk and registry may share a database."""
    return "alembic_version" if dialect.name == "sqlite" else f"{migrations.parent.name}_version"


def newest_form(engine: Engine, migrations: Path) -> bool:
    """Whether the tables have the newest form of the folder of migrations; only looks.

    Raises DatabaseTooNew, or as ``reading``.
    """
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    with reading(engine) as connection:
        options = {"version_table": version_table(connection.dialect, migrations)}
        form = MigrationContext.configure(connection, opts=options).get_current_revision()
    scripts = ScriptDirectory(str(migrations))
    if form not in {None, *(script.revision for script in scripts.walk_revisions())}:
        raise DatabaseTooNew(f"{engine.url.database} has tables of a newer Fenghuo ({form}): use that one")
    return form == scripts.get_current_head()


_MIGRATING = text("SELECT pg_advisory_xact_lock(3, 0)")
"""Of several processes that start at once, one makes the tables, and the others find them."""


def upgrade(engine: Engine, migrations: Path) -> None:
    """Bring the tables to the newest form by the folder of migrations, in one transaction; only looks if they
    have it. Raises DatabaseTooNew, or as ``writing``."""
    if newest_form(engine, migrations):
        return
    from alembic import command
    from alembic.config import Config

    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(_MIGRATING)
        config = Config()
        config.set_main_option("script_location", str(migrations).replace("%", "%%"))
        config.attributes["connection"] = connection
        config.attributes["version_table"] = version_table(connection.dialect, migrations)
        command.upgrade(config, "head")


def migrate(metadata: MetaData) -> None:
    """What a folder's ``env.py`` does when Alembic runs it: its migrations, on the connection that it is handed."""
    from alembic import context

    attributes = context.config.attributes
    connection = attributes.get("connection")
    if connection is None:  # "--sql": print the statements for another database
        context.configure(dialect_name=context.config.get_main_option("dialect"), target_metadata=metadata)
    else:
        context.configure(
            connection=connection,
            target_metadata=metadata,
            version_table=attributes["version_table"],
            transactional_ddl=True,
        )
    with context.begin_transaction():
        context.run_migrations()
