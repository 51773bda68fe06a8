"""`fenghuo desk`: findings of a cluster into alerts, and their deadlines."""

import signal
from typing import Annotated

import typer

from fenghuo.commands.cluster_file import SettingsFile, check_metrics, failed, load
from fenghuo.logs import configure
from fenghuo.stopping import Stop


def desk(
    file: SettingsFile,
    name: Annotated[str, typer.Option(help="Of this desk, another for each on this machine.")] = "1",
    metrics: Annotated[str, typer.Option(help="HOST:PORT at which Prometheus reads how it is.")] = "",
) -> None:
    """Take findings from Kafka into alerts in PostgreSQL, and do what is due; as many at once as you like.

    Example: `fenghuo desk cluster.yaml --name east-1 --metrics 127.0.0.1:9101`

    It ends on SIGTERM. Killed, another takes over within 6 s, and nothing is lost.
    """
    check_metrics(metrics, "127.0.0.1:9101")
    settings, cluster = load(file, name)
    from fenghuo import desk as role
    from fenghuo.clock_socket import ClockLost
    from fenghuo.exposition import expose
    from fenghuo.prepared import TablesOld
    from fenghuo.role import NameTaken, Role
    from fenghuo.topics import TopicsUnfit
    from registry.database import DatabaseError

    configure()
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.set)
    try:
        with Role(settings, cluster, "desk", name) as process:
            running = role.start(settings, cluster, name, stop)
            if running is None:
                return
            try:
                expose(metrics, role.Scrape(lambda: running.said))
                process.stands(kafka=cluster.kafka, metrics=metrics)
                running.run(stop)
            finally:
                running.close()
    except ClockLost as error:
        raise failed(error, 1) from error
    except (NameTaken, TablesOld, TopicsUnfit, DatabaseError, OSError) as error:
        raise failed(error) from error
