"""`fenghuo serve`: run everything on this machine."""

import asyncio
import signal
import socket
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from alerting.channels import ChannelError
from fenghuo import reach, settings
from fenghuo.channels import open_channels
from fenghuo.compiler import NoRegistry
from fenghuo.logs import configure
from fenghuo.supervisor import Supervisor
from ingest.broker import BrokerFailed, PasswordsBroken
from ingest.journal import JournalDamaged, JournalLocked
from registry import versions
from registry.database import DatabaseError
from registry.mistakes import RegistryErrors

stderr = Console(stderr=True, highlight=False)


def serve(
    file: Annotated[Path | None, typer.Argument(help="Settings (YAML). See docs/settings.md.")] = None,
    registry: Annotated[
        Path | None,
        typer.Option(help="Folder that fills an empty registry; afterwards the database is the truth."),
    ] = None,
    rulebook: Annotated[
        Path | None, typer.Option(help="Rules: a YAML file or a folder of them. Else the shipped rulebook.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder for journal, desk and broker; made if missing.")
    ] = None,
    listen: Annotated[
        str | None, typer.Option(help="HOST:PORT of the API; loopback unless you say so.")
    ] = None,
    broker: Annotated[
        str | None, typer.Option(help="mqtt://HOST:PORT; without it a broker of our own is started.")
    ] = None,
    clock: Annotated[str | None, typer.Option(help="HOST:PORT of a stepper, for tests.", hidden=True)] = None,
) -> None:
    """Run everything on this machine: broker, judge, API and the sender of notices.

    Example: `fenghuo serve --registry examples/demo/registry --data build/data`
    """
    given = {
        "registry": registry,
        "rulebook": rulebook,
        "data": data,
        "listen": listen,
        "broker": {"url": broker} if broker else None,
        "clock": clock,
    }
    try:
        if file is not None:
            chosen = settings.load(file, **given)
            if chosen.cluster is not None:
                raise settings.SettingsError(
                    f"{file}: cluster: `fenghuo serve` does all of it on one machine, and takes no such file; the "
                    "roles of a cluster are `fenghuo registrar`, `collect`, `evaluate`, `desk`, `api`: docs/cluster.md"
                )
        else:
            chosen = settings.make(
                "options", **{key: value for key, value in given.items() if value is not None}
            )
    except settings.SettingsError as error:
        hint = "" if file else "\nGive a settings file, or --registry and --data."
        stderr.print(f"[red]{escape(str(error))}[/]{hint}", soft_wrap=True)
        raise typer.Exit(2) from error
    configure()
    try:
        open_channels(chosen)  # a mistake in them is said now, not when the first alert rings
        if chosen.broker is not None:
            _ = chosen.broker.password
        supervisor = Supervisor(chosen)
    except BrokerFailed as error:
        stderr.print(
            f"[red]No broker: {escape(str(error))}.[/]\nInstall it (Debian, Ubuntu: `apt install mosquitto`, then "
            "`systemctl disable --now mosquitto`: Fenghuo starts one of its own, with access lists), or name a "
            "broker that you run: --broker mqtt://HOST:PORT.",
            soft_wrap=True,
        )
        raise typer.Exit(2) from error
    except (
        *(
            NoRegistry,
            RegistryErrors,
            ChannelError,
            JournalLocked,
            JournalDamaged,
            DatabaseError,
            PasswordsBroken,
            OSError,
        ),
        *(versions.NoSuchVersion, versions.BrokenVersion),
    ) as error:
        stderr.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
        raise typer.Exit(2) from error
    _warn(chosen)
    stderr.print(f"API on http://{chosen.listen}; log lines follow. Ctrl-C ends it.", soft_wrap=True)
    asyncio.run(_run(supervisor))


def _warn(chosen: settings.Settings) -> None:
    """Say loudly what will hurt later, and go on."""
    version = versions.wanted(chosen.versions)
    warnings = []
    if version is not None:
        warnings.append(reach.warning(versions.load(chosen.versions, version), chosen.channels))
    if not chosen.on_loopback:
        warnings.append(
            f"the API listens on {chosen.listen}, without TLS: tokens can be read on the way. "
            "Let a reverse proxy speak TLS, and listen on 127.0.0.1."
        )
    places = [("the API", chosen.host, chosen.port, "notices go out, but nobody can answer through it")]
    if chosen.broker is None:
        places.append(("our own broker", "127.0.0.1", chosen.broker_port, "no reading can arrive"))
    for what, host, port, means in places:
        if _taken(host, port):
            warnings.append(f"another program has {what}'s port {port}: until it is free, {means}")
    for warning in filter(None, warnings):
        stderr.print(f"[bold white on red] WARNING [/] {escape(warning)}", soft_wrap=True)


def _taken(host: str, port: int) -> bool:
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:
        return True
    return False


async def _run(supervisor: Supervisor) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    await supervisor.run(stop)
