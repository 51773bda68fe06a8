"""Everything that a desk's database says of its alerts, read by a program of our own on the same machine."""

from pathlib import Path

from alerting import store
from alerting.alert import Alert, Notice, Step
from registry.database import open_database, reading

EVERYTHING = store.Scope(system=True)


class DeskReader:
    """Reads; close it after use."""

    def __init__(self, path: Path) -> None:
        self.database = open_database(path)

    def alerts(self) -> list[Alert]:
        """All alerts, in the order in which they were raised."""
        with reading(self.database) as connection:
            return store.alerts(connection, EVERYTHING, limit=1_000_000)[::-1]

    def steps(self, alert: str) -> list[Step]:
        """The history of an alert."""
        with reading(self.database) as connection:
            return store.steps(connection, EVERYTHING, alert)

    def notices(self, alert: str) -> list[Notice]:
        """All notices of an alert."""
        with reading(self.database) as connection:
            return store.notices(connection, EVERYTHING, alert)

    def close(self) -> None:
        """Let go of the database."""
        self.database.dispose()
