"""What all tests share: profiles, a migrated database, and that a missing server fails the gate, not passes it."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from alerting.tables import upgrade
from deploy.dev.services import ServerMissing, influxd
from registry.database import open_database
from tests.servers import influxdb, kafka, lacking, postgres

__all__ = ["influxdb", "kafka", "postgres"]  # fixtures

for size in ("COLUMNS", "LINES"):  # of the terminal of whoever runs the tests: a test says its own
    os.environ.pop(size, None)

settings.register_profile("short", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("short")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped:
        for reason in lacking:
            if reason not in str(report.longrepr):
                continue
            if os.environ.get("FENGHUO_REQUIRE_SERVERS"):
                report.outcome = "failed"
                report.longrepr = f"{item.nodeid} was skipped, and the gate does not allow that: {reason}"
            else:  # as if all were skipped at one place: so it is said once, not for every test
                report.longrepr = (str(item.config.rootpath / "tests"), 1, f"Skipped: {reason}")
    return report


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build InfluxDB before the first test needs it: no test may take as long as that."""
    if any("influxdb" in getattr(item, "fixturenames", ()) for item in session.items):
        with suppress(ServerMissing):  # the test that needs it says so
            influxd()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database to copy, since a migration takes longer than a test."""
    path = tmp_path_factory.mktemp("template") / "desk.sqlite"
    engine = open_database(path)
    upgrade(engine)
    engine.dispose()
    return path
