"""A small city whose gateways send every second, while a cluster's processes die; and all that must come of it."""

import csv
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

import yaml
from confluent_kafka import Consumer, TopicPartition
from sqlalchemy import select

from alerting.alert import Alert, Condition, NoticeState, Role
from alerting.tables import outbox
from ingest import topics
from ingest.topics import Topics
from registry import slots
from registry.clock import SECOND, SystemClock, stopwatch
from registry.database import reading
from simulators.gateway import rows
from streams import report
from streams.finding import Tier, finding_id
from tests.cluster_rehearsal import ClusterRehearsal
from tests.folders import write_registry

WELL, ALARM, DANGER = 5.0, 30.0, 60.0  # %LEL: H is 25, HH is 50
EVERY = 1.0
"""Seconds between two messages of a gateway."""

INTERVAL = 10 * SECOND
"""After so long a point that says nothing is silent, µs."""

ON_DELAY = 12 * SECOND
"""Of the points D1: so long must a limit be held, µs."""

_moment = threading.Event()  # never set: a pause
_clock = SystemClock()


def write_city(folder: Path, *, enterprises: int, points: int) -> list[str]:
    """Write a registry; the credit codes. P1 ... are plain, U1 and U2 are of one unit, D1 waits, S1 may fall silent."""
    codes = write_registry(folder, enterprises=enterprises, points=0, confirm_within="60s")
    common = {"gateway": "gw1", "kind": "combustible_gas", "engineering_unit": "%LEL", "range_low": 0}
    common |= {
        "range_high": 100,
        "H": 25,
        "H_reset": 20,
        "HH": 50,
        "HH_reset": 45,
        "unit": "",
        "on_delay": "",
    }
    common["interval"] = f"{INTERVAL // SECOND}s"
    own = {"U1": {"unit": "R1"}, "U2": {"unit": "R1"}, "D1": {"on_delay": f"{ON_DELAY // SECOND}s"}, "S1": {}}
    names = {f"P{number}": {} for number in range(1, points + 1)} | own
    enterprises_file = folder / "enterprises.yaml"
    listed = yaml.safe_load(enterprises_file.read_text("utf-8"))
    for entry in listed:
        entry["units"] = [{"id": "R1", "name": "R1"}]
    enterprises_file.write_text(yaml.safe_dump(listed, allow_unicode=True), "utf-8")
    with (folder / "points.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["enterprise", "point", *common])
        writer.writeheader()
        for code in codes:
            for point, more in names.items():
                writer.writerow({**common, "enterprise": code, "point": point, **more})
    return codes


@dataclass
class Excursion:
    """What must become one alert.

    since: device time, µs; of silence, of the last reading. delay: after which it is known, µs. ended: 0 until then.
    """

    rule: str
    enterprise: str
    subject: str
    since: int
    level: str
    tier: Tier
    delay: int = 0
    ended: int = 0

    @property
    def key(self) -> tuple[str, str, str]:
        """Each point has at most one excursion of a rule, so this says which."""
        return self.rule, self.enterprise, self.subject

    @property
    def id(self) -> str:
        return finding_id(self.rule, self.enterprise, self.subject, self.since)


class Told(NamedTuple):
    """A report of a slot. at: by Kafka's clock, µs. offset: of the record of readings that gave it."""

    at: int
    offset: int


class City:
    """Gateways that send, and ears that hear what workers tell; use in a ``with``, once the rehearsal has started."""

    def __init__(self, running: ClusterRehearsal, codes: list[str], points: int, seed: int = 1) -> None:
        self.running, self.codes = running, codes
        self._draw = random.Random(seed)
        self._points = [*(f"P{number}" for number in range(1, points + 1)), "U1", "U2", "D1", "S1"]
        self._fresh = [(code, point) for code in codes for point in (*self._points[:points], "U1")]
        self._draw.shuffle(self._fresh)
        self._coming: dict[tuple[str, str], list[float]] = defaultdict(list)  # values of the next seconds
        self._mute: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._planned: dict[tuple[str, str, str], Excursion] = {}
        self._open: dict[tuple[str, str], list[Excursion]] = defaultdict(list)
        self.sent: dict[tuple[str, str], list[int]] = defaultdict(list)  # device times of each point
        self.told: dict[str, list[Told]] = defaultdict(list)
        self._rung: set[str] = set()  # alerts
        self._deaf: list[tuple[int, int]] = []
        self._stop, self._calm = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._listen)]

    def __enter__(self) -> "City":
        for code in self.codes:
            self.running.gateway(code, "gw1")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    # -- what happens ----------------------------------------------------------------------------

    def lives(self, seconds: float) -> None:
        """Let real time pass."""
        _moment.wait(seconds)

    def calm(self) -> None:
        """Nothing new happens from now on; all goes on being sent."""
        self._calm.set()

    def begin(self, point: str, codes: Iterable[str], seconds: int) -> None:
        """Hold the HH of a point of these for so long, beginning with the next message."""
        with self._lock:
            for code in codes:
                self._coming[code, point] = [DANGER] * seconds

    def mute(self, point: str, codes: Iterable[str]) -> None:
        """A point of these is not sent any more."""
        with self._lock:
            for code in codes:
                self._mute.add((code, point))
                since = self.sent[code, point][-1]
                fallen = Excursion("silent", code, f"point:{point}", since, "", Tier.IV, INTERVAL)
                self._planned[fallen.key] = fallen

    def unmute(self, point: str, codes: Iterable[str]) -> None:
        with self._lock:
            for code in codes:
                self._mute.discard((code, point))
                self._planned["silent", code, f"point:{point}"].ended = _clock.now()

    def _send(self) -> None:
        due = stopwatch()
        while not self._stop.wait(max(0.0, due - stopwatch())):
            due += EVERY
            with self._lock:
                if not self._calm.is_set():
                    for _ in range(self._draw.randrange(0, 3)):
                        self._start()
                for code in self.codes:
                    self._publish(code)

    def _start(self) -> None:
        """Another point is to rise: to H, to HH, or to H and then HH; two of one unit rise together."""
        if not self._fresh:
            return
        code, point = self._fresh.pop()
        seconds = self._draw.randrange(3, 7)
        values = [DANGER] * seconds
        if point != "U1":
            high = self._draw.choice((0, seconds - 1, seconds))  # seconds of H
            values[:high] = [ALARM] * high
        for one in ("U1", "U2") if point == "U1" else (point,):
            self._coming[code, one] = list(values)

    def _publish(self, code: str) -> None:
        time = _clock.now() // 1000 * 1000
        values = {}
        for point in self._points:
            if (code, point) in self._mute:
                continue
            coming = self._coming[code, point]
            values[point] = coming.pop(0) if coming else WELL
            self._note(code, point, values[point], time)
            self.sent[code, point].append(time)
        self.running.gateway(code, "gw1").publish(rows(time, values))

    def _note(self, code: str, point: str, value: float, time: int) -> None:
        """What must come of a value."""
        key = (code, point)
        if value == WELL:
            for over in self._open.pop(key, ()):
                over.ended = time
            return
        level, tier = ("H", Tier.IV) if value == ALARM else ("HH", Tier.II)
        if key in self._open:
            limit = self._open[key][0]
            limit.level, limit.tier = level, tier
            return
        delay = ON_DELAY if point == "D1" else 0
        begun = [Excursion("limit.high", code, f"point:{point}", time, level, tier, delay)]
        if point == "U2":
            begun.append(Excursion("compound.gas-release", code, "unit:R1", time, "two-detectors", Tier.II))
        for one in begun:
            self._planned[one.key] = one
            self._open[key].append(one)

    def _listen(self) -> None:
        """When workers told how far they are: a mark follows each second's readings five times."""
        cluster = self.running.cluster
        consumer = Consumer({"bootstrap.servers": cluster.kafka, "group.id": "ears", "log_level": 0})
        name = Topics(cluster.topics).findings
        consumer.assign([TopicPartition(name, number, 0) for number in range(cluster.shards)])
        while not self._stop.is_set():
            for message in consumer.consume(500, 0.1):
                if message.error() is None:  # Kafka may be away
                    heard = report.decode(message.value() or b"")
                    self.told[heard.source].append(Told(message.timestamp()[1] * 1000, heard.offset))
        consumer.close()

    # -- what came of it -------------------------------------------------------------------------

    def until(
        self, what: str, look: Callable[[], object], within: float = 60.0, *, gone: bool = False
    ) -> float:
        """Wait until there is something, or until it is gone; seconds that it took."""
        begun = stopwatch()
        while bool(found := look()) is gone:
            assert stopwatch() - begun < within, (
                f"{what}: not within {within:.0f} s: {found}\n{self.running.log_tail(30)}"
            )
            _moment.wait(0.2)
        return stopwatch() - begun

    def takeover(self, killed: int, lost: Iterable[int]) -> str:
        """From a kill (wall, µs) to the next judged reading, of each enterprise of these slots; waits for it."""
        places = {code: slots.slot_of(code, self.running.cluster.slots) for code in self.codes}
        moved = {code: slot for code, slot in places.items() if slot in set(lost)}
        assert moved, "nothing of the city was there"
        seconds: dict[str, float] = {}

        def judged() -> bool:
            for slot in {moved[code] for code in moved.keys() - seconds.keys()}:
                first = self._first_readings(slot, killed)
                told = list(self.told[f"readings/{slot}"])
                for code in moved.keys() & first.keys():
                    after = [one.at for one in told if one.offset >= first[code] and one.at > killed]
                    if after:
                        seconds[code] = (min(after) - killed) / SECOND
            return len(seconds) == len(moved)

        self.until("every enterprise of the slots is judged again", judged)
        times = sorted(seconds.values())
        return (
            f"{len(times)} enterprises judged again after {median(times):.1f} s, at worst {times[-1]:.1f} s"
        )

    def deaf(self, since: int) -> None:
        """From then until now nothing that was sent could be read; it was heard together, later."""
        self._deaf.append((since, _clock.now()))

    def longest_pauses(self, since: int) -> str:
        """Of each slot, since then: how long its worker told nothing at all, not even that time passes."""
        pauses = []
        for slot in range(self.running.cluster.slots):
            at = [since, *(one.at for one in list(self.told[f"readings/{slot}"]) if one.at > since)]
            pauses.append(max(later - one for one, later in pairwise(at)) / SECOND)
        return f"slots stood still for {median(pauses):.1f} s, at worst {max(pauses):.1f} s"

    def _first_readings(self, slot: int, after: int) -> dict[str, int]:
        """By enterprise, the offset of the first reading that was sent after then."""
        cluster = self.running.cluster
        part = slots.part(self.running.registry, slot, cluster.slots)
        found: dict[str, int] = {}
        for offset, entry in _records(cluster.kafka, Topics(cluster.topics).readings, slot, after // 1000):
            taken = entry.round.readings
            for row in taken.row[taken.time > after].tolist():
                found.setdefault(part.gateways[part.points.gateway[row]].enterprise, offset)
        return found

    def knows(self, point: str) -> bool:
        """Whether there is an alert of this point of every enterprise."""
        subject = f"point:{point}"
        return {alert.enterprise for alert in self.alerts() if alert.subject == subject} == {*self.codes}

    def settle(self, what: str, within: float = 60.0, *, nothing_new: bool = False) -> None:
        """See that all that was sent is in the readings, wait until all that has happened by now is known and rung, and
        see that it is right.

        nothing_new: nothing need have happened since the last time.
        """
        now = _clock.now()
        self.check_journal()
        took = self.until(f"after {what}, that all is known", lambda: self._unknown(now), within, gone=True)
        self.until(f"after {what}, that all notices have rung", lambda: self._waiting(now), within, gone=True)
        self.check(now)
        late = self._lateness()
        assert late or nothing_new, "nothing happened meanwhile: that shows nothing"
        print(f"{what}: known after {took:.1f} s; {late}")

    def planned(self) -> dict[tuple[str, str, str], Excursion]:
        with self._lock:
            return dict(self._planned)

    def alerts(self) -> list[Alert]:
        """Those of enterprises: what is of a whole cell hangs on what happens to coincide."""
        return [alert for alert in self.running.alerts() if alert.enterprise]

    def _unknown(self, by: int) -> list[Excursion]:
        """What had begun by then and is no alert yet, or had ended and is an alert that has not."""
        planned = self.planned()
        found = {(one.rule, one.enterprise, one.subject): one for one in self.alerts()}
        return [
            one
            for key, one in planned.items()
            if one.since + one.delay <= by
            and not (one.rule.startswith("compound.") and self._came_and_went(one))
            and (key not in found or (0 < one.ended <= by and found[key].condition is not Condition.ENDED))
        ]

    def _came_and_went(self, one: Excursion) -> bool:
        """Whether it was over before anything of it could be heard: of a compound rule, which judges together what is
        heard together, nobody can know then.
        """
        return any(start < one.since and 0 < one.ended < end for start, end in self._deaf)

    def _waiting(self, by: int) -> list[str]:
        """Notices that were made by then and have not gone out."""
        columns = outbox.c
        states = (NoticeState.WAITING, NoticeState.SENDING)
        query = select(columns.id).where(columns.created <= by, columns.due <= by, columns.state.in_(states))
        with reading(self.running.database) as connection:
            return list(connection.execute(query).scalars())

    def check(self, by: int) -> None:
        """No alert missing, none doubled, none of nothing, each as it must be; no notice lost, no repeat unmarked.

        Of what had happened by then, µs.
        """
        alerts = self.alerts()
        planned = self.planned()  # after: whatever the alerts tell of is in it
        count = Counter((alert.rule, alert.enterprise, alert.subject) for alert in alerts)
        assert count.keys() <= planned.keys(), f"of nothing: {sorted(count.keys() - planned.keys())}"
        assert set(count.values()) <= {1}, "doubled"
        for alert in alerts:
            it = planned[alert.rule, alert.enterprise, alert.subject]
            if alert.rule == "limit.high":
                assert (alert.id, alert.since) == (it.id, it.since)
            assert alert.reopened == 0
            if 0 < it.ended <= by:
                assert (alert.level, alert.tier, alert.condition) == (it.level, it.tier, Condition.ENDED), (
                    alert
                )
                if alert.rule == "limit.high":
                    assert alert.time == it.ended
        self._check_rings(alerts)

    def _check_rings(self, alerts: list[Alert]) -> None:
        columns = outbox.c
        with reading(self.running.database) as connection:
            notices = connection.execute(
                select(columns.id, columns.alert, columns.step, columns.person, columns.role, columns.state)
            ).all()
        rings = self.running.rings()  # after: who is said to be told has been
        heard: set[object] = set()
        for ring in rings:
            assert ring["repeat"] or ring["id"] not in heard, f"an unmarked repeat: {ring}"
            heard.add(ring["id"])
        lost = {one.id for one in notices if one.state == NoticeState.DELIVERED} - heard
        assert not lost, f"said to be told, and never rung: {lost}"
        assert not [one for one in notices if one.state == NoticeState.FAILED]
        asked = {(one.alert, one.person) for one in notices if one.role == Role.ASKED and one.step == 1}
        for alert in alerts:
            assert (alert.id, f"operator-{alert.enterprise}") in asked, f"nobody was asked: {alert}"

    def _lateness(self) -> str:
        """How long after a limit was reached somebody's phone rang first, of alerts that were not asked for before."""
        limits = {
            one.id: one.since for one in self.planned().values() if one.rule == "limit.high" and not one.delay
        }
        first: dict[str, float] = {}
        for ring in self.running.rings():
            first.setdefault(str(ring["alert"]), float(str(ring["heard"])))
        fresh = limits.keys() & first.keys() - self._rung
        self._rung |= fresh
        late = sorted(first[id] - limits[id] / SECOND for id in fresh)
        return (
            f"{len(late)} alerts, first rung after {median(late):.1f} s, at worst {late[-1]:.1f} s"
            if late
            else ""
        )

    def check_histories(self) -> None:
        """Nothing is missing in what was told of an alert; what was done late says so, and by how much."""
        for alert in self.running.alerts():
            steps = self.running.steps(alert.id)
            assert not [step for step in steps if step.detail.gap], steps
            assert [step.event for step in steps].count("begun") <= 1
            for step in (one for one in steps if one.due):
                assert (step.late > 0) == (step.time - step.due > 2 * SECOND), step
                assert step.late in (0, step.time - step.due), step

    def check_house(self) -> None:
        """What the system told of itself is over, and nothing of it was a loss."""
        own = [alert for alert in self.running.alerts() if alert.rule.startswith("system.")]
        for alert in own:
            print(
                f"told of itself: {alert.rule} {alert.subject} {alert.condition} {' '.join(alert.evidence)}"
            )
        assert not [alert for alert in own if alert.rule in ("system.lost", "system.engine")]
        assert not [alert for alert in own if alert.condition is not Condition.ENDED]

    def check_journal(self) -> None:
        """All that was sent is in the readings, once, and that of each point in the order of its times."""
        for gateway in self.codes:
            self.running.gateway(gateway, "gw1").flush()
        with self._lock:
            sent = {key: list(times) for key, times in self.sent.items()}
        wanted = sum(map(len, sent.values()))
        found: dict[tuple[str, str], list[int]] = {}

        def arrived() -> bool:
            nonlocal found
            found = self._journal()
            return sum(map(len, found.values())) >= wanted

        self.until("all that was sent is in the readings", arrived)
        for key, times in sent.items():
            got = found[key]
            assert got[: len(times)] == times, f"{key}: {_first_difference(got, times)}"

    def _journal(self) -> dict[tuple[str, str], list[int]]:
        """Device times of each point, in the order in which they are judged."""
        cluster = self.running.cluster
        found: dict[tuple[str, str], list[int]] = defaultdict(list)
        for slot in range(cluster.slots):
            part = slots.part(self.running.registry, slot, cluster.slots)
            homes = [gateway.enterprise for gateway in part.gateways]
            names = [
                (homes[gateway], point)
                for gateway, point in zip(part.points.gateway.tolist(), part.points.id, strict=True)
            ]
            term = 0
            for _, entry in _records(cluster.kafka, Topics(cluster.topics).readings, slot):
                if entry.term < term:
                    continue  # of an owner that had lost the slot
                term = entry.term
                taken = entry.round.readings
                for row, time in zip(taken.row.tolist(), taken.time.tolist(), strict=True):
                    found[names[row]].append(time)
        return found


def _first_difference(got: list[int], wanted: list[int]) -> str:
    place = next((n for n, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), len(got))
    around = slice(max(0, place - 2), place + 3)
    return f"{len(got)} of {len(wanted)}; from {place} on it is {got[around]}, not {wanted[around]}"


def _records(
    kafka: str, topic: str, partition: int, since: int | None = None
) -> Iterator[tuple[int, topics.Entry]]:
    """All that is in a partition now, with offsets; what has come since a time, ms."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "looker", "log_level": 0})
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
        offset = 0
        if since is not None:
            [place] = consumer.offsets_for_times([TopicPartition(topic, partition, since)], timeout=30)
            offset = place.offset if place.offset >= 0 else end
        consumer.assign([TopicPartition(topic, partition, offset)])
        while offset < end:
            for message in consumer.consume(1000, 1.0):
                if message.error() is None:
                    offset = (message.offset() or 0) + 1
                    yield offset - 1, topics.decode(message.value() or b"", message.headers())
    finally:
        consumer.close()


@contextmanager
def city(running: ClusterRehearsal, codes: list[str], points: int) -> Iterator[City]:
    """A started rehearsal, and the city that lives on it."""
    with running, City(running, codes, points) as made:
        yield made
