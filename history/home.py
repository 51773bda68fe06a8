"""A home of history: what keeps readings for years, as whoever reads the journal for it sees it."""

from collections.abc import Mapping
from typing import Protocol

from history.chunk import Chunk


class HomeAway(Exception):
    """It does not take anything now; says why. Nothing is lost: what it was given is given to it again."""


class Home(Protocol):
    """Where chunks go, in their order."""

    @property
    def name(self) -> str: ...

    @property
    def counts(self) -> Mapping[str, int]: ...

    @property
    def position(self) -> int:
        """Journal offset up to which all is durable in it; 0 at first."""
        ...

    @property
    def taken(self) -> int:
        """Journal offset up to which it was given all: what comes next begins behind it."""
        ...

    def append(self, chunk: Chunk) -> None:
        """Take a chunk. Raises HomeAway: then it has not taken it."""
        ...

    def flush(self) -> None:
        """Make durable what was taken. Raises HomeAway."""
        ...

    def maintain(self) -> bool:
        """Do one thing of what has to be done now and then; whether there was something. Raises HomeAway."""
        ...

    def relieve(self) -> None:
        """Free what may be freed, where it does not take anything. Raises HomeAway."""
        ...

    def close(self) -> None: ...
