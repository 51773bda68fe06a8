"""`fenghuo dashboards`: what Grafana shows of alerts and history, and who sees whose."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from sqlalchemy import make_url

from fenghuo.commands.cluster_file import SettingsFile, failed, load, stderr
from fenghuo.extras import lacking
from fenghuo.settings import Cluster, Grafana, Influx, Settings
from registry import shared_versions, versions
from registry.database import DatabaseError, open_database
from registry.model import Registry

if TYPE_CHECKING:
    from dashboards.datasources import Wanted
    from dashboards.jurisdictions import Jurisdiction


app = typer.Typer(no_args_is_help=True, help="Dashboards in Grafana, an organisation for each jurisdiction.")


@app.command()
def grant(file: SettingsFile) -> None:
    """Let Grafana read of PostgreSQL: a role for each jurisdiction, which sees the alerts of its own cells only.

    Example: `fenghuo dashboards grant cluster.yaml`

    Passwords are made, and kept in private files in the data folder, `grafana/postgres-CELL.password`. Safe to repeat,
    and to be repeated after an update. The account of `cluster.database` needs CREATEROLE where a role is missing.
    """
    settings, cluster = load(file)
    _, influx = _chosen(file, settings)
    from dashboards import access

    engine = open_database(cluster.database.address)
    try:
        whom = _jurisdictions(_registry(settings, cluster), influx)
        changed = access.grant(engine, whom, settings.data / "grafana")
        concerns = access.concerns(engine, whom)
    except (access.AccessError, DatabaseError, OSError) as error:
        raise failed(f"{file}: {error}", 1) from error
    finally:
        engine.dispose()
    for role in changed:
        stderr.print(f"role {role}: it can log in now", markup=False)
    for concern in concerns:
        stderr.print(f"beware: {concern}", markup=False, soft_wrap=True)
    stderr.print(f"{len(whom)} roles see what they should", markup=False)


@app.command()
def push(file: SettingsFile) -> None:
    """Make organisations, data sources and dashboards in Grafana, and remove dashboards of ours that are no more.

    Example: `fenghuo dashboards push cluster.yaml`

    Before it, `fenghuo history setup` and `fenghuo dashboards grant`. Safe to repeat; nothing of others is touched.
    """
    settings, cluster = load(file)
    grafana, influx = _chosen(file, settings)
    from dashboards.collection import dashboards
    from dashboards.push import Organisation, PushFailed, Server
    from dashboards.push import push as push_all

    try:
        password = grafana.password
        whom = _jurisdictions(_registry(settings, cluster), influx)
        sources = {one: _sources(settings, cluster, grafana, influx, one) for one in whom}
    except (DatabaseError, OSError) as error:
        raise failed(f"{file}: {error}", 1) from error
    if not password:
        raise failed(
            f"{file}: grafana.password_file: it is missing or empty, and FENGHUO_GRAFANA_PASSWORD too"
        )
    wanted = [
        Organisation(one, found, dashboards(grafana.alert_url, [source.source for source in found]))
        for one, found in sources.items()
    ]
    try:
        done = push_all(Server(grafana.url, grafana.user, password), wanted)
    except PushFailed as error:
        raise failed(f"{file}: {error}", 1) from error
    stderr.print(
        f"{len(wanted)} organisations in {grafana.url}: {done['made']} made, {done['changed']} changed, "
        f"{done['removed']} removed",
        markup=False,
        soft_wrap=True,
    )


@app.command()
def write(
    folder: Annotated[Path, typer.Argument(help="Where the files go.")],
    alert_url: Annotated[str, typer.Option(help="Where people see an alert, with {id} for its id.")],
) -> None:
    """Write the dashboards, and what Grafana needs to read them at its start, as files without secrets.

    Example: `fenghuo dashboards write grafana --alert-url https://fenghuo.example/api/v1/alerts/{id}`

    They are for one organisation; the data sources name the environment variables that hold their secrets.
    """
    _installed()
    if alert_url.count("{id}") != 1:
        raise failed(f"--alert-url {alert_url}: expected one {{id}} in it")
    from dashboards.provisioning import write as write_all

    try:
        files = write_all(folder, alert_url)
    except OSError as error:
        raise failed(error, 1) from error
    stderr.print(f"{len(files)} files in {folder}", markup=False)


def _chosen(file: Path, settings: Settings) -> tuple[Grafana, Influx]:
    """What the settings say of Grafana, and of what it shows; what is missing ends the command with status 2."""
    _installed()
    if settings.grafana is None:
        raise failed(f"{file}: grafana: it is missing; see docs/dashboards.md")
    if settings.history.influx is None:
        raise failed(
            f"{file}: history.influx: it is missing; Grafana shows the readings that are in InfluxDB"
        )
    return settings.grafana, settings.history.influx


def _installed() -> None:
    if why := lacking("grafana", "influx"):
        raise failed(why)


def _registry(settings: Settings, cluster: Cluster) -> Registry:
    """The version that is wanted. Raises DatabaseError, OSError."""
    database = open_database(cluster.database.address)
    try:
        wanted = shared_versions.wanted(database)
        if wanted is None:
            raise DatabaseError("no registry is in force yet: start `fenghuo registrar`")
        settings.versions.mkdir(parents=True, exist_ok=True)
        shared_versions.fetch(database, settings.versions, wanted.version)
        return versions.load(settings.versions, wanted.version)
    except (versions.NoSuchVersion, versions.BrokenVersion) as error:
        raise DatabaseError(f"the registry cannot be loaded: {error}") from error
    finally:
        database.dispose()


def _jurisdictions(registry: Registry, influx: Influx) -> "list[Jurisdiction]":
    from dashboards.jurisdictions import SYSTEM, jurisdictions
    from history.influx_setup import SetupError

    try:
        return [*jurisdictions(registry, influx.level), SYSTEM]
    except SetupError as error:
        raise DatabaseError(str(error)) from error


def _sources(
    settings: Settings, cluster: Cluster, grafana: Grafana, influx: Influx, whose: "Jurisdiction"
) -> "Sequence[Wanted]":
    """The data sources of a jurisdiction, with its own secrets. Raises OSError where they cannot be read."""
    from dashboards import datasources
    from dashboards.jurisdictions import SYSTEM

    folder = settings.data / "grafana"
    database = make_url(cluster.database.url)
    name = database.database or ""
    password = _secret(whose.password_file(folder), "fenghuo dashboards grant")
    place = grafana.database or f"{database.host}:{database.port or 5432}"
    found = [datasources.alerts(place, name, whose.role(name), password, grafana.sslmode)]
    if whose is not SYSTEM:
        token = _secret(whose.token_file(folder), "fenghuo history setup")
        bucket = f"{influx.prefix}{whose.cell}"
        url = grafana.influx_url or influx.url
        found.append(datasources.history(url, influx.organisation, bucket, token))
    elif grafana.prometheus_url:
        found.append(datasources.system(grafana.prometheus_url))
    return found


def _secret(file: Path, maker: str) -> str:
    """What is in a private file. Raises OSError that says what makes it."""
    try:
        return file.read_text("utf-8").strip()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{file} is not there: `{maker} SETTINGS` makes it") from error
