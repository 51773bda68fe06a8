"""Gateways: all that was shown arrives once, nothing is invented, and each way of losing it loses just that."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.codec import GatewayPoints, Limits
from ingest.native import Native, status
from simulators.instruments import BAD, GOOD, MUTE, Fault, Instruments, Readout
from simulators.protocol import PAYLOAD, READINGS, iso
from simulators.uplink import AT_ONCE, KINDS, Kind, Message, Outage, Station, Uplink, Uplinks
from tests.build import PointSpec, code, make_registry

SECOND = 1_000_000
MS = 1000
T = 1_800_000_000 * SECOND
PLANT = code(1)
GATEWAYS, POINTS = 3, 4
IDS = [tuple(f"gw{g}-{n}" for n in range(POINTS)) for g in range(GATEWAYS)]
REGISTRY = make_registry(
    {PLANT: [PointSpec(id=id, gateway=f"gw{g}") for g, ids in enumerate(IDS) for id in ids]}
)
RESOLUTION = np.full(GATEWAYS * POINTS, 0.1)

Reading = tuple[int, int, float | None]
"""Device time, place in the flat arrays, value (None: null)."""


def at(second: float) -> int:
    return T + round(second * SECOND)


def stations(*uplinks: Uplink, outages: Sequence[Sequence[Outage]] = ((), (), ())) -> list[Station]:
    """The three gateways; one uplink for all, or one each."""
    each = uplinks if len(uplinks) == GATEWAYS else uplinks * GATEWAYS
    return [Station(PLANT, f"gw{g}", g * POINTS, IDS[g], each[g], tuple(outages[g])) for g in range(GATEWAYS)]


def shown(seconds: int, *faults: Fault, seed: int = 5) -> dict[int, Readout]:
    """What instruments show of a wandering truth, by time."""
    p = GATEWAYS * POINTS
    instruments = Instruments(
        noise=np.full(p, 0.1),
        resolution=RESOLUTION,
        lag=np.zeros(p),
        range_low=np.zeros(p),
        range_high=np.full(p, 100.0),
        faults=faults,
        random=np.random.default_rng(seed),
    )
    walk = 50 + np.cumsum(np.random.default_rng(seed + 1).normal(0, 0.3, (seconds, p)), axis=0)
    return {at(s): instruments.read(at(s), 1.0, walk[s]) for s in range(seconds)}


def run(given_: Sequence[Station], readouts: dict[int, Readout], seed: int = 1) -> list[Message]:
    """All steps; at never goes back, and is never later than its step."""
    uplinks = Uplinks(given_, np.random.default_rng(seed), resolution=RESOLUTION)
    messages: list[Message] = []
    before = 0
    for t, readout in readouts.items():
        step = uplinks.step(t, readout)
        ats = [before, *(message.at for message in step), t]
        assert ats == sorted(ats)
        before = t
        messages += step
    return messages


def decoded(messages: Sequence[Message], gateway: int) -> list[Reading]:
    """What the product's codec reads, in the order sent; it may find nothing wrong."""
    codec = Native(GatewayPoints(REGISTRY, gateway), Limits())
    readings: list[Reading] = []
    for message in messages:
        if message.kind is Kind.READINGS and message.gateway == f"gw{gateway}":
            assert message.topic == f"fenghuo/v1/{PLANT}/gw{gateway}/readings"
            result = codec.decode(message.payload, T + 1000 * SECOND)
            assert not result.problems
            for part in result.columns:
                values = [None if math.isnan(value) else value for value in part.value.tolist()]
                readings += [
                    (part.time, row, value) for row, value in zip(part.row.tolist(), values, strict=True)
                ]
    return readings


def expected(readouts: dict[int, Readout], gateway: int, every: int = 1) -> list[Reading]:
    """Every reading of a gateway that is there to send, said as plainly as possible."""
    return [
        (t, point, None if readout.state[point] == BAD else float(readout.values[point]))
        for t, readout in readouts.items()
        if t // SECOND % every == 0
        for point in range(gateway * POINTS, (gateway + 1) * POINTS)
        if readout.state[point] != MUTE
    ]


def statuses(messages: Sequence[Message], gateway: int = 0) -> list[tuple[int, Kind]]:
    return [
        (message.at, message.kind)
        for message in messages
        if message.kind is not Kind.READINGS and message.gateway == f"gw{gateway}"
    ]


FAULTS = (
    Fault("dead", np.array([1]), at(5), at(15)),
    Fault("dead", np.arange(POINTS, 2 * POINTS), at(3), at(6)),  # all of a gateway
    Fault("dead", np.array([0]), at(10), at(20)),
    Fault("open_circuit", np.array([2, 9]), at(8), at(12)),
)
FORM = st.sampled_from(["rows", "columns"])


@given(form=FORM, every=st.integers(1, 7), batch=st.sampled_from([0, 3, 10]))
def test_every_reading_arrives_exactly_once_and_in_order(form: str, every: int, batch: int):
    readouts = shown(31, *FAULTS)
    messages = run(stations(Uplink(every=every, form=form, batch=batch)), readouts)
    for gateway in range(GATEWAYS):
        wanted, sent = expected(readouts, gateway, every), decoded(messages, gateway)
        assert sent == wanted[: len(sent)]
        assert [
            t for t, _, _ in wanted[len(sent) :] if t <= at(30 - batch)
        ] == []  # the last batch is not full
        if not batch:
            assert sent == wanted


def test_the_first_step_says_online_and_a_packet_looks_as_the_wire_format_says():
    readouts = shown(
        1, Fault("open_circuit", np.array([2]), T, at(9)), Fault("dead", np.array([3, 6]), T, at(9))
    )
    messages = run(stations(Uplink(form="rows"), Uplink(), Uplink(every=7)), readouts)
    assert [message.kind for message in messages] == [Kind.ONLINE] * 3 + [Kind.READINGS] * 2
    assert status(messages[0].payload) is True
    assert messages[0].topic == f"fenghuo/v1/{PLANT}/gw0/status"
    a, b, *_ = (float(value) for value in readouts[T].values)
    assert orjson.loads(messages[3].payload) == {
        "time": "2027-01-15T08:00:00.000Z",
        "readings": {"gw0-0": a, "gw0-1": b, "gw0-2": None},
    }
    assert orjson.loads(messages[4].payload) == {
        "time": "2027-01-15T08:00:00.000Z",
        "points": ["gw1-0", "gw1-1", "gw1-3"],
        "values": [float(readouts[T].values[place]) for place in (4, 5, 7)],
    }


CHANCE = st.sampled_from([0.0, 0.2, 0.9])
UPLINK = st.builds(
    Uplink,
    every=st.integers(1, 3),
    form=FORM,
    batch=st.sampled_from([0, 0, 5]),
    exception=st.sampled_from([None, None, 0, 3.0]),
    heartbeat=st.sampled_from([5.0, 60.0]),
    loss=CHANCE,
    doubled=CHANCE,
    late=CHANCE,
    late_by=st.floats(0, 8),
)


@st.composite
def outages(draw: st.DrawFn) -> Outage:
    begin = draw(st.floats(-2, 30))
    return Outage(
        draw(st.sampled_from([kind for kind in KINDS if kind != "clock"])),
        at(begin),
        at(begin + draw(st.floats(0, 12))),
    )


@given(
    uplinks=st.tuples(UPLINK, UPLINK, UPLINK),
    wrong=st.tuples(*[st.lists(outages(), max_size=3)] * GATEWAYS),
    seed=st.integers(0, 99),
)
def test_nothing_is_invented_and_the_same_seed_says_the_same(
    uplinks: tuple[Uplink, ...], wrong: tuple[list[Outage], ...], seed: int
):
    readouts = shown(30, *FAULTS)
    given_ = stations(*uplinks, outages=wrong)
    messages = run(given_, readouts, seed)
    assert messages == run(given_, readouts, seed)
    for gateway in range(GATEWAYS):
        assert set(decoded(messages, gateway)) <= set(expected(readouts, gateway))
        connected = False
        for message in messages:
            if message.gateway == f"gw{gateway}":
                assert connected == (message.kind is not Kind.ONLINE)  # who is not connected sends nothing
                connected = message.kind in (Kind.ONLINE, Kind.READINGS)


@given(
    uplinks=st.tuples(UPLINK, UPLINK, UPLINK),
    wrong=st.lists(outages(), max_size=3),
    seed=st.integers(0, 99),
)
def test_what_befalls_one_gateway_changes_no_other(
    uplinks: tuple[Uplink, ...], wrong: list[Outage], seed: int
):
    readouts = shown(20)
    with_it = run(stations(*uplinks, outages=(wrong, (), ())), readouts, seed)
    without = run(stations(Uplink(every=5), *uplinks[1:]), readouts, seed)
    for gateway in ("gw1", "gw2"):
        assert [m for m in with_it if m.gateway == gateway] == [m for m in without if m.gateway == gateway]


@given(
    begin=st.floats(-2, 25),
    lasts=st.floats(0, 20),
    batch=st.sampled_from([0, 4]),
    form=FORM,
)
def test_a_split_loses_nothing(begin: float, lasts: float, batch: int, form: str):
    readouts = shown(60)
    split = Outage("split", at(begin), at(begin + lasts))
    messages = run(stations(Uplink(form=form, batch=batch), outages=((split,), (), ())), readouts)
    wanted, sent = expected(readouts, 0), decoded(messages, 0)
    assert sent == wanted[: len(sent)]
    assert not [t for t, _, _ in wanted[len(sent) :] if t <= at(59 - batch)]  # the last batch is not full
    away = [m.kind for m in messages if m.gateway == "gw0" and split.begin < m.at < split.end]
    assert not away


def test_what_a_split_kept_comes_as_lists_oldest_first_and_within_the_limits():
    seconds = 3 * AT_ONCE + 50
    split = Outage("split", at(10), at(10 + 2 * AT_ONCE + 30))
    messages = run(stations(Uplink(), outages=((split,), (), ())), shown(seconds))
    back = [m for m in messages if m.gateway == "gw0" and m.at == split.end]
    assert [m.kind for m in back] == [Kind.ONLINE] + [Kind.READINGS] * 4
    assert [len(orjson.loads(m.payload)) for m in back[1:3]] == [AT_ONCE, AT_ONCE]
    assert len(orjson.loads(back[3].payload)) == 30
    assert isinstance(orjson.loads(back[4].payload), dict)  # the packet of now
    assert statuses(messages) == [(T, Kind.ONLINE), (split.begin, Kind.LOST), (split.end, Kind.ONLINE)]


@pytest.mark.parametrize("length", [5, 120])
def test_a_list_has_neither_too_many_readings_nor_too_many_bytes(length: int):
    ids = tuple(f"P{n:0{length}d}" for n in range(3000))
    split = Outage("split", at(0), at(40))
    station = Station(PLANT, "gw0", 0, ids, Uplink(), (split,))
    uplinks = Uplinks([station], np.random.default_rng(1))
    messages: list[Message] = []
    for second in range(41):
        values = np.full(len(ids), second if length == 5 else 1 / 3 + second)
        messages += uplinks.step(at(second), Readout(values, np.zeros(len(ids), np.uint8)))
    payloads = [orjson.loads(m.payload) for m in messages if m.kind is Kind.READINGS]
    assert max(len(m.payload) for m in messages) <= PAYLOAD
    assert len(payloads) > 3
    packets = [
        packet for payload in payloads for packet in (payload if isinstance(payload, list) else [payload])
    ]
    assert [packet["time"] for packet in packets] == [iso(at(second)) for second in range(41)]
    for payload in payloads:
        if isinstance(payload, list):
            assert sum(len(packet["values"]) for packet in payload) <= READINGS


@given(
    form=FORM,
    multiple=st.sampled_from([0.0, 1.0, 4.0]),
    every=st.integers(1, 3),
    heartbeat=st.sampled_from([4.0, 1000.0]),
    seed=st.integers(0, 20),
)
def test_by_exception_the_last_value_heard_is_never_off_by_more_than_the_deadband(
    form: str, multiple: float, every: int, heartbeat: float, seed: int
):
    readouts = shown(40, *FAULTS, seed=seed)
    uplink = Uplink(form=form, exception=multiple, every=every, heartbeat=heartbeat)
    messages = run(stations(uplink), readouts)
    for gateway in range(GATEWAYS):
        sent = decoded(messages, gateway)
        assert set(sent) <= set(expected(readouts, gateway, every))
        packets = {(t, point): value for t, point, value in sent}
        heard: dict[int, tuple[int, float | None]] = {}
        for t, point, value in expected(readouts, gateway, every):
            was = heard.get(point)
            if (t, point) in packets:
                heard[point] = t, packets[t, point]
            since, last = heard[point]
            if value is None or last is None:
                assert value is last
            else:
                assert abs(last - value) <= multiple * 0.1 + 1e-9
            assert t - since < heartbeat * SECOND
            if was is not None and since == t:  # nothing is sent without a reason
                old = was[1]
                moved = old is None or value is None or abs(value - old) > multiple * 0.1 - 1e-9
                assert moved or t - was[0] >= heartbeat * SECOND
    if multiple == 4.0 and heartbeat == 1000.0:
        assert len(decoded(messages, 0)) < len(expected(readouts, 0, every)) * 0.7


def test_by_exception_a_gateway_that_was_without_power_says_all_again():
    readouts = {at(s): Readout(np.full(12, 7.0), np.zeros(12, np.uint8)) for s in range(10)}
    dead = Outage("dead", at(3), at(5))
    messages = run(stations(Uplink(exception=1.0), outages=((dead,), (), ())), readouts)
    assert [(t - T) // SECOND for t, _, _ in decoded(messages, 0)] == [0] * POINTS + [5] * POINTS
    assert [(t - T) // SECOND for t, _, _ in decoded(messages, 1)] == [0] * POINTS


def test_loss_doubling_and_lateness_befall_as_many_messages_as_their_chances_say():
    readouts = shown(2000)
    given_ = stations(Uplink(loss=0.1), Uplink(doubled=0.1), Uplink(late=0.1, late_by=7.4))
    messages = run(given_, readouts)
    lost = decoded(messages, 0)
    assert len(lost) / POINTS == pytest.approx(1800, abs=60)
    assert lost == sorted(lost)
    doubled = decoded(messages, 1)
    assert len(doubled) / POINTS == pytest.approx(2200, abs=60)
    assert sorted(set(doubled)) == sorted(expected(readouts, 1))
    times = [
        (m.at, orjson.loads(m.payload)["time"])
        for m in messages
        if m.gateway == "gw2" and m.kind is Kind.READINGS
    ]
    late = [pair for pair in times if iso(pair[0]) != pair[1]]
    assert len(late) == pytest.approx(200, abs=60)
    assert all(iso(sent - 7_400_000) == time for sent, time in late)
    assert len({time for _, time in times}) == len(times)


def test_a_late_message_is_lost_with_its_gateways_power_and_waits_for_its_network():
    late = Uplink(late=1.0, late_by=5.0)
    dead = Outage("dead", at(6.5), at(9.5))
    split = Outage("split", at(6.5), at(9.5))
    readouts = shown(30)
    messages = run(stations(late, outages=((dead,), (split,), ())), readouts)
    seconds = [(t - T) // SECOND for t, _, _ in decoded(messages, 0)[::POINTS]]
    assert seconds == [0, 1, *range(10, 25)]  # 2 to 6 waited when the power went, 7 to 9 never were
    returned = [m for m in messages if m.gateway == "gw1" and m.at == split.end]
    assert returned[0].kind is Kind.ONLINE
    assert len(returned) == 1 + 3  # those of 2, 3 and 4 would have left at 7, 8 and 9
    assert sorted({(t - T) // SECOND for t, _, _ in decoded(messages, 1)}) == list(range(25))


@pytest.mark.parametrize("kind", ["dead", "restart"])
def test_without_power_nothing_is_sent_or_kept_and_both_ends_are_said(kind: str):
    readouts = shown(20)
    outage = Outage(kind, at(4.25), at(9))
    messages = run(stations(Uplink(), outages=((outage,), (), ())), readouts)
    assert statuses(messages) == [(T, Kind.ONLINE), (at(4.25), Kind.LOST), (at(9), Kind.ONLINE)]
    assert decoded(messages, 0) == [r for r in expected(readouts, 0) if not at(4.25) <= r[0] < at(9)]
    farewell = next(m for m in messages if m.kind is Kind.LOST)
    assert status(farewell.payload) is False
    assert farewell.topic.endswith("/status")


def test_a_hung_gateway_stays_connected_and_says_nothing_and_forgets_its_batch():
    readouts = shown(21)
    outage = Outage("hung", at(4), at(9))
    messages = run(
        stations(Uplink(), Uplink(batch=10), Uplink(), outages=((outage,), (outage,), ())), readouts
    )
    assert statuses(messages) == [(T, Kind.ONLINE)]
    assert decoded(messages, 0) == [r for r in expected(readouts, 0) if not at(4) <= r[0] < at(9)]
    seconds = {(t - T) // SECOND for t, _, _ in decoded(messages, 1)}
    assert seconds == {0, *range(9, 21)}


def test_who_has_no_power_at_first_says_online_when_it_has():
    outage = Outage("dead", at(-5), at(3))
    messages = run(stations(Uplink(), outages=((outage,), (), ())), shown(6))
    assert statuses(messages) == [(at(3), Kind.ONLINE)]
    assert statuses(messages, 1) == [(T, Kind.ONLINE)]


def test_clocks_are_ahead_and_gain_and_jump_and_go_mad():
    given_ = stations(
        Uplink(clock_offset=2.5),
        Uplink(clock_drift=-1000.0, clock_offset=0.0004),
        Uplink(),
        outages=(
            (Outage("clock", at(10), at(20), by=-3600.0),),
            (),
            (Outage("clock", at(10), at(20), by=5.0, mad=True),),
        ),
    )
    messages = run(given_, shown(30))
    jumped, gained, mad = (
        [t - at(second) for second, (t, _, _) in enumerate(decoded(messages, gateway)[::POINTS])]
        for gateway in range(GATEWAYS)
    )
    assert jumped == [2_500_000] * 10 + [2_500_000 - 3600 * SECOND] * 10 + [2_500_000] * 10
    assert gained == [-second * MS for second in range(30)]
    assert mad[:10] == mad[20:] == [0] * 10
    assert len(set(mad[10:20])) == 10
    assert all(abs(off) <= 5 * SECOND and off % MS == 0 for off in mad[10:20])


def test_what_cannot_be_is_said():
    random = np.random.default_rng(1)
    with pytest.raises(ValueError, match="another gateway has"):
        Uplinks([*stations(Uplink()), Station(PLANT, "gw9", 11, ("x",))], random)
    with pytest.raises(ValueError, match="may not fit"):
        Uplinks([Station(PLANT, "gw0", 0, tuple(f"{n:0100d}" for n in range(20_000)))], random)
    with pytest.raises(ValueError, match="no resolution"):
        Uplinks(stations(Uplink(exception=1.0)), random)
    with pytest.raises(ValueError, match="values for 12 points"):
        Uplinks(stations(Uplink()), random).step(T, Readout(np.zeros(3), np.zeros(3, np.uint8)))
    for wrong in ({"form": "xml"}, {"every": 0.0}, {"loss": 1.1}):
        with pytest.raises(ValueError, match=r"expected|at least|chance"):
            replace(Uplink(), **wrong)
    with pytest.raises(ValueError, match="no fault of a gateway"):
        Outage("broken", 0, 1)
    with pytest.raises(ValueError, match="ends before"):
        Outage("dead", 1, 0)


def test_points_that_no_gateway_has_are_sent_by_none():
    lone = [Station(PLANT, "gw1", POINTS, IDS[1], Uplink(exception=0))]
    readouts = {T: Readout(np.arange(12.0), np.full(12, GOOD, np.uint8))}
    messages = Uplinks(lone, np.random.default_rng(1), resolution=RESOLUTION).step(T, readouts[T])
    assert [point for _, point, _ in decoded(messages, 1)] == [4, 5, 6, 7]
