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
from registry.database import reading, writing

VIEWS = Path(__file__).parent / "views.sql"
SCHEMA = "fenghuo_views"
READABLE = ("cells", "enterprises", "units", "points", "pipelines", "alerts", "steps", "findings")

CONNECTIONS = 5
"""That a role may have at once: one more than Grafana opens for a data source."""

OURS = 50
"""Connections of the server that are left for Fenghuo itself, whose desks must never wait for a dashboard."""

SESSION = {"default_transaction_read_only": "on", "statement_timeout": "30s", "jit": "off"}
"""What holds in a role's sessions, unless they ask otherwise. To compile our queries takes longer than to run them."""

SHORTEST = 32
"""Characters of a password: what is shorter could be found from its digest."""


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
            # Of two at once, the second finds what the first made.
            raw.execute("SELECT pg_advisory_xact_lock(3, 1)")
            _make_views(raw)
            _shut(raw)
            passwords = {one.role(database): _password(one.password_file(folder)) for one in whom}
            changed = [role for role, password in passwords.items() if _make_role(raw, role, password)]
            raw.execute("DELETE FROM fenghuo_views.readers")
            with raw.cursor() as cursor:
                readers = [(one.role(database), one.cell) for one in whom]
                cursor.executemany("INSERT INTO fenghuo_views.readers (role, cell) VALUES (%s, %s)", readers)
            for one in whom:  # not before: a file says what its role has
                if not one.password_file(folder).exists():
                    write_private(one.password_file(folder), passwords[one.role(database)])
    except psycopg.errors.InsufficientPrivilege as error:
        user = sql.Identifier(engine.url.username or "").as_string()
        raise AccessError(
            f"cluster.database.url: the user may not make or change roles ({error.diag.message_primary}): as "
            f"PostgreSQL's superuser, ALTER ROLE {user} CREATEROLE; it may be taken away again afterwards"
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


def _password(file: Path) -> str:
    """What is in the file, or a new one where there is none. Raises AccessError for one that is too short."""
    if not file.exists():
        return secrets.token_urlsafe(24)
    password = file.read_text("utf-8").strip()
    if len(password) < SHORTEST:
        raise AccessError(
            f"{file}: the password has less than {SHORTEST} characters: remove the file, and a new one is made"
        )
    return password


def _shut(raw: Any) -> None:
    """Take from PUBLIC what would let a role hinder the desk, or write in spite of its read-only transactions, where
    that is ours to do."""
    if _one(raw, f"{_MAY_TEMP} AND pg_has_role(datdba, 'USAGE')"):
        database = sql.Identifier(raw.info.dbname)
        raw.execute(sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(database))
    if _one(raw, f"{_MAY_CREATE} AND pg_has_role(nspowner, 'USAGE')"):
        raw.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    if _one(raw, f"{_MAY_CALL} AND pg_has_role(proowner, 'USAGE')"):
        raw.execute(_shut_functions(raw))


_TO_SHUT = """SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace \
AND proname ~ '^pg_(try_)?advisory_.*lock|^lo_(creat|from_|put)'"""
"""Locks that desks and senders take too, and that whoever has one keeps as long as it likes; large objects."""

_MAY_CALL = f"{_TO_SHUT} AND has_function_privilege('public', oid, 'EXECUTE')"


def _shut_functions(raw: Any) -> str:
    """The statement that leaves them to Fenghuo's account alone; one line, for a person to run too."""
    user = sql.Identifier(raw.info.user).as_string()
    return (
        f"DO $$ DECLARE f regprocedure; BEGIN FOR f IN {_TO_SHUT} LOOP "
        f"EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO {user}', f); "
        "EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f); END LOOP; END $$"
    )


_MAY_TEMP = """
SELECT 1 FROM pg_database
WHERE datname = current_database() AND has_database_privilege('public', oid, 'TEMPORARY')
"""
_MAY_CREATE = """
SELECT 1 FROM pg_namespace WHERE nspname = 'public' AND has_schema_privilege('public', oid, 'CREATE')
"""
"""Whether PUBLIC may; so everybody may up to PostgreSQL 14, and in a database that was brought over from there."""


def _one(raw: Any, query: str) -> Any:
    """The first value that it gives; None if there is no row."""
    found = raw.execute(query).fetchone()
    return found and found[0]


def concerns(engine: Engine, whom: Sequence[Jurisdiction]) -> list[str]:
    """What is not as it should be, and only the server's administrator can mend; each a line, with what to do.

    Raises:
        DatabaseBusy, DatabaseUnwritable.
    """
    found = []
    with reading(engine) as connection:
        raw: Any = connection.connection.driver_connection
        database = sql.Identifier(raw.info.dbname).as_string()
        most = _one(raw, "SELECT current_setting('max_connections')::int")
        if _one(raw, _MAY_TEMP):
            found.append(
                "the roles may make temporary tables: as PostgreSQL's superuser, "
                f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC"
            )
        if _one(raw, _MAY_CREATE):
            found.append(
                "the roles may make tables in the schema public: as PostgreSQL's superuser, in this database, "
                "REVOKE CREATE ON SCHEMA public FROM PUBLIC"
            )
        if _one(raw, _MAY_CALL):
            found.append(
                "the roles may take the locks that desks and senders take, and so hold up every alert: as PostgreSQL's "
                f"superuser, in this database, {_shut_functions(raw)}"
            )
    needed = len(whom) * CONNECTIONS + OURS
    if needed > most:
        found.append(
            f"{len(whom)} roles may have {CONNECTIONS} connections each, of {most} (max_connections) of the server: "
            f"desks may find none left; set it to {needed} or more"
        )
    return found


def _make_role(raw: Any, role: str, password: str) -> bool:
    """Let a role read the views, and log in with this password. Whether anything of its log-in was to be changed.

    A digest of all that it is made of is its comment: to try the password would fail for many another reason.
    """
    name, made_of = sql.Identifier(role), repr((password, CONNECTIONS, SESSION))
    mark = blake2b(made_of.encode(), digest_size=8).hexdigest()
    query = "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %s"
    found = raw.execute(query, [role]).fetchone()
    changed = bool(found != (mark,))
    if changed:
        verifier = raw.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
        can = "{} ROLE {} LOGIN NOINHERIT CONNECTION LIMIT {} PASSWORD {}"
        verb = sql.SQL("ALTER" if found else "CREATE")
        raw.execute(sql.SQL(can).format(verb, name, sql.Literal(CONNECTIONS), sql.Literal(verifier.decode())))
        for key, value in SESSION.items():
            raw.execute(sql.SQL("ALTER ROLE {} SET {} = {}").format(name, sql.SQL(key), sql.Literal(value)))
        raw.execute(sql.SQL("COMMENT ON ROLE {} IS {}").format(name, sql.Literal(mark)))
    raw.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(SCHEMA), name))
    views = sql.SQL(", ").join(sql.Identifier(SCHEMA, view) for view in READABLE)
    raw.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(views, name))
    return changed
