"""`fenghuo registrar`: compile a cluster's registry and rulebook after every change."""

import signal
import threading

from fenghuo.commands.cluster_file import SettingsFile, failed, load
from fenghuo.logs import configure


def registrar(file: SettingsFile) -> None:
    """Compile registry and rulebook after every change, and publish what should take force; several may run.

    Example: `fenghuo registrar cluster.yaml`

    It ends on SIGTERM or Ctrl-C. While none runs, everything goes on by the version in force.
    """
    settings, cluster = load(file)
    from fenghuo.registrar import Registrar

    configure()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        running = Registrar(settings, cluster)
    except OSError as error:
        raise failed(error) from error
    try:
        running.run(stop)
    finally:
        running.close()
