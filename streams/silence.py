"""Silence: points that were not heard, or gave nothing valid, for their interval; gateways that are offline.

Runs on listened time: arrival time that counts only between two rounds of which the earlier was listening
and that are at most 2 s apart. So our own deafness is nobody's silence.

Left open by the contract, and decided so:
- Late and bad readings count as heard; a duplicate does not, it says nothing new of the sensor.
- At start, and where a point is given an interval for the first time, its silence counts from then on.
- "Since" is counted back from now in listened time.
- A point that was silent already when its gateway went offline stays silent; UNKNOWN and the finding of the
  gateway are said once.
- A point that is heard but gives no known value has bad quality; that goes on while the point is silent. A late
  known value counts. Where its silence counts anew, so does this.
- A gateway of which anything was heard within the shortest interval of its points is not offline; nor is one
  that was heard when each of its points with an interval was already overdue: it is they who are silent.
"""

import numpy as np
from numpy.typing import NDArray

from ingest.readings import Times
from registry.clock import MINUTE, SECOND
from registry.model import Registry
from streams.episodes import BAD_QUALITY, CLOSED, OFFLINE, SILENT, Book
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
        self.rows = Rows(len(points), heard=np.int64(0), known=np.int64(0))
        self.heard: Times = self.rows["heard"]
        self.known: Times = self.rows["known"]  # when a known value was heard, or silence ended
        self.gateways = Rows(len(registry.gateways), offline=np.bool_(False), back=np.int64(0))
        self.offline: NDArray[np.bool_] = self.gateways["offline"]
        self._back: Times = self.gateways["back"]  # in listened time: when it was offline no more
        self._shortest = np.full(len(registry.gateways), _ENDLESS, np.int64)
        np.minimum.at(self._shortest, self._gateway, self._interval)
        self.now = now
        self.listening = False
        self.listened = 0
        self.gap = now, now  # from when to when we did not listen last, in arrival time
        self.deaf = now, now  # the last one of more than a minute
        self.bound = 0  # in listened time: before it, nobody can become silent

    def elapse(self, now: int, listening: bool) -> None:
        gap = now - self.now
        if self.listening and gap <= LARGEST_GAP:
            self.listened += gap
        elif gap:
            begun, ended = self.gap
            if self.now - ended > MINUTE:  # two that are closer to each other are one
                begun = self.now
            self.gap = begun, now
            if now - begun > MINUTE:
                self.deaf = self.gap
        self.now, self.listening = now, listening

    def notice(self, book: Book) -> Index:
        """Say who is silent now, or gives no known value. The rows that are not heard any more thereby."""
        if self.listened < self.bound:
            return np.empty(0, np.intp)
        due = self._due(book)
        gone_at = self._offline_due(due)
        gone = gone_at <= self.listened
        for gateway in np.flatnonzero(gone).tolist():
            since = self.now - (self.listened - int(gone_at[gateway]))
            self._go_offline(gateway, since, self._rows(gateway), book)
        behind = gone[self._gateway]
        silent = (due <= self.listened) & ~behind
        bad_at = self._bad_due(book)
        bad = (bad_at <= self.listened) & ~behind & ~silent
        for rule, at, rows in ((SILENT, due, silent), (BAD_QUALITY, bad_at, bad)):
            for row in np.flatnonzero(rows).tolist():
                since = self.now - (self.listened - int(at[row]))
                book.begin(rule, row, since, since)
        self.reckon(book)
        return np.flatnonzero(silent | behind)

    def reckon(self, book: Book) -> None:
        """Find the bound anew (after a change of state from outside)."""
        due = self._due(book)
        times = (due, self._offline_due(due), self._bad_due(book))
        self.bound = min(int(time.min(initial=_ENDLESS)) for time in times)

    def hear(self, row: int, known: bool, book: Book) -> None:
        """A reading of this point has come, and whether its value is known."""
        gateway = int(self._gateway[row])
        if self.offline[gateway]:
            self.online(gateway, book)
        self.heard[row] = self.listened
        if book.flag[SILENT][row] != CLOSED:
            book.end(SILENT, row, self.now)
            self.known[row] = self.listened
            self.bound = min(self.bound, self.listened + int(self._interval[row]))
        bad = book.flag[BAD_QUALITY][row] != CLOSED
        if known:
            self.known[row] = self.listened
            if bad:
                book.end(BAD_QUALITY, row, self.now)
        elif not bad:
            since = max(int(self.known[row]), int(self._back[gateway]))
            self.bound = min(self.bound, since + int(self._interval[row]))

    def online(self, gateway: int, book: Book) -> None:
        """The gateway is back: the silence of its points counts anew."""
        if self.offline[gateway]:
            self.offline[gateway] = False
            book.end(OFFLINE, gateway, self.now)
            self._back[gateway] = self.listened
            self.bound = min(self.bound, self.listened + int(self._shortest[gateway]))

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

    def valueless(self, book: Book) -> NDArray[np.bool_]:
        """Of which points a known value would be news."""
        valueless: NDArray[np.bool_] = (self.heard > self.known) | (book.flag[BAD_QUALITY] != CLOSED)
        return valueless

    def resume(self, old: "Silence", anew: Mask) -> None:
        """Go on in another's listened time; the silence of the points ``anew`` counts from now."""
        self.listening, self.listened = old.listening, old.listened
        self.gap, self.deaf = old.gap, old.deaf
        self.heard[anew] = self.known[anew] = old.listened

    def _due(self, book: Book) -> Times:
        """When points become silent, in listened time; those that already are, or cannot be, never."""
        since = np.maximum(self.heard, self._back[self._gateway])
        return np.where(self.unheard(book) | ~self.has, _ENDLESS, since + self._interval)

    def _bad_due(self, book: Book) -> Times:
        """When points have given no known value for their interval, in listened time; likewise."""
        never = (
            self.unheard(book) | ~self.has | (book.flag[BAD_QUALITY] != CLOSED) | (self.heard <= self.known)
        )
        since = np.maximum(self.known, self._back[self._gateway])
        return np.where(never, _ENDLESS, since + self._interval)

    def _offline_due(self, due: Times) -> Times:
        """When gateways become offline, in listened time, if nothing is heard; likewise. due: of the points."""
        heard = np.zeros(len(self.offline), np.int64)
        np.maximum.at(heard, self._gateway, self.heard)
        expected = np.zeros(len(self.offline), np.int64)
        np.maximum.at(expected, self._gateway[self.has], (self.heard + self._interval)[self.has])
        gone_at = np.maximum(heard, self._back) + self._shortest
        pending = due < _ENDLESS
        np.maximum.at(gone_at, self._gateway[pending], due[pending])
        gone_at[self.offline | (expected <= heard)] = _ENDLESS
        return gone_at

    def _go_offline(self, gateway: int, since: int, rows: Index, book: Book) -> None:
        self.offline[gateway] = True
        evidence = tuple(self._id[row] for row in rows.tolist())
        book.begin(OFFLINE, gateway, since, since, evidence=evidence)

    def _rows(self, gateway: int) -> Index:
        return np.flatnonzero(self._gateway == gateway)
