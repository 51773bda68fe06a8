"""What a role of a cluster stands on in a test: topics and a database of its own, and a registry version in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Engine, make_url

from alerting import tables
from deploy.dev.services import Kafka, Postgres
from fenghuo import topics
from fenghuo.settings import Cluster, Database, Settings
from ingest import lease_tables
from registry import shared_versions, store_tables
from registry.database import open_database
from registry.model import Registry
from registry.shared_versions import Wanted
from streams import configuration
from streams.rulebook import Rulebook
from tests.build import RULEBOOK
from tests.servers import new_database


def upgrade(engine: Engine) -> None:
    """All tables of a cluster, as `fenghuo prepare` makes them."""
    for room in (tables, store_tables, lease_tables):
        room.upgrade(engine)


def alone() -> str:
    """A prefix of topics that no other test has."""
    return f"test-{uuid4().hex[:12]}"


def database_of(url: str, folder: Path) -> Database:
    """A database as settings name it: its password in a file of the folder."""
    address, secret = make_url(url), folder / "password"
    secret.write_text(str(address.password), "utf-8")
    place = f"{address.username}@{address.host}:{address.port}/{address.database}"
    return Database(url=f"postgresql://{place}", password_file=secret)


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
        (folder / "data").mkdir()
        cluster = {
            "kafka": kafka.servers,
            "database": database_of(url, folder),
            "topics": alone(),
            "slots": 2,
            **more,
        }
        settings = Settings(
            data=folder / "data", cluster=Cluster.model_validate(cluster), clock=clock, listen=listen
        )
        assert settings.cluster is not None
        topics.prepare(settings.cluster)
        yield settings


def publish(settings: Settings, registry: Registry, rulebook: Rulebook = RULEBOOK) -> Wanted:
    """Have this registry wanted, as it was compiled, before the rulebook's templates."""
    folder = settings.data.parent / "compiled"
    version = configuration.save(folder, registry, rulebook)
    database = open_database(settings.registry_database)
    edition = shared_versions.publish(database, folder, version, 0)
    database.dispose()
    return Wanted(version, edition)
