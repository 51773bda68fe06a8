"""`fenghuo collect`: the role of a cluster that brings what gateways send into Kafka."""

import re
import socket
from functools import partial
from typing import Annotated

import typer

from fenghuo.commands.cluster_file import SettingsFile, failed, load


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
    name = name or socket.gethostname()
    settings, cluster = load(file, name)
    from fenghuo.collect import run
    from fenghuo.role import NameTaken, Role
    from fenghuo.topics import TopicsUnfit
    from ingest.broker_login import BrokerRefuses

    if settings.broker is None:
        raise failed(
            f"{file}: broker: it is missing; a cluster's collectors need `broker: {{url: mqtt://HOST:PORT}}`"
        )
    if metrics and not re.fullmatch(r"[^:\s]+:\d{1,5}", metrics):
        raise failed(f"--metrics {metrics}: expected HOST:PORT, such as 127.0.0.1:9100")
    try:
        _ = settings.broker.password
    except OSError as error:
        raise failed(f"{file}: broker.password_file: {error}") from error
    try:
        with Role(settings, cluster, "collect", name) as role:
            stands = partial(role.stands, kafka=cluster.kafka, broker=settings.broker.url, metrics=metrics)
            run(settings, cluster, settings.broker, name, metrics, stands)
    except BrokerRefuses as error:
        keys = "broker.user and broker.password_file"
        raise failed(f"{file}: {keys}: the broker does not let {settings.broker.user} in: {error}") from error
    except (NameTaken, TopicsUnfit, OSError) as error:
        raise failed(error) from error
