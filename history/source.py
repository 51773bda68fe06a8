"""The journal as chunks: what every keeper of history reads, from where it has come to."""

from collections.abc import Callable, Iterator
from pathlib import Path

from history.chunk import Chunk, chunk
from ingest.journal_file import first_offset, paths, query
from ingest.journal_reader import read, version_at
from ingest.readings import Round
from registry.model import Registry

READINGS = 200_000
"""In a chunk, or a little more: enough for NumPy, little for memory."""

ROUNDS = 5_000
"""In a chunk at most: of a quiet site, a chunk is an hour and a half of time marks."""


def chunks(
    journal: Path, after: int, load: Callable[[str], Registry], readings: int = READINGS
) -> Iterator[Chunk]:
    """What the journal has after an offset, up to the newest; whoever wants more asks again.

    Args:
        load: the registry of a version. Raises NoSuchVersion, BrokenVersion.
        readings: in a chunk.

    Raises: JournalDamaged, JournalUnreadable, and as ``load``.
    """
    registry: Registry | None = None
    rounds: list[tuple[int, Round]] = []
    count, before = 0, after
    for offset, round_ in read(journal, after):
        gap = offset != before + 1
        full = count >= readings or len(rounds) >= ROUNDS
        if rounds and registry is not None and (gap or full or round_.version is not None):
            yield chunk(registry, rounds)
            rounds, count = [], 0
        if round_.version is not None:
            registry = load(round_.version)
        elif registry is None or gap:  # what was lost may have put another version in force
            version = version_at(journal, offset)
            registry = load(version) if version is not None else None
        before = offset
        if registry is not None:  # before the first version there are no readings
            rounds.append((offset, round_))
            count += len(round_.readings)
    if rounds and registry is not None:
        yield chunk(registry, rounds)


def end(journal: Path) -> int:
    """The newest offset of the journal; 0 if there is none. Raises JournalDamaged, JournalUnreadable."""
    for path in reversed(paths(journal)):
        for (newest,) in query(path, "SELECT max(offset) FROM round"):
            return int(newest) if newest is not None else first_offset(path) - 1
    return 0
