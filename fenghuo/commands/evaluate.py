"""`fenghuo evaluate`: a worker of a cluster, kept alive."""

import signal
import sys
from typing import Annotated

import typer

from fenghuo.commands.cluster_file import SettingsFile, failed, load
from fenghuo.logs import configure
from fenghuo.stopping import Stop
from fenghuo.supervisor import WATCH, Child


def evaluate(
    file: SettingsFile,
    name: Annotated[str, typer.Option(help="Of this worker, another for each on this machine.")] = "1",
    metrics: Annotated[str, typer.Option(help="HOST:PORT at which Prometheus reads how it is.")] = "",
) -> None:
    """Judge a share of the readings, and of the findings by the compound rules; as many at once as there are slots.

    Example: `fenghuo evaluate cluster.yaml --name east-1 --metrics 127.0.0.1:9102`

    A worker that stood still, or could not reach Kafka for 4 s, ends by itself, and is started again.
    """
    host, _, port = metrics.rpartition(":")
    if metrics and not (host and port.isdigit()):
        raise typer.BadParameter("expected HOST:PORT, such as 127.0.0.1:9102", param_hint="--metrics")
    settings, cluster = load(file)
    from fenghuo import topics

    configure()
    settings.data.mkdir(parents=True, exist_ok=True)
    run = settings.data / f"evaluate-{name}.run.json"
    settings.save(run)
    try:
        topics.require(cluster)
    except topics.TopicsUnfit as error:
        raise failed(error) from error
    except topics.KafkaAway:
        pass  # the worker says so, and is started until it can
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.set)
    command = [sys.executable, "-m", "fenghuo.evaluate", str(run), name, metrics]
    worker = Child(f"evaluate-{name}", command, {"OPENBLAS_NUM_THREADS": "1"})
    while not stop.is_set():
        worker.keep()
        stop.wait(WATCH)
    worker.end()
