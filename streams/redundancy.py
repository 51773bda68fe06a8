"""Redundancy: points that should agree, and for how long they have not.

T is the earliest of the known members' newest times. Whenever T increases, and two members or more are
known, the spread of their last values is held against the tolerance; a spread above it for at least
the delay (from T to T) is a disagreement. A bad, silent or out-of-range member is not known.

Left open by the contract, and decided so:
- With fewer than two known members an open disagreement is UNKNOWN; a running delay keeps running.
- A member that became silent, or whose gateway went offline, or that is new in its group, is known again by
  its next known reading.
"""

import numpy as np

from ingest.readings import Times, Values
from registry.model import Registry
from streams.episodes import CLOSED, DISAGREEMENT, Book
from streams.sieve import Index, Mask
from streams.state import NEVER, Rows


class Redundancy:
    def __init__(self, registry: Registry) -> None:
        points, groups = registry.points, registry.groups
        self._groups = groups
        self._group = points.group
        self._id, self._unit = points.id, points.engineering_unit
        self.has = points.group >= 0
        self._members = [np.flatnonzero(points.group == group).tolist() for group in range(len(groups))]
        widest = max(map(len, self._members), default=0)
        # a group a row, filled up with its first member, for whole batches
        self._table = np.array(
            [(m + m[:1] * widest)[:widest] or [0] * widest for m in self._members], np.intp
        )
        self._enough = np.array([len(members) > 1 for members in self._members], np.bool_)
        self._tolerance = np.array([group.tolerance for group in groups], np.float64)
        self.rows = Rows(len(points), time=np.int64(NEVER), value=np.float64(np.nan))
        self._time: Times = self.rows["time"]
        self._value: Values = self.rows["value"]
        self.groups = Rows(len(groups), judged=np.int64(NEVER), since=np.int64(NEVER))
        self._judged: Times = self.groups["judged"]
        self._since: Times = self.groups["since"]

    def judge(self, place: Index, row: Index, time: Times, value: Values, book: Book) -> None:
        """Readings in order, NaN where unknown; place is their number in the round."""
        mine = self.has[row]
        if not mine.any():
            return
        place, row, time, value = place[mine], row[mine], time[mine], value[mine]
        for i in np.flatnonzero(~self._agree(row, time, value, book)).tolist():
            at = int(row[i])
            self._time[at], self._value[at] = time[i], value[i]
            book.place = int(place[i])
            self._evaluate(int(self._group[at]), int(time[i]), book)

    def _agree(self, row: Index, time: Times, value: Values, book: Book) -> Mask:
        """Take over at once the readings of groups that agree, whatever the order of their readings.

        That is so where all members are known and stay so, none comes twice, nothing is running, and no old
        value is further from any new one than the tolerance. Which readings those were.
        """
        if len(np.unique(row)) < len(row):
            return np.zeros(len(row), np.bool_)
        group, which = np.unique(self._group[row], return_inverse=True)
        old = self._value[self._table[group]]
        high, low = old.max(axis=1), old.min(axis=1)  # NaN where a member is not known
        with np.errstate(over="ignore", invalid="ignore"):
            np.maximum.at(high, which, value)
            np.minimum.at(low, which, value)
            calm = (high - low <= self._tolerance[group]) & self._enough[group]
        calm &= (book.flag[DISAGREEMENT][group] == CLOSED) & (self._since[group] == NEVER)
        calm[which[time < self._time[row]]] = False
        agree: Mask = calm[which]
        self._time[row[agree]], self._value[row[agree]] = time[agree], value[agree]
        group = group[calm]
        self._judged[group] = np.maximum(self._judged[group], self._time[self._table[group]].min(axis=1))
        return agree

    def forget(self, rows: Index, time: int, book: Book) -> None:
        """These points are not known any more, by silence noticed at this time."""
        rows = rows[self.has[rows]]
        self._value[rows] = np.nan
        for group in np.unique(self._group[rows]).tolist():
            self._evaluate(group, time, book)

    def _evaluate(self, group: int, time: int, book: Book) -> None:
        known = {row: v for row in self._members[group] if (v := float(self._value[row])) == v}
        if len(known) < 2:
            book.unknown(DISAGREEMENT, group, time)
            return
        now = min(int(self._time[row]) for row in known)
        if now <= int(self._judged[group]):
            return
        self._judged[group] = now
        rule = self._groups[group]
        spread = max(known.values()) - min(known.values())
        book.known(DISAGREEMENT, group, now, spread)
        is_open = book.flag[DISAGREEMENT][group] != CLOSED
        if spread <= rule.tolerance:
            self._since[group] = NEVER
            if is_open:
                book.end(DISAGREEMENT, group, now, spread)
            return
        if self._since[group] == NEVER:
            self._since[group] = now
        since = int(self._since[group])
        if not is_open and now >= since + rule.delay:
            evidence = tuple(f"{self._id[row]} {value:g}" for row, value in known.items())
            unit = self._unit[self._members[group][0]]
            book.begin(
                DISAGREEMENT,
                group,
                since,
                now,
                value=spread,
                limit=rule.tolerance,
                unit=unit,
                evidence=evidence,
            )

    def part(self, rows: Index) -> None:
        """What these points said was said in another group, or in none: they are not known yet in theirs."""
        self._value[rows] = np.nan
        self._time[rows] = NEVER
