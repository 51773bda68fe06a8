"""What must hold when things break: killed processes, lost brokers, full disks, locked databases, rubbish as input."""

import os
import random
import signal
import socket
import sqlite3
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from msgspec.structs import replace
from paho.mqtt.enums import CallbackAPIVersion

from alerting import store
from alerting.alert import Alert, Condition, Notice, NoticeState
from alerting.desk import Desk
from alerting.tables import upgrade
from fenghuo.rehearsal import Rehearsal
from ingest import journal
from ingest.readings import Round
from registry import versions
from registry.clock import HOUR, SECOND
from registry.database import open_database, reading, writing
from registry.mistakes import RegistryErrors
from registry.store import Change
from simulators.gateway import rows
from streams import configuration
from streams.evaluator import Evaluator
from streams.finding import Phase, Tier, finding_id
from tests.disks import fill, small_disk
from tests.folders import write_registry
from tests.servers import needs_mosquitto

pytestmark = [pytest.mark.mosquitto, needs_mosquitto]


def wait(seconds: float) -> None:
    """Let the real processes run on their real clock."""
    threading.Event().wait(seconds)


def heard(rehearsal: Rehearsal) -> Counter[tuple[int, int]]:
    """How often each (row, device time) stands in the journal."""
    found: Counter[tuple[int, int]] = Counter()
    for _, round_ in journal.read(rehearsal.data / "journal", 0):
        found.update(zip(round_.readings.row.tolist(), round_.readings.time.tolist(), strict=True))
    return found


def findings(rehearsal: Rehearsal, rule: str, before: int = 1 << 62) -> set[str]:
    """Ids of all findings of a rule that the desk holds and that began before a time, µs."""
    query = "SELECT id FROM findings WHERE rule = ? AND since < ?"
    with sqlite3.connect(f"file:{rehearsal.data / 'desk.sqlite'}?mode=ro", uri=True) as connection:
        return {row[0] for row in connection.execute(query, (rule, before))}


def told(alerts: list[Alert], notices: Callable[[str], list[Notice]]) -> list[tuple[object, ...]]:
    """What must be the same whatever died: the alerts, and who was called for each at once."""
    same = []
    for a in sorted(alerts, key=lambda alert: alert.id):
        facts = (
            a.id,
            a.rule,
            a.enterprise,
            a.subject,
            a.tier,
            a.level,
            a.condition,
            a.since,
            a.time,
            a.reopened,
        )
        called = sorted((n.person, n.role, n.id) for n in notices(a.id) if n.step == 1)
        same.append((*facts, *called))
    return same


def undisturbed(rehearsal: Rehearsal, folder: Path) -> list[tuple[object, ...]]:
    """The same journal through one engine and a fresh desk, in one go: nothing is killed here."""
    database = open_database(folder / "undisturbed.sqlite")
    upgrade(database)
    engine: Evaluator | None = None
    desk = Desk(database, rehearsal.registry)
    for offset, round_ in journal.read(rehearsal.data / "journal", 0):
        if round_.version is not None:
            coming = configuration.load(rehearsal.data / "versions", round_.version)
            engine = engine or Evaluator(coming, round_.time)
            found = engine.reconfigure(coming, round_.time, round_.listening)
        else:
            found = engine.apply(round_)
        desk.round(found, offset, round_.time)
    with reading(database) as connection:
        everything = store.Scope(system=True)
        alerts = store.alerts(connection, everything, limit=1_000_000)
        return told(alerts, lambda alert: store.notices(connection, everything, alert))


class Plants:
    """Gateways whose points rise above their limits and fall again, and what must come of it."""

    def __init__(self, rehearsal: Rehearsal, codes: list[str], points: int, seed: int) -> None:
        self.rehearsal = rehearsal
        self.codes = codes
        self.points = points
        self.random = random.Random(seed)
        self.sent: set[tuple[int, int]] = set()
        self.begun: set[str] = set()  # ids of the findings that must be made
        self._high: dict[tuple[str, str], bool] = defaultdict(bool)
        self._last = 0

    def publish(self) -> None:
        """One message of each gateway; now and then a point goes above its HH or comes back."""
        for code in self.codes:
            time = self._last = max(self._last + 1000, self.rehearsal.now // 1000 * 1000)
            values = {}
            for number in range(1, self.points + 1):
                point = f"P{number}"
                if self.random.random() < 0.04:
                    self._high[code, point] ^= True
                    if self._high[code, point]:
                        self.begun.add(finding_id("limit.high", code, f"point:{point}", time))
                values[point] = 60.0 if self._high[code, point] else 5.0
                self.sent.add((self.rehearsal.registry.rows[code][point], time))
            self.rehearsal.publish(code, "gw1", time, values)


@pytest.mark.parametrize(
    "kills", [10, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)
def test_killed_at_random_moments_nothing_is_lost_and_nothing_rings_twice_unmarked(
    tmp_path: Path, kills: int
) -> None:
    codes = write_registry(tmp_path / "registry", enterprises=5, points=4, confirm_within="4s")
    with Rehearsal(tmp_path, tmp_path / "registry", None) as running:
        plants = Plants(running, codes, 4, seed=kills)
        for number in range(kills):
            for _ in range(plants.random.randrange(10, 60)):
                plants.publish()
                wait(0.01)
            running.kill(("judge", "serving")[number % 2])
            for _ in range(20):
                plants.publish()
                wait(0.01)
            if number % 2 == 0:
                running.await_judge()
        running.settle()
        running.settle_desk()
        running.settle_notices()

        # every reading is in the journal, once, whatever died when
        found = heard(running)
        assert set(found) == plants.sent
        assert max(found.values()) == 1

        # the findings are those of an undisturbed run, by id, and each is of an alert
        assert findings(running, "limit.high") == plants.begun
        assert plants.begun
        alerts = running.alerts()
        plain = [a for a in alerts if not a.rule.startswith("system.")]
        assert told(plain, running.notices) == undisturbed(running, tmp_path)

        # every notice has rung, and no second ring is unmarked
        notices = {notice.id for alert in alerts for notice in running.notices(alert.id)}
        rings = running.rings()
        assert {ring["id"] for ring in rings} == notices
        unmarked = Counter(ring["id"] for ring in rings if not ring["repeat"])
        assert max(unmarked.values()) == 1
        # no deadline was missed without its record saying so
        deadlines = [s for a in alerts for s in running.steps(a.id) if s.event == "confirm_due"]
        assert deadlines
        for step in deadlines:
            assert (step.late > 0) == (step.time - step.due > 2 * SECOND)
            assert step.late in (0, step.time - step.due)


def test_a_broker_that_dies_and_comes_back_loses_nothing_and_makes_no_false_silence(tmp_path: Path) -> None:
    codes = write_registry(tmp_path / "registry", enterprises=2, points=2, interval="4s")
    with Rehearsal(tmp_path, tmp_path / "registry", None) as running:
        plants = Plants(running, codes, 2, seed=1)
        for _ in range(30):
            plants.publish()
            wait(0.05)
        running.settle()
        supervisor, broker = running.supervisor, running.pid("broker")
        os.kill(supervisor, signal.SIGSTOP)  # or it would have the broker back before any point is missed
        os.kill(broker, signal.SIGKILL)
        for _ in range(70):
            plants.publish()
            wait(0.1)
        os.kill(supervisor, signal.SIGCONT)
        for _ in range(30):
            plants.publish()
            wait(0.1)
        last = running.now  # after this they are silent indeed
        running.settle()
        running.settle_desk()
        assert set(heard(running)) >= plants.sent
        assert findings(running, "limit.high") == plants.begun
        assert not findings(running, "silent", last) | findings(running, "gateway.offline", last)
        running.wait_for("what an administrator is told", lambda: bool(findings(running, "system.lost")))
        running.wait_for("the end of the mark", lambda: not (running.data / "broker.died").exists())


@pytest.mark.parametrize("seconds", [8, pytest.param(30, marks=pytest.mark.long)])
def test_a_stalled_judge_takes_its_own_silence_for_nobody_elses(tmp_path: Path, seconds: int) -> None:
    codes = write_registry(tmp_path / "registry", enterprises=2, points=2, interval="3s")
    with Rehearsal(tmp_path, tmp_path / "registry", None) as running:
        plants = Plants(running, codes, 2, seed=2)
        for _ in range(10):
            plants.publish()
            wait(0.1)
        running.settle()
        os.kill(running.pid("judge"), signal.SIGSTOP)
        for _ in range(seconds):
            plants.publish()
            wait(1)
        os.kill(running.pid("judge"), signal.SIGCONT)
        for _ in range(20):
            plants.publish()
            wait(0.1)
        last = running.now  # after this they are silent indeed
        running.settle()
        running.settle_desk()
        assert set(heard(running)) == plants.sent
        assert findings(running, "limit.high") == plants.begun
        assert not findings(running, "silent", last) | findings(running, "gateway.offline", last)


@pytest.mark.long
def test_what_came_and_went_while_we_were_away_rings_when_we_are_back(tmp_path: Path) -> None:
    codes = write_registry(tmp_path / "registry", enterprises=1, points=1)
    with Rehearsal(tmp_path, tmp_path / "registry", None) as running:
        running.publish(codes[0], "gw1", running.now, {"P1": 5.0})
        running.settle()
        running.stop()
        begun, ended = running.now // 1000 * 1000, running.now // 1000 * 1000 + SECOND
        for time, value in (begun, 60.0), (ended, 5.0):
            running.publish(codes[0], "gw1", time, {"P1": value})
        wait(65)
        running.start()
        running.settle_desk()
        [alert] = [one for one in running.alerts() if one.rule == "limit.high"]
        assert (alert.since, alert.time, alert.condition) == (begun, ended, Condition.ENDED)
        assert alert.raised > begun + 60 * SECOND
        running.settle_notices()
        assert alert.id in {ring["alert"] for ring in running.rings()}


def test_a_desk_locked_for_ten_seconds_delays_alerts_but_no_reading(tmp_path: Path) -> None:
    codes = write_registry(tmp_path / "registry", enterprises=1, points=1)
    with Rehearsal(tmp_path, tmp_path / "registry", None) as running:
        running.publish(codes[0], "gw1", running.now, {"P1": 5.0})
        running.settle()
        offset = running.said().offset
        lock = sqlite3.connect(running.data / "desk.sqlite", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        running.publish(codes[0], "gw1", running.now, {"P1": 60.0})
        for _ in range(10):
            wait(1)
            running.publish(codes[0], "gw1", running.now, {"P1": 61.0})
        running.settle()  # judged although the desk is locked
        assert running.said().offset > offset
        assert running.said().waiting
        lock.execute("ROLLBACK")
        lock.close()
        running.settle_desk()
        [alert] = running.alerts()
        [begun, *_] = running.steps(alert.id)
        assert begun.event == "begun"
        assert begun.late > 8 * SECOND, "it says that it was late, and by how much"


def test_a_full_disk_is_an_alert_and_back_pressure_never_a_loss(tmp_path: Path) -> None:
    codes = write_registry(tmp_path / "registry", enterprises=1, points=2)
    with (
        small_disk(tmp_path / "disk", "48m") as disk,
        Rehearsal(disk, tmp_path / "registry", None) as running,
    ):
        plants = Plants(running, codes, 1, seed=3)
        for _ in range(1200):
            plants.publish()
            wait(0.003)
        running.settle()
        before = len(heard(running))
        plants.publish()
        running.settle()  # the next mark of time comes in a second: until then nothing else wants the disk
        hog = fill(disk)  # all that the disk has left, but what is in reserve
        time = running.now // 1000 * 1000
        running.gateway(codes[0], "gw1").publish(rows(time, {"P2": 60.0}))
        plants.sent.add((running.registry.rows[codes[0]]["P2"], time))
        plants.begun.add(finding_id("limit.high", codes[0], "point:P2", time))
        running.wait_for(
            "the alert of what happened while the disk was full",
            lambda: any(
                ring["person"] == f"operator-{codes[0]}" and "P2" in ring["text"] for ring in running.rings()
            ),
        )
        for _ in range(300):
            plants.publish()
        running.wait_for(
            "the alert of the full disk", lambda: any(r["person"] == "admin" for r in running.rings())
        )
        hog.unlink()
        running.settle()
        running.settle_desk()
        assert len(heard(running)) > before
        assert set(heard(running)) == plants.sent
        assert findings(running, "limit.high") == plants.begun
        running.wait_for(
            "the end of the alert",
            lambda: any(
                a.rule == "system.journal" and a.condition is Condition.ENDED for a in running.alerts()
            ),
        )


def test_a_disk_smaller_than_the_budget_drops_old_files_and_goes_on(tmp_path: Path) -> None:
    codes = write_registry(tmp_path / "registry", enterprises=1, points=2)
    with (
        small_disk(tmp_path / "disk", "48m") as disk,
        Rehearsal(disk, tmp_path / "registry", None) as running,
    ):
        running.stop()
        with journal.Journal(running.data / "journal", reserve=0) as past:
            for _ in range(8):  # as if so many hours had gone by; an empty round with 4 MiB that no one reads
                past.append([Round(past.last_time + HOUR, digests=os.urandom(4 << 20))])
        old = set((running.data / "journal").glob("*.sqlite"))
        running.start()
        hog = disk / "hog"
        with hog.open("wb", buffering=0) as file:
            while os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize > 1 << 16:
                file.write(bytes(1 << 14))
        running.wait_for(
            "room", lambda: len(old & set((running.data / "journal").glob("*.sqlite"))) < len(old) - 1
        )
        time = running.said().time
        running.gateway(codes[0], "gw1").publish(rows(time, {"P2": 60.0}))
        running.wait_for("the alert", lambda: bool(findings(running, "limit.high")))


def right(running: Rehearsal) -> bool:
    """Whether nothing is said of the clock any more."""
    return all(a.condition is Condition.ENDED for a in running.alerts() if a.rule == "system.clock")


def test_a_wall_clock_that_jumps_is_a_finding_and_moves_nothing(tmp_path: Path) -> None:
    codes = write_registry(tmp_path / "registry", enterprises=1, points=2)
    wall = tmp_path / "wall"
    wall.write_text("0")
    environment = {"PYTHONPATH": str(Path(__file__).parent / "wall"), "TEST_WALL_FILE": str(wall)}
    with Rehearsal(tmp_path, tmp_path / "registry", None, environment) as running:
        running.publish(codes[0], "gw1", running.now, {"P1": 60.0})
        running.settle()
        running.settle_desk()
        [first] = running.alerts()

        for number, step in enumerate(("-3600", "+86400"), 1):
            wall.write_text(step)
            running.wait_for("a finding", lambda n=number: len(findings(running, "system.clock")) == n)
            wall.write_text("0" if number == 1 else step)
            running.wait_for("its end", lambda n=number: n == 2 or right(running))
            time = running.now
            running.publish(codes[0], "gw1", time, {"P1": 60.0 if step == "-3600" else 5.0, "P2": 60.0})
            running.settle()
            running.settle_desk()
            assert abs(running.said().time - running.now) < 60 * SECOND, "our clock goes on unmoved"
        second = next(a for a in running.alerts() if a.subject == "point:P2")
        assert first.raised < second.raised < running.now + SECOND

        # a process that dies and comes back does not take over the wall that has moved
        for victim in ("judge", "serving"):
            running.kill(victim)
        running.await_judge()
        running.publish(codes[0], "gw1", running.now, {"P1": 60.0})
        running.settle()
        running.settle_desk()
        running.settle_notices()
        assert abs(running.said().time - running.now) < 60 * SECOND
        running.wait_for(
            "the finding, which is still there",
            lambda: any(
                a.rule == "system.clock" and a.condition is Condition.ACTIVE for a in running.alerts()
            ),
        )

        wall.write_text("0")
        running.wait_for(
            "the end of the finding",
            lambda: right(running),
        )

        # a restart that finds the wall an hour behind the last record goes on from that record, and says so
        last = running.said().time
        running.stop()
        wall.write_text("-3600")
        running.start()
        running.settle_status()
        assert last <= running.said().time < last + 60 * SECOND
        running.wait_for(
            "what it says",
            lambda: any(
                "behind the last record" in str(step.detail)
                for alert in running.alerts()
                for step in running.steps(alert.id)
            ),
        )
        wall.write_text(
            str((running.said().time - running.now) // SECOND)
        )  # it goes on from the stop, not from now
        running.wait_for("its end, once the wall is set right", lambda: right(running))


RUBBISH = {
    "not_json": b"{",
    "not_utf8": b'{"time":"2026-01-05T02:00:00Z","readings":{"P1":\xff}}',
    "empty": b"",
    "number": b"17",
    "no_time": b'{"readings":{"P1":1}}',
    "bad_time": b'{"time":"yesterday","readings":{"P1":1}}',
    "far_future": b'{"time":"2999-01-01T00:00:00Z","readings":{"P1":1}}',
    "infinite": b'{"time":"2026-01-05T02:00:00Z","readings":{"P1":1e999}}',
    "text": b'{"time":"2026-01-05T02:00:00Z","readings":{"P1":"high"}}',
    "unknown_point": b'{"time":"2026-01-05T02:00:00Z","readings":{"NOPE":1}}',
    "unequal": b'{"time":"2026-01-05T02:00:00Z","points":["P1","P2"],"values":[1]}',
    "deep": b"[" * 5000 + b"]" * 5000,
    "big": b'{"time":"2026-01-05T02:00:00Z","readings":{"' + b"x" * 2_000_000 + b'":1}}',
}


def test_rubbish_never_stops_the_good_readings_beside_it(tmp_path: Path) -> None:
    codes = write_registry(tmp_path / "registry", enterprises=1, points=2)
    start = 1_767_578_400 * SECOND
    with Rehearsal(tmp_path, tmp_path / "registry", start) as running:
        topic = f"fenghuo/v1/{codes[0]}/gw1/readings"
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="raw", protocol=mqtt.MQTTv5)
        user = f"{codes[0]}/gw1"
        client.username_pw_set(user, running.password(codes[0], "gw1"))
        client.connect("127.0.0.1", running.broker_port)
        client.loop_start()
        for number, payload in enumerate(RUBBISH.values(), 1):
            client.publish(topic, payload, qos=1).wait_for_publish(30)
            good = b'{"time":"2026-01-05T02:00:%02dZ","readings":{"P1":5,"P2":{"value":6,"quality":"good"}}}'
            client.publish(topic, good % number, qos=1).wait_for_publish(30)
        client.disconnect()
        client.loop_stop()
        running.step(start + 60 * SECOND)
        row = running.registry.rows[codes[0]]["P1"]
        running.wait_for(
            "the last good reading", lambda: (row, start + len(RUBBISH) * SECOND) in heard(running)
        )
        good_times = {time for (r, time) in heard(running) if r == row}
        assert good_times >= {start + number * SECOND for number in range(1, len(RUBBISH) + 1)}
        letters = [letter for _, letter in journal.dead_letters(running.data / "journal", limit=100)]
        assert sum(letter.count for letter in letters) == len(RUBBISH)
        assert all(letter.detail and letter.topic == topic for letter in letters)
        assert len({letter.reason for letter in letters}) >= 8
        assert not running.alerts()


def test_notices_wait_for_a_dead_phone_and_say_so(tmp_path: Path) -> None:
    codes = write_registry(tmp_path / "registry", enterprises=1, points=1)
    start = 1_767_578_400 * SECOND
    with Rehearsal(tmp_path, tmp_path / "registry", start) as running:
        running.phone_mode("dead")
        running.publish(codes[0], "gw1", start, {"P1": 60.0})
        running.settle()
        [alert] = running.alerts()
        running.wait_for(
            "an attempt that failed",
            lambda: all(
                notice.attempts and notice.state is NoticeState.WAITING
                for notice in running.notices(alert.id)
            ),
        )
        running.phone_mode("ok")
        running.step(start + 60 * SECOND)
        running.settle_notices()
        assert {ring["id"] for ring in running.rings()} == {notice.id for notice in running.notices(alert.id)}
        assert all(ring["repeat"] for ring in running.rings()), "the first call may have been heard"


def test_a_port_that_is_taken_keeps_no_notice_from_going_out(tmp_path: Path) -> None:
    codes = write_registry(tmp_path / "registry", enterprises=1, points=1)
    with Rehearsal(tmp_path, tmp_path / "registry", 1_767_578_400 * SECOND) as running:
        running.stop()
        with socket.create_server(("127.0.0.1", int(running.url.rpartition(":")[2]))):
            running.start(api=False)
            running.publish(codes[0], "gw1", running.now, {"P1": 60.0})
            running.settle()
            [alert] = running.alerts()
            running.settle_notices()
            assert {ring["id"] for ring in running.rings()} == {
                notice.id for notice in running.notices(alert.id)
            }


@pytest.mark.long
def test_a_broker_that_is_not_heard_is_told_to_the_administrator(tmp_path: Path) -> None:
    write_registry(tmp_path / "registry", enterprises=1, points=1)
    with Rehearsal(tmp_path, tmp_path / "registry", None) as running:
        broker = running.pid("broker")
        os.kill(broker, signal.SIGSTOP)
        wait(30)
        running.wait_for("the alert", lambda: any(ring["person"] == "admin" for ring in running.rings()))
        assert [alert.rule for alert in running.alerts()] == ["system.broker"]
        os.kill(broker, signal.SIGCONT)
        running.wait_for("its end", lambda: running.alerts()[0].condition is Condition.ENDED)


@pytest.mark.long
def test_a_judge_that_stands_still_is_told_and_killed(tmp_path: Path) -> None:
    write_registry(tmp_path / "registry", enterprises=1, points=1)
    with Rehearsal(tmp_path, tmp_path / "registry", None) as running:
        stopped = running.pid("judge")
        os.kill(stopped, signal.SIGSTOP)
        wait(25)
        running.wait_for("the alert", lambda: any(alert.rule == "system.judge" for alert in running.alerts()))
        wait(15)
        running.wait_for("its end", lambda: not Path(f"/proc/{stopped}").exists())
        running.await_judge()


def test_a_mistake_in_the_registry_at_start_leaves_the_version_that_was(tmp_path: Path) -> None:
    codes = write_registry(tmp_path / "registry", enterprises=1, points=1)
    with Rehearsal(tmp_path, tmp_path / "registry", 1_767_578_400 * SECOND) as running:
        running.stop()
        database = open_database(running.data / "registry.sqlite")
        with writing(database) as connection:  # as a stricter Fenghuo would find it
            connection.exec_driver_sql(
                "UPDATE records SET body = '{\"kind\": \"metane\"}' WHERE kind = 'point'"
            )
        database.dispose()
        running.start()
        running.publish(codes[0], "gw1", running.now, {"P1": 60.0})
        running.settle()
        running.wait_for(
            "the alert of the refused registry", lambda: bool(findings(running, "system.configuration"))
        )
        assert any(alert.rule == "limit.high" for alert in running.alerts())


def test_a_changed_registry_takes_force_and_keeps_what_runs(tmp_path: Path) -> None:
    codes = write_registry(tmp_path / "registry", enterprises=1, points=2)
    start = 1_767_578_400 * SECOND
    with Rehearsal(tmp_path, tmp_path / "registry", start) as running:
        running.publish(codes[0], "gw1", start, {"P1": 60.0, "P2": 60.0})
        running.settle()
        assert len(running.alerts()) == 2
        version = running.said().version

        points = tmp_path / "registry" / "points.csv"
        whole = points.read_text("utf-8")
        points.write_text(whole + "nonsense,,,\n", "utf-8")
        with pytest.raises(RegistryErrors, match="has 4 cells"):
            running.import_registry(tmp_path / "registry")
        plant = next(iter(running.registry.enterprises))
        with pytest.raises(RegistryErrors, match="metane"):
            running.edit_registry([Change("point", f"{plant}/P1", {"kind": "metane"})])
        running.settle_status()
        assert running.said().version == version, "the running version stays"

        points.write_text(
            "\n".join(line for line in whole.splitlines() if ",P2," not in line) + "\n", "utf-8"
        )
        running.import_registry(tmp_path / "registry")
        assert running.said().version != version
        running.settle_desk()
        phases = {alert.subject: alert.condition for alert in running.alerts() if alert.rule == "limit.high"}
        assert phases == {"point:P1": Condition.ACTIVE, "point:P2": Condition.ENDED}
        withdrawn = next(a for a in running.alerts() if a.subject == "point:P2")
        assert running.steps(withdrawn.id)[-1].event == Phase.WITHDRAWN


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_thousand_changes_of_the_rulebook_under_load_lose_and_redate_nothing(tmp_path: Path) -> None:
    """Compiled here instead of in the supervisor, which waits until a file has stood still."""
    codes = write_registry(tmp_path / "registry", enterprises=3, points=4)
    with Rehearsal(tmp_path, tmp_path / "registry", None) as running:
        folder = running.data / "versions"
        shipped = configuration.load(folder, running.said().version).rulebook
        compiled = versions.load(folder, versions.part(running.said().version, versions.REGISTRY))
        books = [
            replace(shipped, tiers={**shipped.tiers, "stuck": tier}) for tier in (Tier.IV, Tier.III, None)
        ]
        coming = [configuration.save(folder, compiled, book) for book in books]
        plants = Plants(running, codes, 4, seed=8)
        for number in range(1000):
            versions.want(folder, coming[number % len(coming)])
            for _ in range(3):
                plants.publish()
                wait(0.09)  # the judge looks four times a second
        running.settle()
        running.settle_desk()
        rounds = [round_ for _, round_ in journal.read(running.data / "journal", 0)]
        assert sum(round_.version is not None for round_ in rounds) > 900
        assert set(heard(running)) == plants.sent
        assert findings(running, "limit.high") == plants.begun
        plain = [alert for alert in running.alerts() if not alert.rule.startswith("system.")]
        assert told(plain, running.notices) == undisturbed(running, tmp_path)
