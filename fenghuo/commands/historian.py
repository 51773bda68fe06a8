"""`fenghuo historian`: readings of a cluster into InfluxDB."""

import signal
from typing import Annotated

import typer

from fenghuo.commands.cluster_file import SettingsFile, check_metrics, failed, load
from fenghuo.extras import lacking
from fenghuo.logs import configure
from fenghuo.settings import SettingsError
from fenghuo.stopping import Stop


def historian(
    file: SettingsFile,
    name: Annotated[str, typer.Option(help="Of this historian, another for each on this machine.")] = "1",
    metrics: Annotated[str, typer.Option(help="HOST:PORT at which Prometheus reads how it is.")] = "",
) -> None:
    """Take readings from Kafka into InfluxDB, where they are kept for years; as many at once as there are slots.

    Example: `fenghuo historian cluster.yaml --name east-1 --metrics 127.0.0.1:9103`

    It needs `history.influx`, and what `fenghuo history setup` makes there. While InfluxDB is away, Kafka keeps what it
    lacks. It ends on SIGTERM. Killed, another takes over once Kafka's session of 6 s is over, and nothing is lost or
    doubled.
    """
    check_metrics(metrics, "127.0.0.1:9103")
    settings, cluster = load(file, name)
    influx = settings.history.influx
    if influx is None:
        raise failed(f"{file}: history.influx: it is missing; see docs/settings.md")
    if why := lacking("influx"):
        raise failed(f"{file}: history.influx: {why}")
    try:
        access = influx.access
    except SettingsError as error:
        raise failed(f"{file}: {error}") from error
    from fenghuo import cluster_historian as role
    from fenghuo.exposition import expose
    from fenghuo.role import NameTaken, Role
    from fenghuo.topics import TopicsUnfit

    configure()
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.set)
    try:
        with Role(settings, cluster, "historian", name) as process:
            running = role.start(settings, cluster, access, name, stop)
            if running is None:
                return
            try:
                expose(metrics, role.Scrape(lambda: running.said))
                process.stands(kafka=cluster.kafka, influx=access.url, metrics=metrics)
                running.run(stop)
            finally:
                running.close()
    except (NameTaken, TopicsUnfit, OSError) as error:
        raise failed(error) from error
