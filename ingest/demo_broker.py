"""The broker of a demo where no mosquitto is installed: iotcore (rumqttd), on loopback.

What it does not do, found by trying it (tests/test_ingest_demo_broker.py): it has no access lists, so
every user may publish and receive anything; sessions and retained messages are in memory only; what it
sends again it does not flag ``dup``, so repeats are journaled twice and dropped by the engines instead;
a consumer that falls behind by more than its log (some 100 MB a topic filter) loses messages.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from iotcore import Broker

from ingest.broker import LOOPBACK, Account, BrokerFailed, Mosquitto, find_mosquitto, write_private

CONFIG = """\
# written by fenghuo; changes are overwritten at the next start
id = 0

[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 10485760
max_segment_count = 10

[v5.1]
name = "fenghuo"
listen = "{host}:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = {packet_limit}
max_inflight_count = 1000

[v5.1.connections.auth]
"""


class Iotcore:
    """An iotcore process on a loopback port, with the face of ``Mosquitto``. MQTT 5 only."""

    def __init__(
        self, folder: Path, port: int, accounts: Sequence[Account], *, packet_limit: int = 4 * 1024 * 1024
    ) -> None:
        self.folder = folder.resolve()
        self.host = LOOPBACK
        self.port = port
        self.accounts = tuple(accounts)
        self.packet_limit = packet_limit
        self._broker: Broker | None = None

    @property
    def config(self) -> Path:
        return self.folder / "iotcore.toml"

    @property
    def running(self) -> bool:
        return self._broker is not None and self._broker.is_running

    def write(self) -> None:
        """Write configuration and users; a running broker takes them at its next start only."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        users = "".join(f"{json.dumps(a.user)} = {json.dumps(a.password)}\n" for a in self.accounts)
        text = CONFIG.format(host=self.host, port=self.port, packet_limit=self.packet_limit)
        write_private(self.config, text + users)

    def start(self) -> None:
        """Write the files, start the process and wait until it listens.

        Raises:
            BrokerFailed: the port is taken, or it does not listen within ten seconds.
            OSError: the folder cannot be written.
        """
        if self.running:
            return
        self.write()
        broker = Broker(config_path=str(self.config))
        try:
            broker.start()
        except (OSError, RuntimeError) as error:
            raise BrokerFailed(str(error)) from error
        self._broker = broker

    def stop(self) -> None:
        """End it; what it held is gone."""
        if self._broker is not None:
            self._broker.stop()

    def kill(self) -> None:
        self.stop()


def embedded(folder: Path, port: int, accounts: Sequence[Account]) -> Mosquitto | Iotcore:
    """The broker of a demo or rehearsal: mosquitto where it is installed, else iotcore."""
    return (Mosquitto if find_mosquitto() else Iotcore)(folder, port, accounts)
