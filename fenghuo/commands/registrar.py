"""`fenghuo registrar`: compile a cluster's registry and rulebook after every change."""

import signal

from fenghuo.commands.cluster_file import SettingsFile, failed, load
from fenghuo.logs import configure
from fenghuo.stopping import Stop


def registrar(file: SettingsFile) -> None:
    """Compile registry and rulebook after every change, and publish what should take force; several may run.

    Example: `fenghuo registrar cluster.yaml`

    It ends on SIGTERM or Ctrl-C. While none runs, everything goes on by the version in force.
    """
    settings, cluster = load(file)
    from fenghuo.prepared import TablesOld
    from fenghuo.registrar import Registrar
    from fenghuo.role import Role
    from registry.database import DatabaseError

    configure()
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.set)
    try:
        with Role(settings, cluster, "registrar", alone=False) as process:
            running = Registrar(settings, cluster)
            try:
                if running.ready(stop):
                    process.stands()
                    running.run(stop)
            finally:
                running.close()
    except (TablesOld, DatabaseError, OSError) as error:
        raise failed(error) from error
