"""What all tests share: hypothesis profiles, and that a missing server fails the gate instead of passing it."""

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("short", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("short")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    wants_server = item.get_closest_marker("mosquitto") is not None
    if report.skipped and wants_server and os.environ.get("FENGHUO_REQUIRE_SERVERS"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped for want of a server, and the gate does not allow that"
    return report
