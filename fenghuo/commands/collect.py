"""`fenghuo collect`: the role of a cluster that brings what gateways send into Kafka."""

import re
import socket
from typing import Annotated

import typer

from fenghuo.commands.cluster_file import SettingsFile, failed, load

NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")


def collect(
    file: SettingsFile,
    name: Annotated[
        str, typer.Option(help="Of this collector: another for each. Default: the machine's name.")
    ] = "",
    metrics: Annotated[str, typer.Option(help="HOST:PORT where Prometheus is answered.")] = "",
) -> None:
    """Collect: MQTT into Kafka. Start it as often as you like; those that run share the work.

    Example: `fenghuo collect cluster.yaml --name collect-1`
    """
    settings, cluster = load(file)
    from fenghuo.collect import run
    from fenghuo.topics import TopicsUnfit

    if settings.broker is None:
        raise failed(
            f"{file}: broker: it is missing; a cluster's collectors need `broker: {{url: mqtt://HOST:PORT}}`"
        )
    name = name or socket.gethostname()
    if not NAME.fullmatch(name):
        raise failed(f"--name {name}: expected letters, digits, '.', '_' and '-', 64 at most")
    if metrics and not re.fullmatch(r"[^:\s]+:\d{1,5}", metrics):
        raise failed(f"--metrics {metrics}: expected HOST:PORT, such as 127.0.0.1:9100")
    try:
        _ = settings.broker.password
        run(settings, cluster, settings.broker, name, metrics)
    except (TopicsUnfit, OSError) as error:
        raise failed(error, 1) from error
