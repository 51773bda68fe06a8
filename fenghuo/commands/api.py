"""`fenghuo api`: the HTTP API of a cluster, and a sender of its notices."""

from typing import Annotated

import typer
from rich.markup import escape

from fenghuo.commands.cluster_file import SettingsFile, failed, load, remember, stderr
from fenghuo.logs import configure


def api(
    file: SettingsFile,
    name: Annotated[str, typer.Option(help="Of this process, for a stepped clock.", hidden=True)] = "1",
) -> None:
    """Serve the HTTP API and send notices, from PostgreSQL; several may run, each with a data folder of its own.

    Example: `fenghuo api cluster.yaml`

    It ends on SIGTERM. Killed, another sends what it had under way again, marked as a repeat.
    """
    settings, cluster = load(file, name)
    from alerting.channels import ChannelError
    from fenghuo import cluster_serving
    from fenghuo.channels import open_channels
    from fenghuo.prepared import TablesOld
    from fenghuo.role import NameTaken, Role
    from fenghuo.topics import TopicsUnfit
    from registry.database import DatabaseError

    configure()
    try:
        with Role(settings, cluster, "api") as role:  # the file of newest values has one writer
            remember(settings)
            open_channels(settings)  # a mistake in them is said now, not when the first alert rings
            if not settings.channels:
                stderr.print("[bold white on red] WARNING [/] without `channels` nobody is ever told")
            if not settings.on_loopback:
                stderr.print(
                    f"[bold white on red] WARNING [/] the API listens on {escape(settings.listen)}, without TLS: "
                    "tokens can be read on the way. Let a reverse proxy speak TLS, and listen on 127.0.0.1.",
                    soft_wrap=True,
                )
            cluster_serving.run(
                settings, cluster, name, lambda: role.stands(kafka=cluster.kafka, listen=settings.listen)
            )
    except (ChannelError, NameTaken, TablesOld, TopicsUnfit, DatabaseError, OSError) as error:
        raise failed(error) from error
