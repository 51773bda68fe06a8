"""What a role of a cluster stands on in a test: topics and a database of its own, and a registry version in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Engine

from alerting import tables
from deploy.dev.services import Kafka, Postgres
from fenghuo import topics
from fenghuo.settings import Cluster, Settings
from ingest import lease_tables
from registry import shared_versions, store_tables
from registry.database import open_database
from registry.model import Registry
from streams import configuration
from tests.build import RULEBOOK
from tests.servers import new_database


def upgrade(engine: Engine) -> None:
    """All tables of a cluster, as `fenghuo prepare` makes them."""
    for room in (tables, store_tables, lease_tables):
        room.upgrade(engine)


@contextmanager
def settings_of(
    kafka: Kafka,
    postgres: Postgres,
    folder: Path,
    *,
    clock: str = "",
    listen: str = "127.0.0.1:8420",
    **more: object,
) -> Iterator[Settings]:
    """Settings of a cluster whose topics and tables are there."""
    with new_database(postgres, upgrade) as url:
        account, _, place = url.removeprefix("postgresql+psycopg://").partition("@")
        user, _, password = account.partition(":")
        (folder / "password").write_text(password, "utf-8")
        (folder / "data").mkdir()
        cluster = {
            "kafka": kafka.servers,
            "database": {"url": f"postgresql://{user}@{place}", "password_file": folder / "password"},
            "topics": f"t{uuid4().hex[:8]}",
            "slots": 2,
            **more,
        }
        settings = Settings(
            data=folder / "data", cluster=Cluster.model_validate(cluster), clock=clock, listen=listen
        )
        assert settings.cluster is not None
        topics.prepare(settings.cluster)
        yield settings


def publish(settings: Settings, registry: Registry) -> None:
    """Have this registry wanted."""
    folder = settings.data.parent / "compiled"
    version = configuration.save(folder, registry, RULEBOOK)
    database = open_database(settings.registry_database)
    shared_versions.publish(database, folder, version, 0)
    database.dispose()
