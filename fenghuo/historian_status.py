"""What the historian says of itself, once a second and at each change, for the judge, the API and `doctor`."""

from pathlib import Path

import msgspec


class HomeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a home is. Counts are since the start of the process; times are µs."""

    position: int  # journal offset up to which all is durable in it; 0 until it could be opened
    time: int  # arrival time that it has come to
    problem: str  # why it takes nothing, "" if it does
    lost: int  # offsets that the journal no longer had when they were wanted
    counts: dict[str, int]


class HistorianStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Of all its homes, by their names."""

    pid: int
    number: int  # how many times this process has said so
    homes: dict[str, HomeStatus]


def read(path: Path) -> HistorianStatus | None:
    """The newest; None where no historian of this version has said anything yet. Raises OSError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=HistorianStatus)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
