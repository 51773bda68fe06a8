"""`fenghuo token`: who may use the API, and how far they see."""

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

import console.tokens as tokens
from console.scope import Scope, ScopeError
from fenghuo import settings
from registry import shared_versions, versions
from registry.clock import SystemClock
from registry.database import DatabaseError, open_database
from registry.model import Registry

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke tokens of the API.")
screen = Console()
stderr = Console(stderr=True, highlight=False)

Data = Annotated[
    Path, typer.Option(help="Data folder of `fenghuo serve` or `fenghuo api`.", envvar="FENGHUO_DATA")
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for, e.g. 'control room, east gate'.")],
    scope: Annotated[str, typer.Option(help="enterprise:CODE, cell:ID or system.")],
    data: Data,
    person: Annotated[str, typer.Option(help="Person (id in the registry) for whom it answers.")] = "",
) -> None:
    """Make a token and print it once; only its digest is kept.

    Example: `fenghuo token create "duty desk" --scope cell:east --person li --data build/data`
    """
    with _desk(data) as database:
        registry = _registry(data, database)
        parsed = Scope.parse(scope)
        if parsed.kind == "cell" and parsed.name not in registry.cells:
            raise ScopeError(f"the registry has no cell {parsed.name!r}; it has {_some(registry.cells)}")
        if parsed.kind == "enterprise" and parsed.name not in registry.enterprises:
            raise ScopeError(f"the registry has no enterprise {parsed.name!r}")
        if person and person not in registry.people:
            raise ScopeError(f"the registry has no person {person!r}; it has {_some(registry.people)}")
        print(tokens.create(database, name=name, scope=parsed, person=person, now=SystemClock().now()))


@app.command("list")
def list_(data: Data) -> None:
    """List all tokens, without what is secret in them.

    Example: `fenghuo token list --data build/data`
    """
    with _desk(data) as database:
        table = Table("digest", "name", "scope", "person", "revoked")
        for token in tokens.listing(database):
            revoked = "yes" if token.revoked else ""
            table.add_row(token.digest[:12], escape(token.name), token.scope, escape(token.person), revoked)
        screen.print(table)


@app.command()
def revoke(
    digest: Annotated[str, typer.Argument(help="The first characters of its digest, see `list`.")], data: Data
) -> None:
    """Revoke a token; whoever holds it is refused from now on.

    Example: `fenghuo token revoke 3f2a9c --data build/data`
    """
    with _desk(data) as database:
        count = tokens.revoke(database, digest, now=SystemClock().now())
    if count != 1:
        stderr.print(f"[red]{count} valid tokens begin with {escape(repr(digest))}; expected exactly one[/]")
        raise typer.Exit(1)
    screen.print("revoked")


@contextmanager
def _desk(data: Path) -> Iterator[Engine]:
    """The desk's database of a data folder; what goes wrong is said in a line, and nothing is made."""
    try:
        where = settings.of_run(data).desk_database
        if isinstance(where, Path) and not where.exists():
            raise settings.SettingsError(f"{where} is not there: start `fenghuo serve` once with this folder")
        database = open_database(where)
        try:
            yield database
        finally:
            database.dispose()
    except ScopeError as error:
        stderr.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
        raise typer.Exit(2) from error
    except (settings.SettingsError, DatabaseError, DBAPIError, sqlite3.Error) as error:
        stderr.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
        raise typer.Exit(1) from error


def _registry(data: Path, database: Engine) -> Registry:
    """The version that is in force, or about to be. Raises SettingsError, and as ``reading``."""
    chosen = settings.of_run(data)
    folder = chosen.versions
    try:
        if chosen.cluster is None:
            version = versions.wanted(folder)
        else:
            wanted = shared_versions.wanted(database)
            version = wanted.version if wanted is not None else None
            if version is not None:
                shared_versions.fetch(database, folder, version)
        return versions.load(folder, version or "none")
    except (versions.NoSuchVersion, versions.BrokenVersion, OSError) as error:
        raise settings.SettingsError(f"the registry cannot be loaded: {error}") from error


def _some(names: Collection[str]) -> str:
    return ", ".join(list(names)[:8]) + (" …" if len(names) > 8 else "")
