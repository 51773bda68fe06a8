"""The settings file of a cluster's role, as every role's command takes it, and the role's name."""

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from fenghuo import settings
from fenghuo.extras import lacking
from fenghuo.settings import Cluster, Settings

stderr = Console(stderr=True, highlight=False)

SettingsFile = Annotated[Path, typer.Argument(help="Settings (YAML) with a `cluster`. See docs/cluster.md.")]


NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")


def load(file: Path, name: str = "1") -> tuple[Settings, Cluster]:
    """The settings and what they say of the cluster; a mistake is said, and ends the command with status 2.

    A database that refuses us is one; one that does not answer is none.

    Args:
        name: of the role, looked at too.
    """
    if not NAME.fullmatch(name):
        raise failed(f"--name {name}: expected letters, digits, '.', '_' and '-', 64 at most")
    if why := lacking("cluster"):
        raise failed(why)
    try:
        chosen = settings.load(file)
        if chosen.cluster is None:
            raise settings.SettingsError(f"{file}: cluster: it is missing; see docs/settings.md")
    except (settings.SettingsError, OSError) as error:
        raise failed(error) from error
    try:
        _ = chosen.cluster.database.address  # that its password can be read
    except OSError as error:
        raise failed(f"{file}: cluster.database.password_file: {error}") from error
    from fenghuo import prepared

    try:
        prepared.let_in(chosen.cluster)
    except prepared.NotLetIn as error:
        raise failed(f"{file}: {error}") from error
    return chosen, chosen.cluster


def check_metrics(place: str, example: str) -> None:
    """--metrics of a role; "" is none. A mistake ends the command."""
    host, _, port = place.rpartition(":")
    if place and not (host and port.isdigit()):
        raise typer.BadParameter(f"expected HOST:PORT, such as {example}", param_hint="--metrics")


def remember(settings: Settings) -> None:
    """Note them in the data folder, where `fenghuo token` and `fenghuo registry` look for them. Raises OSError."""
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.save(settings.data / "run.json")


def failed(error: Exception | str, status: int = 2) -> typer.Exit:
    """To be raised, once the reason is said."""
    stderr.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
    return typer.Exit(status)
