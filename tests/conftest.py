"""What all tests share: profiles, a migrated database, and that a missing server fails the gate, not passes it."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from alerting.tables import upgrade
from registry.database import open_database
from tests.servers import needs_mosquitto

settings.register_profile("short", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("short")


NO_MOSQUITTO = needs_mosquitto.kwargs["reason"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and NO_MOSQUITTO in str(report.longrepr) and os.environ.get("FENGHUO_REQUIRE_SERVERS"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped for want of a server, and the gate does not allow that"
    return report


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database to copy, since a migration takes longer than a test."""
    path = tmp_path_factory.mktemp("template") / "desk.sqlite"
    engine = open_database(path)
    upgrade(engine)
    engine.dispose()
    return path
