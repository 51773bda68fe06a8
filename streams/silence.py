"""Silence: points that were not heard for longer than their interval, and gateways that are offline.

Runs on listened time: arrival time that counts only between two rounds of which the earlier was listening
and that are at most 2 s apart. So our own deafness is nobody's silence.

Left open by the contract, and decided so:
- Late and bad readings count as heard; a duplicate does not, it says nothing new of the sensor.
- At start, and where a point is given an interval for the first time, its silence counts from then on.
- "Since" is counted back from now in listened time.
- A point that was silent already when its gateway went offline stays silent; UNKNOWN and the finding of the
  gateway are said once.
"""

import numpy as np
from numpy.typing import NDArray

from ingest.readings import Times
from registry.clock import SECOND
from registry.model import Registry
from streams.episodes import CLOSED, OFFLINE, SILENT, Book
from streams.sieve import Index, Mask
from streams.state import Rows

LARGEST_GAP = 2 * SECOND
_ENDLESS = 2**61  # µs: never reached, and two of them still fit


class Silence:
    def __init__(self, registry: Registry, now: int) -> None:
        points = registry.points
        self._gateway = points.gateway
        self._id = points.id
        self.has = points.interval > 0
        self._interval = np.where(self.has, points.interval, _ENDLESS)
        self.rows = Rows(len(points), heard=np.int64(0))
        self.heard: Times = self.rows["heard"]
        self.gateways = Rows(len(registry.gateways), offline=np.bool_(False))
        self.offline: NDArray[np.bool_] = self.gateways["offline"]
        self.now = now
        self.listening = False
        self.listened = 0
        self.bound = 0  # in listened time: before it, nobody can become silent

    def elapse(self, now: int, listening: bool) -> None:
        gap = now - self.now
        if self.listening and gap <= LARGEST_GAP:
            self.listened += gap
        self.now, self.listening = now, listening

    def notice(self, book: Book) -> Index:
        """Say who is silent now. The rows of which nothing is known any more thereby."""
        if self.listened < self.bound:
            return np.empty(0, np.intp)
        silent = book.flag[SILENT] != CLOSED
        due = self._due(book)
        over = due <= self.listened
        lost: list[Index] = []
        for gateway in np.unique(self._gateway[over]).tolist():
            mine = self._rows(gateway)
            new = mine[over[mine]]
            since = self.now - (self.listened - due[new])
            if (over | silent)[mine[self.has[mine]]].all():
                self._go_offline(gateway, int(since.max()), mine, book)
                lost.append(mine)
            else:
                for row, time in zip(new.tolist(), since.tolist(), strict=True):
                    book.begin(SILENT, row, time, time)
                lost.append(new)
            due[lost[-1]] = _ENDLESS
        self.bound = int(due.min(initial=_ENDLESS))
        return np.concatenate(lost) if lost else np.empty(0, np.intp)

    def reckon(self, book: Book) -> None:
        """Find the bound anew (after a change of state from outside)."""
        self.bound = int(self._due(book).min(initial=_ENDLESS))

    def hear(self, row: int, book: Book) -> None:
        gateway = int(self._gateway[row])
        if self.offline[gateway]:
            self.online(gateway, book)
        self.heard[row] = self.listened
        if book.flag[SILENT][row] != CLOSED:
            book.end(SILENT, row, self.now)
            self.bound = min(self.bound, self.listened + int(self._interval[row]))

    def online(self, gateway: int, book: Book) -> None:
        """The gateway is back: the silence of its points counts anew."""
        if self.offline[gateway]:
            self.offline[gateway] = False
            book.end(OFFLINE, gateway, self.now)
            mine = self._rows(gateway)
            self.heard[mine] = self.listened
            self.bound = min(self.bound, self.listened + int(self._interval[mine].min(initial=_ENDLESS)))

    def go_offline(self, gateway: int, book: Book) -> Index:
        """The gateway said so, or its last will. The rows of which nothing is known any more thereby."""
        if self.offline[gateway]:
            return np.empty(0, np.intp)
        mine = self._rows(gateway)
        self._go_offline(gateway, self.now, mine, book)
        return mine

    def next_deadline(self) -> int | None:
        """Arrival time before which nobody can become silent; None if nobody can as things are."""
        if not self.listening or self.bound >= _ENDLESS:
            return None
        return self.now + max(self.bound - self.listened, 0)

    def unheard(self, book: Book) -> NDArray[np.bool_]:
        """Which points are silent, or behind an offline gateway."""
        unheard: NDArray[np.bool_] = (book.flag[SILENT] != CLOSED) | self.offline[self._gateway]
        return unheard

    def resume(self, old: "Silence", anew: Mask) -> None:
        """Go on in another's listened time; the silence of the points ``anew`` counts from now."""
        self.listening, self.listened = old.listening, old.listened
        self.heard[anew] = old.listened

    def _due(self, book: Book) -> Times:
        """When points become silent, in listened time; those that already are, or cannot be, never."""
        return np.where(self.unheard(book), _ENDLESS, self.heard + self._interval)

    def _go_offline(self, gateway: int, since: int, rows: Index, book: Book) -> None:
        self.offline[gateway] = True
        evidence = tuple(self._id[row] for row in rows.tolist())
        book.begin(OFFLINE, gateway, since, since, evidence=evidence)

    def _rows(self, gateway: int) -> Index:
        return np.flatnonzero(self._gateway == gateway)
