"""The HTTP channel towards real servers: what it says of every way in which a call can end."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from alerting.alert import Notice, Role
from alerting.channels import (
    ChannelError,
    ChannelSettings,
    Delivery,
    HttpChannel,
    Outcome,
    sign,
    verify,
)
from registry.clock import MINUTE, SECOND
from streams.finding import Tier
from tests.phones import Phone

NOW = 1_795_334_400_000_000  # 2026-11-22T08:00:00Z
SECRET = b"not a secret: a test"


def notice(address: str = "13800000001") -> Notice:
    return Notice(
        id="00112233445566778899",
        alert="a1",
        step=3,
        person="wang",
        role=Role.ASKED,
        tier=Tier.III,
        channel="phone",
        address=address,
        language="zh",
        title="三级报警",
        text="反应釜温度 81.2 ℃ ≥ 80 ℃",
        due=NOW,
        created=NOW - SECOND,
    )


def send(url: str, *, repeat: bool = False, timeout: float = 5.0, now: int = NOW) -> Delivery:
    async def call() -> Delivery:
        channel = HttpChannel(ChannelSettings(name="phone", base=url, timeout=timeout), SECRET)
        try:
            return await channel.send(notice(), repeat=repeat, now=now)
        finally:
            await channel.close()

    return asyncio.run(call())


async def answer(reply: bytes, *, then_hang: bool = False) -> Delivery:
    """What the channel says of a server that reads the request and answers just these bytes."""

    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        if then_hang:
            await reader.read()  # until the caller hangs up
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        served.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    channel = HttpChannel(
        ChannelSettings(name="webhook", timeout=2.0), SECRET
    )  # no base: the address is the URL
    try:
        return await channel.send(notice(f"http://127.0.0.1:{port}/hook"), repeat=False, now=NOW)
    finally:
        await channel.close()
        await served.wait()
        server.close()


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    with Phone(tmp_path_factory.mktemp("phone") / "rings.jsonl") as phone:
        yield phone


def test_a_ring_carries_the_whole_notice_and_a_signature_that_verifies(phone: Phone) -> None:
    phone.mode("ok")
    assert send(phone.url, repeat=True) == Delivery(Outcome.DELIVERED)
    ring = phone.rings()[-1]
    assert ring["key"] == ring["id"] == notice().id
    assert (ring["alert"], ring["step"], ring["role"], ring["person"]) == ("a1", 3, "asked", "wang")
    assert (ring["address"], ring["title"], ring["text"]) == ("13800000001", notice().title, notice().text)
    assert ring["path"].endswith("/13800000001"), "a gateway is told whom to call in the path too"
    assert ring["repeat"] is True
    assert ring["created"] == "2026-11-22T07:59:59Z"
    assert msgspec.json.decode(ring["body"])["late_seconds"] == 0
    assert verify(SECRET, ring["timestamp"], ring["body"].encode(), ring["signature"], now=NOW)


@pytest.mark.parametrize(("age", "late"), [(MINUTE, 0), (MINUTE + SECOND, 61)])
def test_a_ring_says_how_late_it_is(phone: Phone, age: int, late: int) -> None:
    phone.mode("ok")
    send(phone.url, now=notice().created + age)
    assert msgspec.json.decode(phone.rings()[-1]["body"])["late_seconds"] == late


@pytest.mark.parametrize(
    ("mode", "outcome", "rung"),
    [
        ("dead", Outcome.UNKNOWN, False),
        ("slow:5", Outcome.UNKNOWN, True),
        ("lose-reply", Outcome.UNKNOWN, True),
        ("ring-error:500", Outcome.UNKNOWN, True),
        ("error:503", Outcome.UNKNOWN, False),
        ("error:408", Outcome.NOT_DELIVERED, False),
        ("error:425", Outcome.NOT_DELIVERED, False),
        ("error:429", Outcome.NOT_DELIVERED, False),
        ("error:400", Outcome.REFUSED, False),
        ("error:422", Outcome.REFUSED, False),
        ("error:401", Outcome.MISDIRECTED, False),
        ("error:403", Outcome.MISDIRECTED, False),
        ("error:404", Outcome.MISDIRECTED, False),
        ("error:308", Outcome.MISDIRECTED, False),
    ],
)
def test_every_way_a_call_can_end(phone: Phone, mode: str, outcome: Outcome, rung: bool) -> None:
    phone.mode(mode)
    before = len(phone.rings())
    delivery = send(phone.url, timeout=0.4)
    assert delivery.outcome is outcome
    assert delivery.error
    assert len(phone.rings()) - before == rung


def test_a_phone_that_dies_ringing_may_have_rung_and_a_closed_port_has_not(tmp_path: Path) -> None:
    with Phone(tmp_path / "rings.jsonl", mode="die-after-ring") as phone:
        assert send(phone.url).outcome is Outcome.UNKNOWN
        phone.wait()
        assert len(phone.rings()) == 1
        assert send(phone.url).outcome is Outcome.NOT_DELIVERED


def test_a_server_that_takes_no_connection_was_surely_not_reached() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        queue = [socket.socket() for _ in range(4)]
        try:
            for waiting in queue:  # fill the backlog, so that nobody else gets a connection
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            url = f"http://127.0.0.1:{full.getsockname()[1]}"

            async def call() -> Delivery:
                settings = ChannelSettings(name="phone", base=url, connect_timeout=0.3)
                channel = HttpChannel(settings, SECRET)
                try:
                    return await channel.send(notice(), repeat=False, now=NOW)
                finally:
                    await channel.close()

            assert asyncio.run(call()).outcome is Outcome.NOT_DELIVERED
        finally:
            for waiting in queue:
                waiting.close()


def test_redirects_are_not_followed() -> None:
    moved = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    assert asyncio.run(answer(moved)) == Delivery(Outcome.MISDIRECTED, "HTTP 307")


def test_an_endless_answer_is_not_read() -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nyes"
    assert asyncio.run(answer(endless, then_hang=True)) == Delivery(Outcome.DELIVERED)


@pytest.mark.parametrize("reply", [b"", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200"])
def test_an_answer_that_is_no_answer_leaves_it_open(reply: bytes) -> None:
    assert asyncio.run(answer(reply)).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    "address", ["13800000001", "", "ftp://x/", "http://[::1", "http://a:b/", "http://\x00/"]
)
def test_an_address_that_is_no_url_is_refused(address: str) -> None:
    async def call() -> Delivery:
        channel = HttpChannel(ChannelSettings(name="webhook"), SECRET)
        try:
            return await channel.send(notice(address), repeat=False, now=NOW)
        finally:
            await channel.close()

    assert asyncio.run(call()).outcome is Outcome.REFUSED


def test_a_signature_binds_body_time_and_secret() -> None:
    timestamp, body = str(NOW // SECOND), b'{"id":"1"}'
    signature = sign(SECRET, timestamp, body)
    assert verify(SECRET, timestamp, body, signature, now=NOW + 5 * MINUTE)
    assert not verify(SECRET, timestamp, body, signature, now=NOW + 5 * MINUTE + SECOND)
    assert not verify(SECRET, timestamp, body, signature, now=NOW - 6 * MINUTE)
    assert not verify(SECRET, timestamp, body + b" ", signature, now=NOW)
    assert not verify(SECRET, str(NOW // SECOND + 1), body, signature, now=NOW)
    assert not verify(b"another", timestamp, body, signature, now=NOW)
    assert not verify(SECRET, "soon", body, "非", now=NOW)


def test_the_secret_comes_from_a_file_or_the_environment_and_stays_out_of_errors(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(SECRET + b"\n")
    HttpChannel.open(ChannelSettings(name="a", secret_file=str(file)), {})
    HttpChannel.open(ChannelSettings(name="a", secret_env="S"), {"S": "x"})
    for settings in (
        ChannelSettings(name="a"),
        ChannelSettings(name="a", secret_file=str(file), secret_env="S"),
        ChannelSettings(name="a", secret_env="T"),
        ChannelSettings(name="a", secret_file=str(tmp_path / "none")),
        ChannelSettings(name="a", secret_env="EMPTY"),
    ):
        with pytest.raises(ChannelError, match="channel a") as caught:
            HttpChannel.open(settings, {"S": "sesame", "EMPTY": ""})
        assert "sesame" not in str(caught.value)


def test_unknown_settings_are_errors() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": "a", "secret": "x"}, ChannelSettings)
