"""The journal's speed and size: packing, durable appends, and replay.

Values are in tenths, each point's walking about its own level; a message is 200 points of one time.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from ingest.journal import Journal, read
from ingest.pack import pack, unpack
from ingest.readings import Readings, Round
from registry.clock import SECOND, stopwatch

T = TypeVar("T")

MESSAGE = 200
BEGUN = 1_790_000_000 * SECOND


def rounds(messages: int, count: int, *, random: bool = False) -> Iterator[Round]:
    """Rounds of so many messages each; random: values of 52 random bits, the worst case."""
    dice = np.random.default_rng(1)
    size = messages * MESSAGE
    level = dice.integers(0, 2000, size)
    row = np.arange(size, dtype=np.int32)
    quality = np.zeros(size, np.uint8)
    for n in range(count):
        level += dice.integers(-2, 3, size)
        value = dice.random(size) if random else level / 10
        arrival = BEGUN + n * SECOND
        time = np.repeat(arrival - dice.integers(0, 1000, messages) * 1000, MESSAGE)
        yield Round(arrival, readings=Readings(row, time, value, quality), digests=dice.bytes(8 * messages))


def run(quick: bool = False) -> dict[str, float]:
    """Figures by name. Raises AssertionError where what is read back is not what was written."""
    count = 100 if quick else 1000
    disk = Path("build")  # not the usual place of temporary files, which may be memory
    disk.mkdir(exist_ok=True)
    figures: dict[str, float] = {}
    for name, messages, random in (
        ("rows of 200", 1, False),
        ("rows of 20,000", 100, False),
        ("random float64, 200", 1, True),
        ("random float64, 20,000", 100, True),
    ):
        sample = list(rounds(messages, max(5, count // messages), random=random))
        readings = messages * MESSAGE
        blobs = [pack(round_) for round_ in sample]
        figures[f"bytes/reading, {name}"] = sum(map(len, blobs)) / len(blobs) / readings
        figures[f"pack, {name}: readings/s"] = readings / _fastest(pack, sample)
        figures[f"unpack, {name}: readings/s"] = readings / _fastest(unpack, blobs)
    for name, messages in (("200", 1), ("20,000", 100)):
        with tempfile.TemporaryDirectory(dir=disk) as place, Journal(Path(place), reserve=0) as journal:
            sample = list(rounds(messages, 50))
            total = count if messages == 1 else max(20, count // 4)
            begun = stopwatch()
            for n in range(total):
                journal.append([replace(sample[n % len(sample)], time=BEGUN + n)])
            seconds = stopwatch() - begun
            figures[f"append, rounds of {name}: rounds/s"] = total / seconds
            figures[f"append, rounds of {name}: readings/s"] = total * messages * MESSAGE / seconds
            begun = stopwatch()
            replayed = sum(len(round_.readings) for _, round_ in read(Path(place), 0))
            figures[f"replay, rounds of {name}: readings/s"] = replayed / (stopwatch() - begun)
            assert replayed == total * messages * MESSAGE
            journal.close()
            size = sum(path.stat().st_size for path in Path(place).glob("*.sqlite*"))
            figures[f"bytes/reading on disk, rounds of {name}"] = size / replayed
    return figures


def _fastest(work: Callable[[T], object], items: list[T]) -> float:
    """Seconds an item, in the best of five passes: the least disturbed one."""
    best = float("inf")
    for _ in range(5):
        begun = stopwatch()
        for item in items:
            work(item)
        best = min(best, (stopwatch() - begun) / len(items))
    return best


if __name__ == "__main__":
    for name, figure in run().items():
        print(f"{name:50} {figure:15,.2f}")
