"""`fenghuo prepare`: make what a cluster stands on, its topics and its tables."""

import typer

from fenghuo.commands.cluster_file import SettingsFile, failed, load, remember, stderr


def prepare(file: SettingsFile) -> None:
    """Make the topics in Kafka and the tables in PostgreSQL that are missing; safe to repeat, and after an update.

    Example: `fenghuo prepare cluster.yaml`

    It also notes the settings in their data folder, for `fenghuo token` and `fenghuo registry`. What is there is
    never changed: `fenghuo doctor cluster.yaml` says what is otherwise than meant. Exit status: 1 if topics are.
    """
    settings, cluster = load(file)
    from alerting import tables
    from fenghuo import prepared, topics
    from ingest import lease_tables
    from registry import store_tables
    from registry.database import DatabaseBusy, DatabaseError, open_database

    database = open_database(cluster.database.address)
    try:
        for upgrade in (tables.upgrade, store_tables.upgrade, lease_tables.upgrade):
            upgrade(database)
        made = topics.prepare(cluster)
        remember(settings)
        mistakes = topics.differences(cluster)
    except DatabaseBusy as error:
        raise failed(f"{file}: {prepared.database_away(cluster, error)}", 1) from error
    except topics.KafkaAway as error:
        raise failed(f"{file}: {prepared.kafka_away(cluster, error)}", 1) from error
    except (DatabaseError, OSError) as error:
        raise failed(error, 1) from error
    finally:
        database.dispose()
    stderr.print("tables: they have their newest form")
    for name in made:
        stderr.print(f"topic {name}: made")
    if not made:
        stderr.print("topics: all are there")
    if cluster.replicas == 1:
        one = "`cluster.replicas` is 1: one machine's disk is all that holds what Kafka has acknowledged"
        stderr.print(f"[yellow]{one}[/]", soft_wrap=True)
    if mistakes:
        stderr.print("[red]Topics that are otherwise than meant; nothing of them was changed:[/]")
    for mistake in mistakes:
        stderr.print(f"[yellow]{mistake}[/]", soft_wrap=True)
    if mistakes:
        raise typer.Exit(1)
