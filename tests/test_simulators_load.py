"""The load generator sends exactly what its report says, and what it expects is what a plain judge finds."""

import json
import os
import signal
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from ingest.broker import Mosquitto
from simulators.excursions import Excursions, Limits
from simulators.load import Account, Report, Spread, Stalled, main, run
from simulators.packets import FORMS, Fleet, Packets
from simulators.wire import Refused
from tests.build import city_registry, code
from tests.servers import PASSWORD, mosquitto, needs_mosquitto, publisher

MS = 1000
LEVELS = ("H", "L", "HH", "LL")


class Judge:
    """One direction of one point as design section 6 words it: worst limit, on-delay, reset, off-delay."""

    RESETS = {"H": 78.0, "HH": 88.0, "L": 22.0, "LL": 12.0}  # noqa: RUF012

    def __init__(self, limits: Limits, levels: tuple[str, ...]) -> None:
        self.limits = limits
        self.levels = levels
        self.pending: dict[str, int | None] = dict.fromkeys(levels)
        self.leaving: dict[str, int | None] = dict.fromkeys(levels)
        self.active: set[str] = set()
        self.begun = self.ended = 0
        self.moves = 0  # readings that begin, complete or cancel a delay

    def take(self, time: int, value: float) -> None:
        was, moved = bool(self.active), False
        for level in self.levels:
            limit, high = getattr(self.limits, level), level[0] == "H"
            holds = value >= limit if high else value <= limit
            reset = value < self.RESETS[level] if high else value > self.RESETS[level]
            if level in self.active:
                since = self.leaving[level]
                if reset and since is None:
                    self.leaving[level], moved = time, True
                elif not reset and since is not None:
                    self.leaving[level], moved = None, True
                elif reset and since is not None and time >= since + self.limits.off_delay:
                    self.active.discard(level)
                    self.leaving[level], moved = None, True
            else:
                since = self.pending[level]
                if holds and since is None:
                    self.pending[level], moved = time, True
                elif not holds and since is not None:
                    self.pending[level], moved = None, True
                elif holds and since is not None and time >= since + self.limits.on_delay:
                    self.active.add(level)
                    self.pending[level], moved = None, True
        self.begun += bool(self.active) and not was
        self.ended += was and not self.active
        self.moves += moved


class Judges:
    """All points' judges."""

    def __init__(self, limits: Limits) -> None:
        self.by_point: dict[object, tuple[Judge, Judge]] = defaultdict(
            lambda: (Judge(limits, ("H", "HH")), Judge(limits, ("L", "LL")))
        )

    def take(self, point: object, time: int, value: float) -> None:
        for judge in self.by_point[point]:
            judge.take(time, value)

    def totals(self) -> tuple[int, int, int]:
        """begun, ended, readings that moved a pending limit."""
        judges = [judge for pair in self.by_point.values() for judge in pair]
        return (sum(j.begun for j in judges), sum(j.ended for j in judges), sum(j.moves for j in judges))


@given(
    gaps=st.lists(st.sampled_from([1, 10, 100, 500, 900, 3000, 9000]), min_size=1, max_size=150),
    hurry=st.sampled_from([1, 10, 100]),
    one_in=st.integers(1, 5),
    points=st.integers(1, 12),
    lasting=st.integers(1, 3),
    quiet_from=st.integers(0, 150),
)
def test_expected_is_what_a_plain_judge_finds_however_the_rounds_are_spaced(
    gaps: list[int], hurry: int, one_in: int, points: int, lasting: int, quiet_from: int
):
    limits = Limits(on_delay=1_000_000, off_delay=2_000_000)
    excursions = Excursions(points, limits, one_in=one_in, lasting=lasting, levels=LEVELS)
    judges, states, time = Judges(limits), np.zeros(points, int), 0
    for number, gap in enumerate(gaps):
        time += max(1, gap // hurry) * MS
        for changed, state in excursions.round(time, begin=number < quiet_from):
            states[changed] = state
        for point, state in enumerate(states.tolist()):
            judges.take(point, time, limits.beyond(LEVELS[state - 1]) if state else 50.0)
    expected = excursions.expected
    assert judges.totals() == (
        expected.begun,
        expected.ended,
        expected.pending_begun + expected.pending_ended,
    )


def test_one_reading_in_a_thousand_moves_a_pending_limit():
    excursions, rounds, points = Excursions(1000, Limits()), 3000, 1000
    for number in range(rounds):
        excursions.round(number * 100 * MS)
    expected = excursions.expected
    moved = expected.pending_begun + expected.pending_ended
    assert moved == pytest.approx(rounds * points / 1000, rel=0.05)
    assert expected.begun > 100


def packets_in(data: bytes, protocol: int) -> Iterator[tuple[str, int, dict]]:
    """Topic, packet id and payload of every PUBLISH, read as MQTT says, not as the generator thinks."""
    at = 0
    while at < len(data):
        assert data[at] == 0x32  # PUBLISH, QoS 1
        size = shift = 0
        while True:
            at += 1
            size |= (data[at] & 127) << shift
            shift += 7
            if data[at] < 128:
                break
        body = data[at + 1 : at + 1 + size]
        at += 1 + size
        length = int.from_bytes(body[:2], "big")
        rest = body[2 + length :]
        payload = rest[3:] if protocol == 5 else rest[2:]
        yield body[2 : 2 + length].decode(), int.from_bytes(rest[:2], "big"), orjson.loads(payload)


def values_of(payload: dict) -> dict[str, float]:
    if "points" in payload:
        return dict(zip(payload["points"], payload["values"], strict=True))
    return {p: v["value"] if isinstance(v, dict) else v for p, v in payload["readings"].items()}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("protocol", [4, 5])
def test_packets_are_patched_in_place(form: str, protocol: int):
    fleet = Fleet(("E1", "E2"), "gw1", tuple(f"P-{i}" for i in range(150)))
    packets = Packets(fleet, form=form, batch=100, levels=LEVELS, protocol=protocol, variants=2)
    assert (packets.messages, packets.readings) == (4, 300)
    start = 1_800_000_000_123_000
    out: dict[int, int] = {}
    calm: list[list[float]] = []
    for round, changes in enumerate([{}, {3: 1, 299: 2}, {3: 0, 100: 3, 7: 4}, {299: 0, 100: 0}, {7: 0}]):
        for point, state in changes.items():
            packets.change(np.array([point]), state)
            out[point] = state
        times = start + round * 1_000_000 + np.arange(4) * 50 * MS
        view = packets.prepare(round, times, np.arange(4) + round * 4 + 1)
        messages = list(packets_in(bytes(view), protocol))
        assert [id for _, id, _ in messages] == [round * 4 + 1 + i for i in range(4)]
        assert [topic.split("/")[2] for topic, _, _ in messages] == ["E1", "E1", "E2", "E2"]
        for message, (_, _, payload) in enumerate(messages):
            stamp = np.datetime64(payload["time"].removesuffix("Z"), "us").astype(np.int64)
            assert stamp == times[message]
        values = [value for _, _, payload in messages for value in values_of(payload).values()]
        for point, value in enumerate(values):
            state = out.get(point, 0)
            if state:
                assert value == pytest.approx(fleet.limits.beyond(LEVELS[state - 1]), abs=0.01)
            else:
                assert 40 <= value <= 60
        calm.append(values)
    assert calm[0] != calm[1]
    assert calm[0][20:90] == calm[2][20:90]


def test_the_presumed_limits_are_those_of_the_city():
    city, limits = city_registry(1, 1).points, Limits()
    assert city.limit[0].tolist() == [limits.LL, limits.L, limits.H, limits.HH]
    assert city.reset[0].tolist() == [Judge.RESETS[level] for level in ("LL", "L", "H", "HH")]
    assert set(city.on_delay[0].tolist()) == {limits.on_delay}
    assert set(city.off_delay[0].tolist()) == {limits.off_delay}


class Listener:
    """Subscribed to everything; keeps what it hears in the order of hearing."""

    def __init__(self, port: int) -> None:
        self.messages: list[MQTTMessage] = []
        self.changed = threading.Condition()
        self.subscribed = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2, client_id="listener")
        self.client.username_pw_set("listener", PASSWORD)
        self.client.on_message = self._hear
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.connect("127.0.0.1", port)
        self.client.subscribe("fenghuo/v1/+/+/readings", qos=1)
        self.client.loop_start()
        assert self.subscribed.wait(10)

    def _hear(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        with self.changed:
            self.messages.append(message)
            self.changed.notify_all()

    def wait(self, count: int, seconds: float = 20) -> list[MQTTMessage]:
        with self.changed:
            self.changed.wait_for(lambda: len(self.messages) >= count, seconds)
        self.client.disconnect()
        self.client.loop_stop()
        return self.messages


CODES = tuple(code(number) for number in range(1, 7))
FLEET = Fleet(
    CODES, "gw1", tuple(f"P-{i:04d}" for i in range(20)), Limits(on_delay=100 * MS, off_delay=200 * MS)
)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    more = [publisher("listener"), *(publisher(f"publisher-{i}") for i in (1, 2))]
    with mosquitto(tmp_path_factory.mktemp("load"), [(c, "gw1") for c in CODES], *more) as server:
        yield server


@pytest.mark.mosquitto
@needs_mosquitto
@pytest.mark.parametrize(
    "how",
    [
        {"rate": 4000, "form": "columns", "mode": "spread", "batch": 7},
        {"rate": 4000, "form": "rows", "mode": "burst", "connections": 2, "protocol": 5, "window": 3},
        {"rate": 0, "form": "objects", "window": 2},
    ],
    ids=["spread", "burst-multiplexed", "closed"],
)
def test_what_is_heard_is_what_is_reported(broker: Mosquitto, how: dict):
    listener = Listener(broker.port)
    user = "publisher-{connection}" if "connections" in how else "{enterprise}/{gateway}"
    report = run(
        FLEET,
        port=broker.port,
        account=Account(user, PASSWORD),
        duration=1.9,
        settle=1.0,
        one_in=20,
        lasting=2,
        levels=LEVELS,
        **how,
    )
    messages = listener.wait(report.messages)
    assert len(messages) == report.messages
    judges, readings, sizes = Judges(FLEET.limits), 0, 0
    seen: dict[object, int] = {}
    for message in messages:
        payload = orjson.loads(message.payload)
        time = int(np.datetime64(payload["time"].removesuffix("Z"), "us").astype(np.int64))
        assert report.first <= time <= report.last
        sizes += len(message.payload)
        for point, value in values_of(payload).items():
            key = (message.topic, point)
            assert seen.get(key, 0) < time
            seen[key] = time
            judges.take(key, time, value)
            readings += 1
    assert (readings, sizes) == (report.readings, report.payload_bytes)
    assert judges.totals() == (report.begun, report.ended, report.pending_begun + report.pending_ended)
    assert report.begun == report.ended > 0


@pytest.mark.mosquitto
@needs_mosquitto
def test_messages_too_large_for_the_socket_arrive_whole(broker: Mosquitto):
    fleet = Fleet(CODES, "gw1", tuple(f"P-{i:04d}" for i in range(5000)))
    listener = Listener(broker.port)
    report = run(
        fleet,
        port=broker.port,
        account=Account("publisher-{connection}", PASSWORD),
        form="objects",
        batch=5000,
        duration=0.3,
        connections=2,
    )
    messages = listener.wait(report.messages)
    assert len(messages) == report.messages
    assert {len(message.payload) for message in messages} == {report.payload_bytes // report.messages}
    assert all(len(orjson.loads(message.payload)["readings"]) == 5000 for message in messages[-20:])


@pytest.mark.mosquitto
@needs_mosquitto
def test_a_broker_that_stands_still_is_said_and_gets_no_more_than_the_window(broker: Mosquitto):
    listener, pid = Listener(broker.port), broker.pid
    assert pid is not None
    try:
        with pytest.raises(Stalled, match="acknowledged nothing"):
            run(
                FLEET,
                port=broker.port,
                account=Account(password=PASSWORD),
                window=1,
                patience=0.5,
                ready=lambda: os.kill(pid, signal.SIGSTOP),
            )
    finally:
        os.kill(pid, signal.SIGCONT)
    assert len(listener.wait(len(CODES) + 1, seconds=1.5)) == len(CODES)


@pytest.mark.mosquitto
@needs_mosquitto
def test_a_broker_that_pauses_is_said_to_be_why_the_schedule_was_not_kept(broker: Mosquitto):
    pid = broker.pid
    assert pid is not None
    goes_on = threading.Timer(0.6, os.kill, (pid, signal.SIGCONT))

    def pause() -> None:
        os.kill(pid, signal.SIGSTOP)
        goes_on.start()

    account = Account(password=PASSWORD)
    try:
        report = run(FLEET, port=broker.port, account=account, rate=1200, duration=1.0, window=1, ready=pause)
    finally:
        goes_on.join()
    assert report.held > 0
    assert report.lateness is not None
    assert report.lateness.p99 > 100
    assert report.bottleneck == "broker"


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, ""),
        ({"lateness": None, "cpu": 10.0}, ""),
        ({"readings_per_second": 985.0, "held": 1}, "broker"),
        ({"lateness": Spread(1, 101, 102), "cpu": 9.5, "held": 1}, "generator"),
        ({"lateness": Spread(1, 101, 102), "cpu": 5.0, "cpu_waited": 4.5, "held": 1}, "machine"),
        ({"lateness": Spread(1, 101, 102)}, "machine"),
    ],
)
def test_the_bottleneck_is_who_kept_the_generator_from_its_schedule(changes: dict, verdict: str):
    plain = dict.fromkeys(Report.__dataclass_fields__, 0) | {
        "rate": 1000.0,
        "readings_per_second": 1000.0,
        "seconds": 10.0,
        "lateness": Spread(0, 99, 200),
    }
    assert Report(**(plain | changes)).bottleneck == verdict


@pytest.mark.mosquitto
@needs_mosquitto
def test_a_refusal_ends_the_run(broker: Mosquitto):
    with pytest.raises(Refused, match="refuses the connection"):
        run(FLEET, port=broker.port, account=Account(password="wrong"), duration=0.1)


@pytest.mark.mosquitto
@needs_mosquitto
def test_the_command_reads_a_fleet_and_prints_its_report(
    broker: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "fleet.json"
    file.write_text(json.dumps({"enterprises": CODES, "points": ["P-0001", "P-0002"]}), "utf-8")
    monkeypatch.setenv("FENGHUO_LOAD_PASSWORD", PASSWORD)
    port = str(broker.port)
    assert main(["--fleet", str(file), "--port", port, "--rate", "120", "--for", "0.3"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rounds"], report["messages"], report["readings"]) == (3, 18, 36)
    monkeypatch.setenv("FENGHUO_LOAD_PASSWORD", "wrong")
    users = tmp_path / "passwords"
    users.write_text("# ours\n" + "".join(f"{c}/gw1 {PASSWORD}\n" for c in CODES), "utf-8")
    with_users = ["--fleet", str(file), "--port", port, "--rate", "120", "--passwords", str(users)]
    assert main([*with_users, "--for", "1", "--progress"]) == 0
    said = capsys.readouterr().out
    told, brace, _ = said.partition("{")
    done = [float(line.removeprefix("progress ")) for line in told.splitlines()]
    assert brace
    assert done == sorted(done)
    assert done[0] < 0.4 < 0.6 < done[-1] <= 1
    users.write_text(f"{CODES[0]}/gw1 {PASSWORD}\n", "utf-8")
    assert main(with_users) == 1
    assert f"no password for {CODES[1]}/gw1" in capsys.readouterr().err
    users.write_text("one two three\n", "utf-8")
    assert main(with_users) == 1
    assert "lines of USER PASSWORD" in capsys.readouterr().err
    file.write_text("[]", "utf-8")
    assert main(["--fleet", str(file), "--port", port]) == 1
    assert "not a fleet" in capsys.readouterr().err


def test_a_schedule_that_cannot_be_kept_is_refused_at_once():
    with pytest.raises(ValueError, match="less than a millisecond"):
        run(Fleet(CODES[:1], "gw1", ("P",)), rate=1e6)
