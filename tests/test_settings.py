"""Settings: what is refused and how it is said, where the API listens, and whose folder a path is relative to."""

from pathlib import Path

import pytest

from fenghuo import settings
from fenghuo.settings import Influx, Settings, SettingsError


def made(**values: object) -> Settings:
    return settings.make(registry="registry", data="data", **values)


@pytest.mark.parametrize(
    ("listen", "host", "port", "on_loopback"),
    [
        ("127.0.0.1:8420", "127.0.0.1", 8420, True),
        ("localhost:1", "localhost", 1, True),
        ("[::1]:8420", "::1", 8420, True),
        ("0.0.0.0:8420", "0.0.0.0", 8420, False),
        ("[::]:8420", "::", 8420, False),
        ("plant.example:443", "plant.example", 443, False),
    ],
)
def test_where_the_api_listens(listen: str, host: str, port: int, on_loopback: bool) -> None:
    chosen = made(listen=listen)
    assert (chosen.host, chosen.port, chosen.on_loopback) == (host, port, on_loopback)


@pytest.mark.parametrize(
    "listen",
    ["8420", ":8420", "", "::1:8420", "127.0.0.1", "127.0.0.1:", "h:0", "h:65536", "h:x", "u@h:80", "h:80/"],
)
def test_no_part_of_it_may_be_left_out(listen: str) -> None:
    with pytest.raises(SettingsError, match="listen: "):
        made(listen=listen)


@pytest.mark.parametrize("url", ["mqtt://", "http://h", "h:1883", "mqtt://h:x", "mqtt://h:99999"])
def test_what_is_no_broker(url: str) -> None:
    with pytest.raises(SettingsError, match=r"broker\.url: "):
        made(broker={"url": url})


def test_a_password_in_a_brokers_url_is_refused_and_not_repeated() -> None:
    for url in ("mqtt://us:secret@h", "mqtt://us@h:1883", "mqtt://:secret@h"):
        with pytest.raises(SettingsError, match=r"`password_file` or in FENGHUO_BROKER_PASSWORD") as refused:
            made(broker={"url": url})
        assert "secret" not in str(refused.value)


@pytest.mark.parametrize("written", [b" geheim==\r\n", b"\xef\xbb\xbfgeheim==\n"])
def test_what_stands_around_influxdbs_token_is_not_its(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bytes
) -> None:
    monkeypatch.delenv("FENGHUO_INFLUX_TOKEN", raising=False)
    (tmp_path / "token").write_bytes(written)
    influx = Influx(url="http://127.0.0.1:9", token_file=tmp_path / "token")
    assert influx.access.token == "geheim=="
    monkeypatch.setenv("FENGHUO_INFLUX_TOKEN", " other\n")
    assert influx.access.token == "other"


def test_what_is_no_token_of_influxdb_is_refused_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the client fails with an error that repeats it."""
    file = tmp_path / "token"
    influx = Influx(url="http://127.0.0.1:9", token_file=file)
    for text in ("two\ngeheim", "geheim\x7f", "海geheim"):
        monkeypatch.delenv("FENGHUO_INFLUX_TOKEN", raising=False)
        for encoding in ("utf-8", "utf-16"):
            file.write_text(text, encoding)
            with pytest.raises(SettingsError) as refused:
                _ = influx.access
            assert (
                str(refused.value) == f"history.influx.token_file: {file}: expected a line of printable ASCII"
            )
        monkeypatch.setenv("FENGHUO_INFLUX_TOKEN", text)
        with pytest.raises(
            SettingsError, match=r"^FENGHUO_INFLUX_TOKEN: expected a line of printable ASCII$"
        ):
            _ = influx.access


def test_a_token_of_influxdb_that_is_not_there_is_told_with_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FENGHUO_INFLUX_TOKEN", raising=False)
    (tmp_path / "empty").write_text("\n")
    for file, why in (
        (None, "it is missing, and FENGHUO_INFLUX_TOKEN too"),
        (tmp_path / "none", "No such file"),
        (tmp_path / "empty", "is empty"),
    ):
        with pytest.raises(SettingsError, match=rf"^history\.influx\.token_file: .*{why}"):
            _ = Influx(url="http://127.0.0.1:9", token_file=file).access


FILE = """
registry: registry
data: /var/lib/fenghuo
broker: {url: "mqtt://broker.example", user: us, password_file: secrets/broker}
channels: {webhook: {secret_file: secrets/webhook}}
"""


def test_every_path_of_a_file_is_relative_to_it_and_of_an_option_to_where_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "fenghuo.yaml").write_text(FILE, "utf-8")
    monkeypatch.chdir(tmp_path)
    chosen = settings.load(Path("etc/fenghuo.yaml"))
    assert chosen.registry == tmp_path / "etc" / "registry"
    assert chosen.data == Path("/var/lib/fenghuo")
    assert chosen.broker is not None
    assert chosen.broker.password_file == tmp_path / "etc" / "secrets" / "broker"
    assert chosen.channels["webhook"].secret_file == tmp_path / "etc" / "secrets" / "webhook"
    given = settings.load(Path("etc/fenghuo.yaml"), data=Path("here"), registry=None)
    assert (given.data, given.registry) == (tmp_path / "here", chosen.registry)
    assert made().data == tmp_path / "data"
    given.save(tmp_path / "run.json")
    monkeypatch.chdir("/")
    assert Settings.model_validate_json((tmp_path / "run.json").read_bytes()) == given


def test_another_broker_keeps_the_user_and_password_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(FILE, "utf-8")
    broker = settings.load(tmp_path / "s.yaml", broker={"url": "mqtt://other.example:1884"}).broker
    assert broker is not None
    assert (broker.host, broker.port, broker.user) == ("other.example", 1884, "us")
    assert broker.password_file == tmp_path / "secrets" / "broker"


def test_all_mistakes_are_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("registry: r\nlisten: ':1'\ncolour: red\n", "utf-8")
    with pytest.raises(SettingsError) as refused:
        settings.load(tmp_path / "s.yaml")
    said = str(refused.value)
    assert [line.split(": ")[1] for line in said.splitlines()] == ["data", "listen", "colour"]
    assert "expected HOST:PORT" in said


def test_each_mistake_says_what_was_expected_and_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        """
data: [d]
listne: 127.0.0.1:1
in_flight: 70000
broker: mqtt://us:secret@h
channels: {phone: {uri: x}, url: {uri: x}}
cluster:
  kafka: kafka-1
  database: {url: "postgresql://us@h:5x/d"}
  slots: 1.5
  shards: 0
  lease: 1
  topics: A
""",
        "utf-8",
    )
    with pytest.raises(SettingsError) as refused:
        settings.load(file)
    assert str(refused.value).replace(f"{file}: ", "").splitlines() == [
        "data: expected a path",
        "broker: expected a mapping with url, user, password_file",
        "channels.phone.uri: unknown key; expected url",
        "channels.url.uri: unknown key; expected url",
        "in_flight: is 70000; expected a number below 65536",
        "cluster.kafka: expected HOST:PORT, such as kafka-1.example:9092, several with commas",
        "cluster.database.url: expected postgresql://USER@HOST:PORT/NAME",
        "cluster.topics: is 'A'; expected small letters, digits and '-', a letter first, 41 of them at most",
        "cluster.slots: is 1.5; expected a whole number",
        "cluster.shards: is 0; expected a number of 1 or more",
        "cluster.lease: is 1; expected a number of 2 or more",
        "listne: unknown key; expected listen",
    ]
    file.write_text("cluster: {}", "utf-8")
    with pytest.raises(SettingsError) as refused:
        settings.load(file)
    assert str(refused.value).replace(f"{file}: ", "").splitlines() == [
        "data: it is missing; expected a folder",
        "cluster.kafka: it is missing; expected HOST:PORT, several with commas",
        "cluster.database: it is missing; expected a mapping with `url` and `password_file`",
    ]
