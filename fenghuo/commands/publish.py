"""`fenghuo publish-file`: play a recording as if its plant were alive, over real MQTT."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fenghuo.commands.broker_option import broker as at
from registry.clock import pause, stopwatch
from simulators import recording
from simulators.gateway import Gateway, GatewayError, rows

stderr = Console(stderr=True, highlight=False)


def publish_file(
    file: Annotated[Path, typer.Argument(help="Recording (CSV).")],
    map_: Annotated[Path, typer.Option("--map", help="Which column is which point (YAML).")],
    speed: Annotated[
        float, typer.Option(min=0, help="Times faster than it was; 0 is as fast as the broker takes it.")
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
        place = at(broker)
        columns = recording.read_map(map_)
        total = recording.count(file)
    except (recording.RecordingError, OSError) as error:
        raise _failure(error) from error
    gateway = Gateway(
        place.host, place.port, columns.enterprise, columns.gateway, user=user, password=password or None
    )
    try:
        sent = asyncio.run(_play(gateway, file, columns, speed, total))
    except (recording.RecordingError, GatewayError) as error:
        raise _failure(error) from error
    except OSError as error:
        raise _failure(f"{broker}: {error}") from error
    stderr.print(f"{sent} rows published and acknowledged by the broker")


def _failure(why: object) -> typer.Exit:
    stderr.print(f"[red]{escape(str(why))}[/]", soft_wrap=True)
    return typer.Exit(1)


async def _play(gateway: Gateway, file: Path, columns: recording.Map, speed: float, total: int) -> int:
    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=stderr,
    )
    sent = 0
    with gateway, bar:
        task = bar.add_task(file.name, total=total)
        begun, first = stopwatch(), None
        for time, values in recording.read(file, columns):
            first = time if first is None else first
            if speed > 0 and (ahead := (time - first) / 1e6 / speed - (stopwatch() - begun)) > 0:
                await pause(ahead)
            gateway.publish(rows(time, values))
            sent += 1
            bar.update(task, completed=sent)
    return sent
