"""The broker's configuration, shown by a real mosquitto: nobody speaks as, or hears, another."""

import os
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest import broker
from ingest.broker import (
    Account,
    BrokerFailed,
    Mosquitto,
    PasswordsBroken,
    collector_account,
    free_port,
    gateway_account,
    gateway_user,
    passwords,
)
from tests.build import code
from tests.servers import PASSWORD, User, mosquitto, needs_mosquitto, publisher

A, B = code(1), code(2)
USER_A, USER_B = gateway_user(A, "gw1"), gateway_user(B, "gw1")
NOT_AUTHORISED = 135
NOBODY_LISTENED = 16


def topic(enterprise: str, kind: str = "readings", gateway: str = "gw1") -> str:
    return f"fenghuo/v1/{enterprise}/{gateway}/{kind}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with mosquitto(
        tmp_path_factory.mktemp("broker"), [(A, "gw1"), (A, "gw2"), (B, "gw1")], publisher()
    ) as server:
        yield server


@pytest.mark.mosquitto
@needs_mosquitto
class TestRealBroker:
    @pytest.mark.parametrize(
        "foreign",
        [
            topic(B),
            topic(B, "status"),
            topic(A, gateway="gw2"),
            topic(A, "events"),
            "fenghuo/v1/echo",
            "$SYS/broker/x",
            "anything",
        ],
    )
    def test_a_gateway_publishes_only_its_own_topics(self, server: Mosquitto, foreign: str) -> None:
        with User(server, "publisher") as observer:
            assert observer.subscribe("#") == 1
            with User(server, USER_A) as gateway:
                assert gateway.publish(foreign, b"forged") == NOT_AUTHORISED
            with User(server, USER_A) as gateway:
                assert gateway.publish(topic(A, "status"), b"mine") == 0
                assert gateway.publish(topic(A), b"last") == 0
            assert observer.publish("fenghuo/v1/end", b"") == 0
            assert observer.heard[:2] == [(topic(A, "status"), b"mine"), (topic(A), b"last")]

    @pytest.mark.parametrize(
        "wanted",
        [topic(B), topic(B, "status"), topic(A), "fenghuo/v1/#", "#", "$SYS/#", f"$share/x/{topic(B)}"],
    )
    def test_a_gateway_hears_nothing(self, server: Mosquitto, wanted: str) -> None:
        with User(server, USER_A) as gateway, User(server, USER_B) as other:
            gateway.subscribe(wanted)  # mosquitto grants it and then delivers nothing
            assert other.publish(topic(B), b"secret") in (0, NOBODY_LISTENED)
            assert gateway.publish(topic(A), b"a round trip") in (0, NOBODY_LISTENED)
            assert gateway.heard == []

    def test_a_forged_will_is_not_published(self, server: Mosquitto) -> None:
        with User(server, "publisher") as observer:
            observer.subscribe("fenghuo/v1/#")
            forger = User(server, USER_A, will=(topic(B, "status"), b"forged"))
            if forger.refused is None:
                forger.vanish()
            honest = User(server, USER_B, will=(topic(B, "status"), b"gone"))
            honest.vanish()
            deadline = broker.stopwatch() + 10
            while not observer.heard and broker.stopwatch() < deadline:
                observer.publish("fenghuo/v1/wait", b"")
            assert (topic(B, "status"), b"gone") in observer.heard
            assert all(payload != b"forged" for _, payload in observer.heard)

    def test_nobody_takes_over_the_collectors_session(self, server: Mosquitto) -> None:
        """A client id is free to choose in MQTT, and a session with its queue belongs to a client id."""
        with User(server, "collector", clean_start=False) as collector:
            assert collector.subscribe("fenghuo/v1/#") == 1
        with User(server, USER_B) as other:
            assert other.publish(topic(B), b"for the collector only") == 0
        with User(server, USER_A, client_id="collector", clean_start=False) as thief:
            thief.publish(topic(A), b"a round trip")
            assert thief.heard == []
        with User(server, "collector", clean_start=False) as collector:
            collector.subscribe("fenghuo/v1/end")
            assert (topic(B), b"for the collector only") in collector.heard

    @pytest.mark.parametrize(
        ("user", "password"), [(None, None), (USER_A, "wrong"), (USER_A, None), ("stranger", PASSWORD)]
    )
    def test_only_those_with_a_password_come_in(
        self, server: Mosquitto, user: str | None, password: str | None
    ) -> None:
        assert User(server, user, password=password).refused == NOT_AUTHORISED

    def test_a_packet_beyond_the_limit_ends_its_senders_connection_only(self, tmp_path: Path) -> None:
        with (
            mosquitto(tmp_path, [(A, "gw1"), (B, "gw1")], packet_limit=100_000) as small,
            User(small, USER_A) as gateway,
            User(small, USER_B) as other,
        ):
            gateway.send(topic(A), b"x" * 100_001)
            assert gateway.ended.wait(10)
            assert other.publish(topic(B), b"x" * 90_000) in (0, NOBODY_LISTENED)

    def test_it_listens_on_loopback_only(self, server: Mosquitto) -> None:
        socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", server.port), timeout=5)

    def test_what_is_queued_survives_a_restart_of_the_broker(self, tmp_path: Path) -> None:
        """More than the 1,000 messages at which mosquitto by itself drops what it has acknowledged."""
        messages = [(topic(A), str(number).encode()) for number in range(3000)]
        with mosquitto(tmp_path, [(A, "gw1")]) as server:
            with User(server, "collector", clean_start=False) as collector:
                collector.subscribe("fenghuo/v1/#")
            with User(server, USER_A) as gateway:
                assert gateway.publish_all(messages) == {0}
            port = server.port
        with (
            mosquitto(tmp_path, [(A, "gw1")], port=port) as server,
            User(server, "collector", clean_start=False) as collector,
        ):
            deadline = broker.stopwatch() + 20
            while len(collector.heard) < len(messages) and broker.stopwatch() < deadline:
                collector.subscribe("fenghuo/v1/end")
            assert collector.heard == messages

    def test_it_knows_whether_it_ended_without_saving(self, tmp_path: Path) -> None:
        def anew() -> Mosquitto:
            return Mosquitto(tmp_path, port, [collector_account(PASSWORD)])

        port = free_port()
        server = anew()
        assert not server.unsaved
        server.start()
        assert not server.unsaved
        server.stop()
        assert not server.unsaved
        assert not anew().unsaved, "nor does the next one think so"
        server.start()
        assert server.pid is not None
        os.kill(server.pid, signal.SIGTERM)
        assert server._process is not None
        server._process.wait(10)
        assert not server.unsaved, "whoever ended it: it has saved"
        server.start()
        server.kill()
        assert server.unsaved
        assert anew().unsaved, "so does the next one, after a power cut"

    def test_its_log_does_not_grow_without_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with mosquitto(tmp_path, [(A, "gw1")]) as server:
            monkeypatch.setattr(broker, "LOG_BYTES", server.log.stat().st_size)
            server.trim_log()
            assert not server.log.with_suffix(".log.1").exists()
            User(server, USER_A).close()
            while f"{USER_A} disconnected" not in server.log.read_text("utf-8"):
                threading.Event().wait(0.01)
            server.trim_log()
            assert USER_A in server.log.with_suffix(".log.1").read_text("utf-8")
            User(server, "stranger")
            while "not authorised" not in (left := server.log.read_text("utf-8")):
                threading.Event().wait(0.01)
            assert USER_A not in left
            assert "\0" not in left, "it goes on at the beginning"

    def test_a_new_account_is_let_in_without_a_restart(self, tmp_path: Path) -> None:
        with mosquitto(tmp_path, [(A, "gw1")]) as server:
            assert User(server, USER_B).refused == NOT_AUTHORISED
            with User(server, USER_A) as gateway:
                server.accounts = (*server.accounts, gateway_account(B, "gw1", PASSWORD))
                server.write()
                with User(server, USER_B) as other:
                    assert other.publish(topic(B), b"") in (0, NOBODY_LISTENED)
                assert gateway.publish(topic(A), b"") in (0, NOBODY_LISTENED), "who is in stays in"
                with User(server, USER_B) as other:
                    assert other.publish(topic(A), b"") == NOT_AUTHORISED

    def test_a_taken_port_is_said(self, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            server = Mosquitto(tmp_path, taken.getsockname()[1], [collector_account(PASSWORD)])
            with pytest.raises(BrokerFailed, match=r"in use|taken"):
                server.start()
            assert not server.running

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
    def test_it_does_not_outlive_us(self, tmp_path: Path) -> None:
        program = (
            "import sys\n"
            "from pathlib import Path\n"
            "from ingest.broker import Mosquitto, collector_account\n"
            "server = Mosquitto(Path(sys.argv[1]), int(sys.argv[2]), [collector_account('p')])\n"
            "server.start()\n"
            "print(server.pid, flush=True)\n"
            "sys.stdin.read()\n"
        )
        parent = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), str(free_port())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            watch = os.pidfd_open(pid)
            parent.send_signal(signal.SIGKILL)
        assert select.select([watch], [], [], 20)[0], "mosquitto is still there"
        os.close(watch)

    def test_its_secrets_are_its_owners_only(self, server: Mosquitto) -> None:
        for name in ("users", "access", "mosquitto.conf"):
            assert stat.S_IMODE((server.folder / name).stat().st_mode) == 0o600
        assert PASSWORD not in (server.folder / "users").read_text()


def test_passwords_are_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    first = passwords(path, ["collector", USER_A])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(set(first.values())) == 2
    assert all(len(password) >= 32 for password in first.values())
    second = passwords(path, [USER_A, USER_B])
    assert second[USER_A] == first[USER_A]
    assert set(second) == {USER_A, USER_B}
    assert passwords(path, ["collector"])["collector"] == first["collector"]
    path.unlink()
    again = passwords(path, ["collector", USER_B], {**first, **second})
    assert again == {"collector": first["collector"], USER_B: second[USER_B]}, "nobody is locked out"
    assert passwords(path, ["collector", USER_B]) == again


def test_remarks_among_the_passwords_stay_and_a_slip_is_said_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    path.write_text(f"# of the north plant\n{USER_A} secret\n\n#{USER_B} old\n", "utf-8")
    assert passwords(path, [USER_A, USER_B])[USER_A] == "secret"
    assert path.read_text("utf-8").startswith(f"# of the north plant\n\n#{USER_B} old\n{USER_A} secret\n")
    for slip in (b"gw secret with blanks", b"gw", b"\xff\xfe"):
        path.write_bytes(b"# remark\n" + slip)
        with pytest.raises(PasswordsBroken, match=r"passwords:(2: expected `USER PASSWORD`| not UTF-8)"):
            passwords(path, [])


@pytest.mark.parametrize(
    "account",
    [
        ("a:b", ()),
        ("a+", ()),
        ("#", ()),
        ("", ()),
        ("a b", ()),
        ("a\nuser collector", ()),
        ("a", ("x\ntopic readwrite #",)),
        ("a", ("",)),
    ],
)
def test_no_name_smuggles_a_line_into_the_configuration(account: tuple[str, tuple[str, ...]]) -> None:
    with pytest.raises(ValueError, match=r"must not|cannot"):
        Account(account[0], "p", publish=account[1])


@pytest.mark.parametrize("gateway", ["+", "#", "a/b", "gw 1"])
def test_no_gateways_name_is_a_wildcard(gateway: str) -> None:
    with pytest.raises(ValueError, match="gateway"):
        gateway_account(A, gateway, "p")


def test_no_mosquitto_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "SEARCH", str(tmp_path))
    with pytest.raises(BrokerFailed, match="not installed"):
        Mosquitto(tmp_path, 1, [])
