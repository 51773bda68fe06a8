"""Sets of times as sorted, disjoint, half-open spans: how long something held, and what follows from that.

Times are µs. ``NEVER`` as a begin and ``FOREVER`` as an end mean that there is none. All functions leave their
arguments as they are, except :func:`add`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from operator import itemgetter

from registry.model import FOREVER
from streams.state import NEVER

Spans = list[tuple[int, int]]

ALWAYS: Spans = [(NEVER, FOREVER)]

_begin, _end = itemgetter(0), itemgetter(1)


def at(spans: Spans, time: int) -> bool:
    """Whether ``time`` is in the set."""
    index = bisect_right(spans, time, key=_begin) - 1
    return index >= 0 and time < spans[index][1]


def next_edge(spans: Spans, time: int) -> int:
    """When the set first differs from what it is at ``time``; FOREVER if it stays."""
    index = bisect_right(spans, time, key=_end)
    if index == len(spans):
        return FOREVER
    begin, end = spans[index]
    return end if begin <= time else begin


def add(spans: Spans, begin: int, end: int) -> None:
    """Put one span into the set, in place."""
    if begin >= end:
        return
    first = bisect_left(spans, begin, key=_end)
    last = bisect_right(spans, end, key=_begin)
    if first < last:
        begin, end = min(begin, spans[first][0]), max(end, spans[last - 1][1])
    spans[first:last] = [(begin, end)]


def union(sets: Iterable[Spans]) -> Spans:
    result: Spans = []
    for begin, end in sorted(span for spans in sets for span in spans):
        if result and begin <= result[-1][1]:
            if end > result[-1][1]:
                result[-1] = (result[-1][0], end)
        else:
            result.append((begin, end))
    return result


def intersection(sets: Iterable[Spans]) -> Spans:
    result = ALWAYS
    for spans in sets:
        result = _both(result, spans)
    return result


def _both(some: Spans, others: Spans) -> Spans:
    if some == ALWAYS:
        return others
    result: Spans = []
    i = j = 0
    while i < len(some) and j < len(others):
        begin, end = max(some[i][0], others[j][0]), min(some[i][1], others[j][1])
        if begin < end:
            result.append((begin, end))
        if some[i][1] < others[j][1]:
            i += 1
        else:
            j += 1
    return result


def complement(spans: Spans) -> Spans:
    edges = [NEVER, *(edge for span in spans for edge in span), FOREVER]
    return [(begin, end) for begin, end in zip(edges[::2], edges[1::2], strict=True) if begin < end]


def grown(spans: Spans, time: int) -> Spans:
    """When it is in the set or was so less than ``time`` ago."""
    return union([[(begin, end if end == FOREVER else end + time) for begin, end in spans]])


def lasting(spans: Spans, time: int) -> Spans:
    """When it has been in the set for ``time`` without a break."""
    late = ((begin if begin == NEVER else begin + time, end) for begin, end in spans)
    return [(begin, end) for begin, end in late if begin < end]


def at_least(count: int, sets: Iterable[Spans]) -> Spans:
    """When it is in so many of the sets at once."""
    if count == 1:
        return union(sets)
    result: Spans = []
    inside, begin = 0, NEVER
    # At one time what ends comes before what begins; a gap that this makes is closed by union.
    steps = sorted(step for spans in sets for begins, ends in spans for step in ((begins, 1), (ends, -1)))
    for time, step in steps:
        inside += step
        if step > 0 and inside == count:
            begin = time
        elif step < 0 and inside == count - 1:
            result.append((begin, time))
    return union([result])
