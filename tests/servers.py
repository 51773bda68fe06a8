"""Real servers for the tests: a mosquitto on a free loopback port, with the configuration that we ship."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingest.broker import (
    Account,
    BrokerFailed,
    Mosquitto,
    collector_account,
    find_mosquitto,
    free_port,
    gateway_account,
)

PASSWORD = "test-only"
"""Every account of a test's broker has this password."""

needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed here")
"""Use together with ``pytest.mark.mosquitto``."""


@contextmanager
def mosquitto(
    folder: Path,
    gateways: Sequence[tuple[str, str]] = (),
    *more: Account,
    port: int | None = None,
    message_limit: int = 4 * 1024 * 1024,
) -> Iterator[Mosquitto]:
    """A running broker with the shipped access rules, stopped at the end.

    Args:
        folder: where its files go; give the same folder and port to get the same sessions again.
        gateways: (enterprise, gateway id) that may connect, as user "enterprise/gateway".
        more: further accounts, e.g. ``publisher()`` for a load generator that speaks for all gateways.

    The collector's account is always there. Every password is ``PASSWORD``. The broker makes the user's
    name its client id, so one account can have one connection at a time: give each connection its own.
    """
    accounts = [collector_account(PASSWORD), *(gateway_account(*gateway, PASSWORD) for gateway in gateways)]
    accounts += more
    for attempt in range(5):
        server = Mosquitto(folder / "mosquitto", port or free_port(), accounts, message_limit=message_limit)
        try:
            server.start()
            break
        except BrokerFailed:  # a free port can be taken before mosquitto has it
            if port is not None or attempt == 4:
                raise
    try:
        yield server
    finally:
        server.stop()


def publisher(user: str = "publisher") -> Account:
    """An account that may publish anything and read anything: for load generators and for looking on."""
    return Account(user, PASSWORD, publish=("fenghuo/v1/#",), receive=("fenghuo/v1/#",))
