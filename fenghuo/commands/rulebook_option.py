"""The rulebook and the registry that a command is given; what is wrong with them ends it, all told at once."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fenghuo import rule_tests
from registry.compile import compile_folder
from registry.mistakes import RegistryErrors
from registry.model import Registry
from streams.rulebook import Rulebook

console = Console()
stderr = Console(stderr=True, highlight=False)

T = TypeVar("T")

Named = Annotated[str, typer.Argument(help="A rulebook: a file, a folder, or `shipped`.")]


def rulebook(named: str) -> Rulebook:
    return told(lambda: rule_tests.rulebook(named))


def registry(folder: Path) -> Registry:
    return told(lambda: compile_folder(folder))


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
