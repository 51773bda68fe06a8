"""Workers on a real Kafka: whatever becomes of them, what one evaluator finds is told, and nothing else."""

import json
import os
import random
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.dev.services import Kafka, Postgres
from fenghuo import evaluate
from ingest.readings import BAD, GOOD, Readings, Round
from ingest.topics import Entry, encode
from registry import shared_versions, slots
from registry.clock import SECOND, stopwatch
from registry.model import Registry
from streams.configuration import Configuration
from streams.evaluator import Evaluator
from streams.exact import FROZEN
from streams.finding import Finding, Phase
from streams.rulebook_file import SHIPPED, read
from tests.build import PointSpec, code, make_registry
from tests.servers import new_database
from tests.workers import Workers, pause, workers

pytestmark = [pytest.mark.kafka, pytest.mark.postgresql]

START = 1_792_000_000 * SECOND
ENTERPRISES, POINTS, SLOTS = 24, 10, 4
RULEBOOK = read(SHIPPED)
BARE = make_registry(
    {
        code(number): [
            *(
                PointSpec(
                    id=f"T{n}",
                    H=80.0,
                    HH=90.0,
                    on_delay=2 * SECOND,
                    off_delay=3 * SECOND,
                    interval=9 * SECOND,
                )
                for n in range(POINTS - 2)
            ),
            *(
                PointSpec(
                    id=f"G{n}", kind="combustible_gas", unit="R1", engineering_unit="%LEL", H=25.0, HH=50.0
                )
                for n in (1, 2)
            ),
        ]
        for number in range(1, ENTERPRISES + 1)
    }
)
WHOLE = Configuration.of(BARE, RULEBOOK)


class Story:
    """Readings of all enterprises, second by second; what is written, and what one evaluator finds of it."""

    def __init__(self, to: Workers, seed: int = 1) -> None:
        self.to, self.now, self._asked = to, START, 0
        self.term = 1
        self.expected: list[Finding] = []
        self._draw = np.random.default_rng(seed)
        self._engine = Evaluator(WHOLE, START)
        self._parts = [slots.part(WHOLE.registry, slot, SLOTS) for slot in range(SLOTS)]
        self._of_part = [slots.rows(WHOLE.registry, slot, SLOTS) for slot in range(SLOTS)]
        edition = to.publish(WHOLE, Configuration(BARE, RULEBOOK))
        for slot in range(SLOTS):
            to.write(slot, Entry(Round(START, version=WHOLE.registry.version), 1, edition))

    def happens(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += SECOND
            together = []
            for slot, part in enumerate(self._parts):
                readings = self._readings(part)
                self.to.write(slot, Entry(Round(self.now, readings=readings), self.term))
                together.append(replace(readings, row=self._of_part[slot][readings.row]))
            self.expected += self._engine.apply(Round(self.now, readings=Readings.joined(together)))
        self.ask()

    def ask(self) -> None:
        self._asked += 1
        for slot in range(SLOTS):
            self.to.write(slot, Entry(Round(self.now), self.term, asked=self._asked))
        self.to.flush()

    def _readings(self, part: Registry) -> Readings:
        """Most enterprises send, most points are well."""
        heard = np.flatnonzero(self._draw.random(len(part.points)) < 0.9).astype(np.int32)
        value = np.where(self._draw.random(len(heard)) < 0.1, 95.0, 20.0).round(1)
        quality = np.where(self._draw.random(len(heard)) < 0.01, BAD, GOOD).astype(np.uint8)
        value[quality == BAD] = np.nan
        return Readings(heard, np.full(len(heard), self.now - 1000), value, quality)

    def reading(self, value: float) -> Readings:
        """Of the first point of a slot."""
        time, quality = np.array([self.now], np.int64), np.array([GOOD], np.uint8)
        return Readings(np.zeros(1, np.int32), time, np.array([value]), quality)

    def told(self) -> bool:
        return self.to.asked(self._asked)

    def check(self, besides: str = "") -> None:
        """All is told, each thing once or as the same again, and nothing else. besides: a rule that is not ours."""
        self.to.until("all that was written is told", self.told)
        heard: dict[tuple[str, int], Finding] = {}
        for finding in (finding for told in self.to.reports for finding in told.findings):
            if finding.rule == besides:
                continue
            assert heard.setdefault((finding.id, finding.seq), finding) == finding, (
                "told twice, and differently"
            )
        expected = {(finding.id, finding.seq): finding for finding in self.expected}
        more = [f"+ {_short(heard[key])}" for key in heard.keys() - expected.keys()]
        less = [f"- {_short(expected[key])}" for key in expected.keys() - heard.keys()]
        assert not more + less, "\n".join([*sorted(more + less), self.to.logs()])
        assert heard == expected
        assert any(finding.rule.startswith("compound.") for finding in self.expected)


def _short(f: Finding) -> str:
    return f"{f.arrival} {f.rule} {f.enterprise} {f.subject} {f.phase} {f.seq} {f.id}"


@pytest.fixture
def cluster(kafka: Kafka, postgres: Postgres, tmp_path: Path) -> Iterator[Workers]:
    with (
        new_database(postgres, shared_versions.upgrade) as database,
        workers(kafka, database, tmp_path, slots=SLOTS, checkpoint=0.5, patience=86_400) as made,
    ):
        yield made


def both_work(story: Story, *names: str) -> None:
    """Wait until each of them has partitions: a shard is opened by the first record that it hears."""

    def shared_out() -> bool:
        story.ask()
        return all(story.to.owns(name) for name in names)

    story.to.until("the partitions are shared out", shared_out)


def test_a_worker_is_killed_and_others_go_on(cluster: Workers) -> None:
    story = Story(cluster)
    cluster.start("one", "two")
    both_work(story, "one", "two")
    story.happens(60)
    cluster.until("the first part is told", story.told)
    story.happens(20)
    cluster.signal("one")
    story.happens(30)
    cluster.until("the second takes over", story.told)
    cluster.start("three")
    story.happens(30)
    both_work(story, "two", "three")
    began = stopwatch()
    cluster.signal("two", signal.SIGTERM)
    assert stopwatch() - began < 2, "so long Faust waits for nothing"
    assert not evaluate.status_file(cluster.settings.data, "two").exists()
    story.happens(30)
    story.check()
    cluster.signal("three", signal.SIGTERM)
    for log in cluster.folder.glob("*.log"):
        for line in log.read_text("utf-8").splitlines():
            assert json.loads(line)["event"], "nothing but a JSON object a line"


@pytest.mark.long
def test_a_worker_that_kafka_does_not_let_go_ends_all_the_same(cluster: Workers, kafka: Kafka) -> None:
    story = Story(cluster)
    cluster.start("one")
    story.happens(3)
    cluster.until("it works", story.told)
    pause(1.5)  # a checkpoint: nothing is left to be made durable
    assert kafka.pid is not None
    os.kill(kafka.pid, signal.SIGSTOP)
    try:
        began = stopwatch()
        cluster.signal("one", signal.SIGTERM)
        assert stopwatch() - began < evaluate.LEAVING + 3
    finally:
        os.kill(kafka.pid, signal.SIGCONT)
    assert "kafka_not_left" in cluster.logs()
    cluster.start("one")
    story.happens(30)
    story.check()


def test_what_nobody_can_read_is_told_and_passed_over(cluster: Workers) -> None:
    story = Story(cluster)
    cluster.start("one")
    story.happens(5)
    cluster.write_raw(2, b"no round at all")
    cluster.write_raw(1, encode(Entry(Round(story.now), 1))[0], [("term", b"many")])
    story.happens(5)
    cluster.until("all is told", story.told)
    own = [f for told in cluster.reports for f in told.findings if f.rule == "system.engine"]
    assert {(f.subject, f.phase) for f in own} == {
        (f"slot:{slot}", phase) for slot in (1, 2) for phase in (Phase.BEGUN, Phase.ENDED)
    }
    for told in cluster.reports:
        assert not told.findings or told.source.startswith(("readings/", "compound/"))
    story.check(besides="system.engine")


def test_one_that_lost_its_slot_is_not_read_any_more(cluster: Workers) -> None:
    """It had stood still, and what it had not sent comes late: the next owner has been given it too."""
    story = Story(cluster)
    cluster.start("one")
    story.happens(3)
    for slot in range(SLOTS):
        cluster.write(slot, Entry(Round(story.now), 2))
        late = story.reading(99.0)
        cluster.write(slot, Entry(Round(story.now, readings=late), 1))
    story.term = 2
    story.happens(10)
    story.check()


@pytest.mark.long
def test_a_worker_that_stood_still_changes_nothing_any_more(cluster: Workers) -> None:
    story = Story(cluster)
    cluster.start("one", "two")
    both_work(story, "one", "two")
    story.happens(30)
    cluster.until("the first part is told", story.told)
    story.happens(20)
    cluster.signal("one", signal.SIGSTOP)
    story.happens(30)
    cluster.until("the other has taken over", story.told)
    story.happens(30)
    cluster.signal("one", signal.SIGCONT)
    cluster.until("it has ended", lambda: cluster.ended("one") is not None)
    assert cluster.ended("one") == FROZEN
    story.happens(30)
    cluster.until("all is told", story.told)
    cluster.signal("two")  # what is in the changelog now is all that there is
    cluster.start("three")
    story.happens(30)
    story.check()


@pytest.mark.long
def test_states_are_found_again_after_real_compaction(cluster: Workers) -> None:
    for table in ("points", "compound"):
        soon = {"segment.ms": "500", "min.compaction.lag.ms": "0", "max.compaction.lag.ms": "1000"}
        cluster.alter(cluster.topics.changelog(table), {**soon, "min.cleanable.dirty.ratio": "0.01"})
    story = Story(cluster)
    cluster.start("one")

    def gone() -> bool:
        """Old states are not there any more."""
        story.happens(2)
        cluster.until("told", story.told)
        return cluster.first_there(cluster.topics.changelog("points"), 0) > 5

    cluster.until("old states have been removed", gone)
    for _ in range(3):
        cluster.signal("one")
        cluster.start("one")
        story.happens(20)
        cluster.until("it has found its state", story.told)
    story.check()


@pytest.mark.long
def test_thirty_kills_under_load(cluster: Workers) -> None:
    story, draw = Story(cluster), random.Random(1)
    names = ["one", "two"]
    cluster.start(*names)
    for _ in range(30):
        story.happens(draw.randrange(5, 40))
        cluster.hear()
        if draw.random() < 0.5:
            cluster.until("told", story.told)
        name = draw.choice(names)
        cluster.signal(name, draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
        cluster.start(name)
        pause(draw.random() * 6)
    story.check()
