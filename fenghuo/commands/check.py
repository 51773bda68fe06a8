"""`fenghuo check`: every mistake of a registry folder at once."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from registry.compile import compile_folder
from registry.mistakes import RegistryErrors

console = Console()


def check(folder: Annotated[Path, typer.Argument(help="Registry folder.")]) -> None:
    """Say every mistake of a registry folder at once, each with its file, line and mend.

    Example: `fenghuo check examples/demo/registry`

    Exit status: 0 without mistakes, 1 with.
    """
    try:
        registry = compile_folder(folder)
    except RegistryErrors as error:
        table = Table("where", "what", title=f"Mistakes: {len(error.mistakes)}", title_justify="left")
        for mistake in error.mistakes:
            where, _, what = str(mistake).partition(": ")
            table.add_row(escape(where), escape(what))
        console.print(table)
        raise typer.Exit(1) from error
    console.print(
        f"[green]No mistakes.[/] Version {registry.version}: {len(registry.cells)} cells, "
        f"{len(registry.enterprises)} enterprises, {len(registry.gateways)} gateways, "
        f"{len(registry.points)} points, {len(registry.people)} people, {len(registry.duty)} duties."
    )
