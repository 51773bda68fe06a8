"""The rulebook and the registry that a command is given; what is wrong with them ends it, all told at once."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import quote

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import URL

from fenghuo import rule_tests
from registry import versions
from registry.compile import compile_folder, compile_source
from registry.database import DatabaseError, open_database
from registry.mistakes import RegistryErrors
from registry.model import Registry
from registry.store import RegistryStore
from registry.store_tables import newest_form
from streams import configuration
from streams.rulebook import Rulebook

console = Console()
stderr = Console(stderr=True, highlight=False)

T = TypeVar("T")

RUNNING = "running"
"""The word for the rulebook that is in force in a data folder, where a file could be named."""

Named = Annotated[
    str,
    typer.Argument(help="A rulebook: a file, a folder, `shipped`, or `running`: that in force in --data."),
]
Folder = Annotated[Path | None, typer.Option("--registry", help="A registry folder, instead of --data.")]
Data = Annotated[
    Path | None,
    typer.Option(help="Data folder of `fenghuo serve`, for what is so there now.", envvar="FENGHUO_DATA"),
]


def rulebook(named: str, data: Path | None = None) -> Rulebook:
    if named != RUNNING:
        return told(lambda: rule_tests.rulebook(named))
    if data is None:
        raise failure("`running` is the rulebook in force in a data folder: say which with --data")
    try:
        version = versions.wanted(data / "versions")
        if version is None:
            raise failure(f"{data} has no rulebook in force: `fenghuo serve` has never run there")
        return configuration.load_rulebook(data / "versions", version)
    except (versions.NoSuchVersion, versions.BrokenVersion, OSError) as error:
        raise failure(error) from error


def usual(folder: Path | None, data: Path | None) -> str:
    """The rulebook that is meant where none is named: that in force where the registry is."""
    ran = folder is None and data is not None and (data / "versions" / "wanted").exists()
    return RUNNING if ran else rule_tests.SHIPPED


def registry(folder: Path | None, data: Path | None) -> Registry | None:
    """That of the folder, else what the database of the data folder has now; None if neither is given.

    Reading it changes no record and keeps nobody from editing.
    """
    if folder is not None:
        return told(lambda: compile_folder(folder))
    if data is None:
        return None
    path = data / "registry.sqlite"
    if not path.exists():
        raise failure(f"{data} has no registry: nothing was ever imported there.")
    only_read = {"mode": "ro", "uri": "true"}
    url = URL.create("sqlite", database=f"file:{quote(str(path.absolute()))}", query=only_read)
    engine = open_database(url.render_as_string())
    store = RegistryStore(engine)
    try:
        if not newest_form(engine):
            raise failure(
                f"{path} has the tables of an older Fenghuo: start `fenghuo serve` of this one first."
            )
        if store.find("settings", "registry") is None:
            raise failure(f"The registry of {data} is empty: `fenghuo registry import` fills it.")
        return told(lambda: compile_source(store.load()))
    except (DatabaseError, sqlite3.Error, OSError) as error:
        raise failure(f"{path}: {error}") from error
    finally:
        engine.dispose()


def told(read: Callable[[], T]) -> T:
    """What it reads; else every mistake, and the end."""
    try:
        return read()
    except RegistryErrors as error:
        table = Table("where", "what", title=f"Mistakes: {len(error.mistakes)}", title_justify="left")
        for mistake in error.mistakes:
            where, _, what = str(mistake).partition(": ")
            table.add_row(escape(where), escape(what))
        console.print(table)
        raise typer.Exit(1) from error


def failure(why: object) -> typer.Exit:
    stderr.print(f"[red]{escape(str(why))}[/]", soft_wrap=True)
    return typer.Exit(1)
