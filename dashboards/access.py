"""What Grafana may read of PostgreSQL: a role for each jurisdiction, and the views that show it its own rows."""

import secrets
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Engine

from alerting.words import CATALOGUE
from dashboards.jurisdictions import Jurisdiction
from ingest.broker import write_private
from registry.database import writing

VIEWS = Path(__file__).parent / "views.sql"
SCHEMA = "fenghuo_views"
READABLE = ("cells", "enterprises", "units", "points", "pipelines", "alerts", "steps", "findings")

CONNECTIONS = 20
"""That a role may have at once."""

PATIENCE = "30s"
"""After which PostgreSQL ends a query of a role, unless it asks for longer."""


class AccessError(Exception):
    """The roles or the views cannot be made; says how to mend it. Nothing was done."""


def grant(engine: Engine, whom: Sequence[Jurisdiction], folder: Path) -> list[str]:
    """Make the views, and for each jurisdiction a role whose password is in a private file of the folder.

    Roles of jurisdictions that are no more see nothing from then on. Safe to repeat.

    Returns:
        The roles that were made, or were given their password anew.

    Raises:
        AccessError, OSError; DatabaseBusy, DatabaseUnwritable.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = engine.url.database or ""
    try:
        with writing(engine) as connection:
            raw: Any = connection.connection.driver_connection
            raw.execute(
                "SELECT pg_advisory_xact_lock(3, 1)"
            )  # of two at once, the second finds what the first made
            _make_views(raw)
            roles = {one.role(database): one for one in whom}
            changed = [
                role
                for role, one in roles.items()
                if _make_role(raw, engine, role, one.password_file(folder))
            ]
            raw.execute("DELETE FROM fenghuo_views.readers")
            with raw.cursor() as cursor:
                readers = [(role, one.cell) for role, one in roles.items()]
                cursor.executemany("INSERT INTO fenghuo_views.readers (role, cell) VALUES (%s, %s)", readers)
    except psycopg.errors.InsufficientPrivilege as error:
        user = sql.Identifier(engine.url.username or "").as_string()
        raise AccessError(
            f"cluster.database.url: the user may not make roles ({error.diag.message_primary}): as PostgreSQL's "
            f"superuser, ALTER ROLE {user} CREATEROLE; it may be taken away again afterwards"
        ) from error
    except psycopg.errors.UndefinedTable as error:
        raise AccessError(f"{error.diag.message_primary}: run `fenghuo prepare SETTINGS` before") from error
    return changed


def _make_views(raw: Any) -> None:
    """The views as this version has them; made anew only where they differ, for they hold no data."""
    text = VIEWS.read_text("utf-8")
    words = [
        (key.removeprefix("rule."), f"{zh} · {en}") for key, (zh, en) in CATALOGUE.items() if _of_rule(key)
    ]
    version = blake2b(repr((text, words)).encode(), digest_size=8).hexdigest()
    found = raw.execute(
        "SELECT obj_description(to_regnamespace(%s)::oid, 'pg_namespace')", [SCHEMA]
    ).fetchone()
    if found == (version,):
        return
    raw.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    raw.execute(text)
    with raw.cursor() as cursor:
        cursor.executemany("INSERT INTO fenghuo_views.words (key, words) VALUES (%s, %s)", words)
    raw.execute(f"COMMENT ON SCHEMA {SCHEMA} IS '{version}'")


def _of_rule(key: str) -> bool:
    return key.startswith("rule.") and key != "rule.other"


def _make_role(raw: Any, engine: Engine, role: str, file: Path) -> bool:
    """Let a role read the views, and log in with the password of the file. Whether its log-in had to be made."""
    password = file.read_text("utf-8").strip() if file.exists() else ""
    if not password:
        password = secrets.token_urlsafe(24)
        write_private(file, password)
    name, verifier = sql.Identifier(role), raw.pgconn.encrypt_password(password.encode(), role.encode())
    exists = raw.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone() is not None
    changed = True
    if not exists:
        can = sql.SQL("CREATE ROLE {} LOGIN NOINHERIT CONNECTION LIMIT {} PASSWORD {}")
        raw.execute(can.format(name, sql.Literal(CONNECTIONS), sql.Literal(verifier.decode())))
        for key, value in (("default_transaction_read_only", "on"), ("statement_timeout", PATIENCE)):
            raw.execute(sql.SQL("ALTER ROLE {} SET {} = {}").format(name, sql.SQL(key), sql.Literal(value)))
    elif not _lets_in(engine, role, password):
        raw.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, sql.Literal(verifier.decode())))
    else:
        changed = False
    raw.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(SCHEMA), name))
    views = sql.SQL(", ").join(sql.Identifier(SCHEMA, view) for view in READABLE)
    raw.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(views, name))
    return changed


def _lets_in(engine: Engine, role: str, password: str) -> bool:
    """Whether the role can log in with this password."""
    url = engine.url.set(username=role, password=password, drivername="postgresql")
    try:
        psycopg.connect(url.render_as_string(hide_password=False)).close()
    except psycopg.OperationalError:
        return False
    return True
