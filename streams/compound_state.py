"""What one pattern of a compound rule has heard in one place: who holds, since when, and what lately held."""

from bisect import bisect_left, insort
from collections.abc import Iterable
from heapq import heapify, heappop, heappush

import msgspec

from registry.model import FOREVER
from streams.compound_spans import Spans, add, union
from streams.finding import Finding
from streams.state import NEVER

Place = tuple[str, str]
"""(credit code, "unit:R1"), (credit code, "") for the whole enterprise, or ("", "cell:ID")."""


class Mark(msgspec.Struct, array_like=True):
    """A finding as it was when it ended."""

    time: int
    finding: Finding


class Known(msgspec.Struct):
    """A finding that is not over. All times are event times, none after the arrival of what they came with.

    finding: what was last said of it. true: whether it is TRUE, else UNKNOWN. begun: since when it is, of its kind
    and where it is. levelled: since when it has its level too. turned: since when it is TRUE, or UNKNOWN.
    edge: of the newest message.
    """

    finding: Finding
    true: bool
    begun: int
    levelled: int
    turned: int
    edge: int


class Part(msgspec.Struct):
    """All findings of one key: those that count as one.

    open: by id, since when each matches, and since when it is TRUE (None: it is UNKNOWN). starts, trues: the
    same times in order. was_possible, was_true: when some of those that are over were not FALSE, and TRUE.
    last: of a pattern of a sequence, its finding as it was before it was over.
    """

    open: dict[str, tuple[int, int | None]] = {}
    starts: list[tuple[int, str]] = []
    trues: list[tuple[int, str]] = []
    was_possible: Spans = []
    was_true: Spans = []
    last: Finding | None = None

    def possible(self) -> Spans:
        return _going_on(self.was_possible, self.starts)

    def true(self) -> Spans:
        return _going_on(self.was_true, self.trues)

    def since(self) -> tuple[int, int]:
        """Since when it is possible, and TRUE, by what is not over (FOREVER: it is not): where that stays, a
        change in it changes nothing else."""
        starts, trues = self.starts, self.trues
        return starts[0][0] if starts else FOREVER, trues[0][0] if trues else FOREVER

    def forget(self, limit: int) -> bool:
        """Forget what was over by ``limit``. Whether nothing is left."""
        for spans in (self.was_possible, self.was_true):
            del spans[: next((i for i, (_, end) in enumerate(spans) if end > limit), len(spans))]
        return not self.open and not self.was_possible


def _going_on(was: Spans, since: list[tuple[int, str]]) -> Spans:
    if not since:
        return was
    now = (since[0][0], FOREVER)
    return union([was, [now]]) if was else [now]


class PackedPart(msgspec.Struct, array_like=True):
    key: str
    open: list[tuple[str, int, int | None]]
    was_possible: Spans
    was_true: Spans
    last: Finding | None


class Packed(msgspec.Struct, array_like=True):
    parts: list[PackedPart]
    closing: list[tuple[int, str]]
    last: int
    ended: Mark | None


class Heard:
    """One pattern in one place.

    Findings are told apart by a key: those of one key count as one; in a sequence every stretch counts for
    itself. ``remembers``: whether what is over is kept for a while.

    last: when the last finding that is over ended. ended: that finding.
    stretches: in a sequence, all that began, in order.
    """

    __slots__ = (
        *("remembers", "stretched", "parts", "key", "possible", "true", "stretches", "last", "ended"),
        "_closing",
    )

    def __init__(self, remembers: bool, stretched: bool) -> None:
        self.remembers = remembers
        self.stretched = stretched
        self.parts: dict[str, Part] = {}
        self.key: dict[str, str] = {}
        self.possible: set[str] = set()
        self.true: set[str] = set()
        self.stretches: list[tuple[int, str]] = []
        self.last = NEVER
        self.ended: Mark | None = None
        self._closing: list[tuple[int, str]] = []

    def enter(self, id: str, key: str, start: int, true: int | None) -> Part:
        """A finding matches from ``start`` on, and is TRUE since ``true``. The part that it belongs to."""
        if self.stretched:
            key = f"{id}@{start}"
        part = self.parts.get(key)
        if part is None:
            part = self.parts[key] = Part()
            if self.stretched:
                insort(self.stretches, (start, key))
        self.key[id] = key
        part.open[id] = start, None
        insort(part.starts, (start, id))
        self.possible.add(key)
        if true is not None:
            self._make_true(part, key, id, true)
        return part

    def turn(self, id: str, true: bool, edge: int) -> None:
        """A finding that matches is TRUE from ``edge`` on, or UNKNOWN."""
        key = self.key[id]
        part = self.parts[key]
        since = part.open[id][1]
        if true and since is None:
            self._make_true(part, key, id, edge)
        elif not true and since is not None:
            self._make_unknown(part, key, id, since, edge)

    def leave(self, id: str, edge: int, finding: Finding) -> None:
        """A finding matches no more from ``edge`` on; ``finding``: as it was."""
        key = self.key[id]
        part = self.parts[key]
        since = part.open[id][1]
        if since is not None:
            self._make_unknown(part, key, id, since, edge)
        start = self._drop(part, key, id)
        self.last = max(self.last, edge)
        if self.remembers:
            if self.ended is None or (edge, id) > (self.ended.time, self.ended.finding.id):
                self.ended = Mark(edge, finding)
            add(part.was_possible, start, edge)
            if self.stretched:
                part.last = finding
            heappush(self._closing, (edge, key))
        elif not part.open:
            self._remove(key)

    def erase(self, id: str) -> None:
        """A finding was never here."""
        key = self.key[id]
        part = self.parts[key]
        since = part.open[id][1]
        if since is not None:
            self._make_unknown(part, key, id, since, since)
        self._drop(part, key, id)
        if not part.open and not part.was_possible:
            self._remove(key)

    def forget(self, limit: int) -> None:
        """Forget what was over by ``limit``."""
        while self._closing and self._closing[0][0] <= limit:
            _, key = heappop(self._closing)
            part = self.parts.get(key)
            if part is not None and part.forget(limit):
                self._remove(key)

    def _make_true(self, part: Part, key: str, id: str, since: int) -> None:
        part.open[id] = part.open[id][0], since
        insort(part.trues, (since, id))
        self.true.add(key)

    def _make_unknown(self, part: Part, key: str, id: str, since: int, edge: int) -> None:
        part.open[id] = part.open[id][0], None
        del part.trues[bisect_left(part.trues, (since, id))]
        if self.remembers:
            add(part.was_true, since, edge)
            heappush(self._closing, (edge, key))
        if not part.trues:
            self.true.discard(key)

    def _drop(self, part: Part, key: str, id: str) -> int:
        start, _ = part.open.pop(id)
        del part.starts[bisect_left(part.starts, (start, id))]
        del self.key[id]
        if not part.open:
            self.possible.discard(key)
        return start

    def _remove(self, key: str) -> None:
        del self.parts[key]
        if self.stretched:
            start = int(key.rpartition("@")[2])
            del self.stretches[bisect_left(self.stretches, (start, key))]

    def pack(self) -> Packed:
        parts = []
        for key, part in sorted(self.parts.items()):
            open = [(id, *part.open[id]) for id in sorted(part.open)]
            parts.append(PackedPart(key, open, part.was_possible, part.was_true, part.last))
        return Packed(parts, sorted(self._closing), self.last, self.ended)

    def load(self, packed: Packed) -> None:
        """Undo :meth:`pack`."""
        self.last, self.ended = packed.last, packed.ended
        self._closing = list(packed.closing)
        heapify(self._closing)
        for saved in packed.parts:
            part = Part(was_possible=saved.was_possible, was_true=saved.was_true, last=saved.last)
            self.parts[saved.key] = part
            if self.stretched:
                insort(self.stretches, (int(saved.key.rpartition("@")[2]), saved.key))
            for id, start, true in saved.open:
                self.key[id] = saved.key
                part.open[id] = start, true
                insort(part.starts, (start, id))
                self.possible.add(saved.key)
                if true is not None:
                    insort(part.trues, (true, id))
                    self.true.add(saved.key)


def latest(some: Iterable[Heard], time: int) -> tuple[int, str, Heard] | None:
    """The last stretch in any of these that began no later than ``time``."""
    found = None
    for heard in some:
        index = bisect_left(heard.stretches, (time + 1, "")) - 1
        if index >= 0 and (found is None or heard.stretches[index] > found[:2]):
            found = *heard.stretches[index], heard
    return found
