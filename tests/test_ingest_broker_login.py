"""Whether a real broker lets a user in, and what is said where it does not."""

from pathlib import Path

import pytest

from ingest.broker import COLLECTOR, free_port
from ingest.broker_login import BrokerAway, BrokerRefuses, log_in
from tests.servers import PASSWORD, mosquitto, needs_mosquitto

pytestmark = [pytest.mark.mosquitto, needs_mosquitto]


def test_who_is_let_in_and_who_is_not(tmp_path: Path) -> None:
    with mosquitto(tmp_path, []) as server:
        log_in(server.host, server.port, COLLECTOR, PASSWORD)
        for user, password in (COLLECTOR, "wrong"), ("nobody", PASSWORD), (COLLECTOR, ""):
            with pytest.raises(BrokerRefuses, match="Not authorized"):
                log_in(server.host, server.port, user, password)
    with pytest.raises(BrokerAway):
        log_in(server.host, free_port(), COLLECTOR, PASSWORD)
