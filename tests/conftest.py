"""What all tests share: hypothesis profiles, and that a missing server fails the gate instead of passing it."""

import os

import pytest
from hypothesis import HealthCheck, settings

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
