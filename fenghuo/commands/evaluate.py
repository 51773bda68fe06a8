"""`fenghuo evaluate`: a worker of a cluster, kept alive."""

import signal
import sys
from typing import Annotated

import structlog
import typer

from fenghuo.commands.cluster_file import SettingsFile, check_metrics, failed, load
from fenghuo.logs import configure
from fenghuo.stopping import Stop
from fenghuo.supervisor import WATCH, Child

AGAIN = 1.0
"""Seconds before topics that could not be looked at are looked at again."""

log = structlog.get_logger()


def evaluate(
    file: SettingsFile,
    name: Annotated[str, typer.Option(help="Of this worker, another for each on this machine.")] = "1",
    metrics: Annotated[str, typer.Option(help="HOST:PORT at which Prometheus reads how it is.")] = "",
) -> None:
    """Judge a share of the readings, and of the findings by the compound rules; as many at once as there are slots.

    Example: `fenghuo evaluate cluster.yaml --name east-1 --metrics 127.0.0.1:9102`

    A worker that stood still, or could not reach Kafka for 4 s, ends by itself, and is started again.
    """
    check_metrics(metrics, "127.0.0.1:9102")
    settings, cluster = load(file, name)
    from fenghuo import topics
    from fenghuo.kafka_watch import KafkaWatch
    from fenghuo.role import NameTaken, Role

    configure()
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.set)
    run = settings.data / f"evaluate-{name}.run.json"
    command = [sys.executable, "-m", "fenghuo.evaluate", str(run), name, metrics]
    kafka, stands = KafkaWatch(cluster), False
    try:
        with Role(settings, cluster, "evaluate", name) as role:
            worker = Child(f"evaluate-{name}", command, {"OPENBLAS_NUM_THREADS": "1"})
            settings.save(run)
            while not stop.is_set():
                if kafka.answers(wanted=worker.pid is None):  # without it a worker could only end again
                    if not stands:
                        try:
                            topics.require(cluster)
                        except topics.KafkaAway as error:
                            log.error("topics_not_looked_at", why=str(error))
                            stop.wait(AGAIN)
                            continue
                        stands = True
                        role.stands(kafka=cluster.kafka, metrics=metrics)
                    worker.keep()
                stop.wait(WATCH)
            worker.end()
    except (NameTaken, topics.TopicsUnfit, OSError) as error:
        raise failed(error) from error
