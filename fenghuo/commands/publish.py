"""`fenghuo publish-file`: play a recording as if its plant were alive, over real MQTT."""

import asyncio
import os
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from registry.clock import pause, stopwatch
from simulators import recording
from simulators.gateway import Gateway, GatewayError, rows

stderr = Console(stderr=True, highlight=False)


def publish_file(
    file: Annotated[Path, typer.Argument(help="Recording (CSV).")],
    map_: Annotated[Path, typer.Option("--map", help="Which column is which point (YAML).")],
    speed: Annotated[
        float, typer.Option(help="Times faster than it was; 0 is as fast as the broker takes it.")
    ] = 1,
    broker: Annotated[str, typer.Option(help="mqtt://HOST:PORT")] = "mqtt://127.0.0.1:1883",
    user: Annotated[str | None, typer.Option(help="Broker's user; by default ENTERPRISE/GATEWAY.")] = None,
    password: Annotated[
        str | None,
        typer.Option(help="Broker's password.", envvar="FENGHUO_GATEWAY_PASSWORD", show_envvar=True),
    ] = None,
) -> None:
    """Play a recording over real MQTT, at the times that it carries.

    Example: `fenghuo publish-file methane.csv --map tests/data/mine/map.yaml --speed 60`
    """
    try:
        columns = recording.read_map(map_)
        place = urlsplit(broker)
        gateway = Gateway(
            place.hostname or "127.0.0.1",
            place.port or 1883,
            columns.enterprise,
            columns.gateway,
            user=user,
            password=password or os.environ.get("FENGHUO_GATEWAY_PASSWORD"),
        )
        sent = asyncio.run(_play(gateway, file, columns, speed))
    except (recording.RecordingError, GatewayError, OSError) as error:
        stderr.print(f"[red]{error}[/]", soft_wrap=True)
        raise typer.Exit(1) from error
    stderr.print(f"{sent} rows published and acknowledged by the broker")


async def _play(gateway: Gateway, file: Path, columns: recording.Map, speed: float) -> int:
    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=stderr,
    )
    sent = 0
    with gateway, bar:
        task = bar.add_task(file.name, total=recording.count(file))
        begun, first = stopwatch(), None
        for time, values in recording.read(file, columns):
            first = time if first is None else first
            if speed > 0 and (ahead := (time - first) / 1e6 / speed - (stopwatch() - begun)) > 0:
                await pause(ahead)
            gateway.publish(rows(time, values))
            sent += 1
            bar.update(task, completed=sent)
    return sent
