"""`fenghuo history`: what keeps readings for years, outside of our own data folder."""

from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from fenghuo import settings
from fenghuo.commands.cluster_file import failed, stderr
from fenghuo.extras import lacking
from fenghuo.settings import Settings, SettingsError
from registry import shared_versions, versions
from registry.database import DatabaseError, open_database
from registry.model import Registry

app = typer.Typer(no_args_is_help=True, help="Keep readings for years.")


@app.callback()
def history() -> None:
    """Keep readings for years."""


@app.command()
def setup(
    file: Annotated[
        Path, typer.Argument(help="Settings (YAML) with `history.influx`. See docs/settings.md.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Make in InfluxDB 2 the buckets of each cell, the tasks of their roll-ups, and tokens for Grafana; safe to repeat.

    Example: `FENGHUO_INFLUX_TOKEN=$(cat operator.token) fenghuo history setup fenghuo.yaml`

    The token must have the right to do so: an all-access token of the organisation. The tokens for Grafana, which may
    read the buckets of one cell each, are written to grafana/influx-CELL.token in the data folder. Repeat it when the
    grid has a new cell. Tested with InfluxDB 2.7.12 and influxdb-client 1.50. Exit status: 1 if it could not be done.
    """
    if why := lacking("influx"):
        raise failed(why)
    try:
        chosen = settings.load(file)
        influx = chosen.history.influx
        if influx is None:
            raise SettingsError(f"{file}: history.influx: it is missing; see docs/settings.md")
    except (SettingsError, OSError) as error:
        raise failed(error) from error
    from history.influx_setup import Days, SetupError, cells, set_up

    kept = chosen.history
    try:
        access = influx.access
        places = cells(_registry(chosen), influx.level)
        days = Days(kept.readings_days, kept.minutes_days, kept.hours_days)
        changes = 0
        for line in set_up(access, places, days, chosen.data / "grafana", dry=dry_run):
            stderr.print(line, markup=False, soft_wrap=True)
            changes += 1
    except (SetupError, SettingsError, DatabaseError, DBAPIError, OSError) as error:
        raise failed(f"{file}: {error}", 1) from error
    if not changes:
        stderr.print(f"nothing to do: all is there for {len(places)} cells")
    elif dry_run:
        stderr.print("nothing of this was done")


def _registry(chosen: Settings) -> Registry:
    """The version that is in force, or about to be. Raises SettingsError, DatabaseError, OSError."""
    folder = chosen.versions
    try:
        if chosen.cluster is None:
            version = versions.wanted(folder)
        else:
            version = _fetched(chosen.cluster.database.address, folder)
        if version is None:
            raise SettingsError(
                "there is no registry yet: start `fenghuo serve`, or `fenghuo registrar`, once"
            )
        return versions.load(folder, version)
    except (versions.NoSuchVersion, versions.BrokenVersion) as error:
        raise SettingsError(f"the registry cannot be loaded: {error}") from error


def _fetched(address: URL, folder: Path) -> str | None:
    """The version that a cluster wants, once it is in the folder too."""
    database = open_database(address)
    try:
        wanted = shared_versions.wanted(database)
        if wanted is None:
            return None
        shared_versions.fetch(database, folder, wanted.version)
        return wanted.version
    finally:
        database.dispose()
