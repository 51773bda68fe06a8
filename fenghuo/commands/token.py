"""`fenghuo token`: who may use the API, and how far they see."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import console.tokens as tokens
from alerting.database import open_database
from console.scope import Scope, ScopeError
from registry.clock import SystemClock

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke tokens of the API.")
screen = Console()

Data = Annotated[Path, typer.Option(help="Data folder of `fenghuo serve`.", envvar="FENGHUO_DATA")]


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
    try:
        parsed = Scope.parse(scope)
    except ScopeError as error:
        screen.print(f"[red]{error}[/]")
        raise typer.Exit(2) from error
    made = tokens.create(
        open_database(data / "desk.sqlite"), name=name, scope=parsed, person=person, now=SystemClock().now()
    )
    print(made)


@app.command("list")
def list_(data: Data) -> None:
    """List all tokens, without what is secret in them.

    Example: `fenghuo token list --data build/data`
    """
    table = Table("digest", "name", "scope", "person", "revoked")
    for token in tokens.listing(open_database(data / "desk.sqlite")):
        table.add_row(
            token.digest[:12], token.name, token.scope, token.person, "yes" if token.revoked else ""
        )
    screen.print(table)


@app.command()
def revoke(
    digest: Annotated[str, typer.Argument(help="The first characters of its digest, see `list`.")], data: Data
) -> None:
    """Revoke a token; whoever holds it is refused from now on.

    Example: `fenghuo token revoke 3f2a9c --data build/data`
    """
    count = tokens.revoke(open_database(data / "desk.sqlite"), digest, now=SystemClock().now())
    if count != 1:
        screen.print(f"[red]{count} tokens begin with {digest!r}; expected exactly one[/]")
        raise typer.Exit(1)
    screen.print("revoked")
