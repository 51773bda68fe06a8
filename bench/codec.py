"""What one core decodes and assembles in a second: from MQTT payloads to the arrays of a round.

A whole city publishes messages of 200 readings, each gateway its own points, each message its own time.
The figures hold everything between the collector and the journal: digest, topic, JSON, rows of the points,
checks, one round. What comes out is held against what was sent; where they differ there is no figure.
"""

import json
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np

from ingest.assemble import Assembler
from ingest.message import Message
from ingest.readings import BAD, UNCERTAIN, Round
from registry.clock import SECOND, stopwatch
from registry.model import Registry
from tests.build import city_registry

START = 1_795_248_000 * SECOND
POINTS = 200
TOGETHER = 50  # messages of a round under load

Encode = Callable[[str, list[str], list[float]], object]


class WrongReadings(AssertionError):
    """What was decoded is not what was sent: its speed is of no interest."""


def rows(time: str, ids: list[str], values: list[float]) -> object:
    return {"time": time, "readings": dict(zip(ids, values, strict=True))}


def columns(time: str, ids: list[str], values: list[float]) -> object:
    return {"time": time, "points": ids, "values": values}


def with_quality(time: str, ids: list[str], values: list[float]) -> object:
    given = [{"value": value, "quality": "uncertain"} for value in values]
    return {"time": time, "readings": dict(zip(ids, given, strict=True))}


def one_unknown(time: str, ids: list[str], values: list[float]) -> object:
    return columns(time, [*ids, "NOT-THERE"], [*values, 1.0])


def one_not_a_number(time: str, ids: list[str], values: list[float]) -> object:
    return {"time": time, "readings": dict(zip(ids, [*values[:-1], "broken"], strict=True))}


def run(quick: bool = False) -> dict[str, float]:
    """Millions of readings a second by form, medians of several runs; µs of a message that comes alone."""
    registry = city_registry()
    runs, count = (3, 1_000) if quick else (7, 5_000)
    figures = {}
    forms: Sequence[tuple[str, Encode]] = (
        ("rows", rows),
        ("columns", columns),
        ("rows with a quality each", with_quality),
        ("columns, one point unknown", one_unknown),
        ("rows, one value broken", one_not_a_number),
    )
    for name, encode in forms:
        messages, sent = _messages(registry, encode, count)
        speeds = [len(sent) / _assemble(registry, messages, sent, name, TOGETHER) / 1e6 for _ in range(runs)]
        figures[f"{name}: {len(messages[0].payload) / 1000:.1f} KB, M/s"] = median(speeds)
    for name, encode in forms[:2]:
        messages, sent = _messages(registry, encode, count)
        alone = [_assemble(registry, messages, sent, name, 1) / len(messages) * 1e6 for _ in range(runs)]
        figures[f"{name}: a message alone, µs"] = median(alone)
    return figures


def _messages(registry: Registry, encode: Encode, count: int) -> tuple[list[Message], np.ndarray]:
    """As a city sends them, and the values in the order in which they were sent."""
    random = np.random.default_rng(1)
    codes = list(registry.enterprises)
    ids = list(registry.points.id[:POINTS])
    sent = random.uniform(0, 100, (count, POINTS)).round(1)
    messages = []
    for number in range(count):
        second, code = divmod(number, len(codes))
        time = f"2026-11-21T08:{second // 60:02d}:{second % 60:02d}.{number % 1000:03d}Z"
        payload = json.dumps(encode(time, ids, sent[number].tolist()), separators=(",", ":")).encode()
        messages.append(Message(f"fenghuo/v1/{codes[code]}/gw1/readings", payload, number % 65_535 + 1))
    return messages, sent.ravel()


def _assemble(
    registry: Registry, messages: Sequence[Message], sent: np.ndarray, name: str, together: int
) -> float:
    """Seconds for all messages, so many in a round; checked."""
    assembler = Assembler(registry)
    for number in range(len(registry.enterprises)):  # a city has sent before
        assembler.assemble(messages[number : number + 1], START)
    rounds: list[Round] = []
    dead = 0
    begun = stopwatch()
    for start in range(0, len(messages), together):
        made, letters = assembler.assemble(messages[start : start + together], START + SECOND)
        rounds += made
        dead += sum(letter.count for letter in letters)
    seconds = stopwatch() - begun
    value = np.concatenate([round.readings.value for round in rounds])
    row = np.concatenate([round.readings.row for round in rounds])
    quality = np.concatenate([round.readings.quality for round in rounds])
    expected_row = np.arange(len(sent)) % len(registry.points)
    good = np.ones(len(sent), bool)
    if name == "rows, one value broken":
        good[POINTS - 1 :: POINTS] = False
    if not (
        np.array_equal(value, sent[good])
        and np.array_equal(row, expected_row[good])
        and (quality == UNCERTAIN).all() == ("quality" in name)
        and (quality != BAD).all()
        and dead == len(messages) * ("one" in name)
    ):
        raise WrongReadings(name)
    return seconds
