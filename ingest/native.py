"""The native JSON codec: rows and columnar form (docs/wire-format.md), straight into columns."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from math import isfinite, nan
from typing import Literal, NamedTuple, TypeVar

import msgspec
import numpy as np

from ingest.codec import (
    Columns,
    Decoded,
    GatewayPoints,
    Limits,
    Lookup,
    Problem,
    Reason,
    listed,
    parse_time,
    plain,
    shown,
)
from ingest.readings import BAD, GOOD, UNCERTAIN, Qualities, Values

QUALITY = {"good": GOOD, "uncertain": UNCERTAIN, "bad": BAD}
"""The words of a reading's quality."""

CACHED = 8
"""Lists of points remembered for a gateway: it sends the same few lists again and again."""

CACHED_BYTES = 256 * 1024
"""A list longer than this is looked up each time."""


class Native:
    """Decodes the readings of one gateway.

    A well-formed message takes the fast path: msgspec into lists, lists into arrays, rows from a cache
    by the very list of points. Anything else is read again, piece by piece, so that each good piece is
    kept and each bad one named: the slow path alone defines what a message means.
    """

    def __init__(self, points: GatewayPoints, limits: Limits) -> None:
        self._points = points
        self._limits = limits
        self._by_ids: dict[tuple[str, ...], Lookup] = {}
        self._by_text: dict[bytes, Lookup] = {}

    def decode(self, payload: bytes, now: int) -> Decoded:
        decoded = self._fast(payload, now)
        if decoded is None:
            decoded = self._slow(payload, now)
        count = sum(len(columns.row) for columns in decoded.columns)
        if count > self._limits.readings:
            detail = f"{count} readings; at most {self._limits.readings} in a message"
            return Decoded([], [Problem(Reason.TOO_MANY_READINGS, detail)])
        return decoded

    # -- a well-formed message -----------------------------------------------------------------

    def _fast(self, payload: bytes, now: int) -> Decoded | None:
        """Decode a well-formed message; None if anything about it needs a closer look."""
        try:
            message = _MESSAGES.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        decoded = Decoded([], [])
        for packet in (message,) if isinstance(message, _Packet) else message:
            if not self._fast_packet(packet, now, decoded):
                return None
        return decoded

    def _fast_packet(self, packet: "_Packet", now: int, decoded: Decoded) -> bool:
        time = parse_time(packet.time, now)
        if (
            isinstance(time, Problem)
            or packet.enterprise not in (msgspec.UNSET, self._points.enterprise)
            or packet.gateway not in (msgspec.UNSET, self._points.id)
        ):
            return False
        quality: Qualities | None = None
        if packet.readings is not msgspec.UNSET:
            if packet.points or packet.values is not msgspec.UNSET:
                return False
            found = self._find(tuple(packet.readings))
            value, quality = _arrays(list(packet.readings.values()))
        elif packet.points and packet.values is not msgspec.UNSET:
            by_text = self._find_text(bytes(packet.points))
            if by_text is None:
                return False
            found = by_text
            value = np.array(packet.values, np.float64)
            if packet.qualities is not msgspec.UNSET:
                quality = np.array([QUALITY[word] for word in packet.qualities], np.uint8)
        else:
            return False
        if len(value) != found.places or (quality is not None and len(quality) != found.places):
            return False
        if found.keep is not None:
            value = value[found.keep]
            quality = None if quality is None else quality[found.keep]
        _add(decoded, found, Columns(found.row, time, value, quality))
        return True

    def _find(self, ids: tuple[str, ...]) -> Lookup:
        found = self._by_ids.get(ids)
        if found is None:
            found = self._points.lookup(ids)
            if sum(map(len, ids)) <= CACHED_BYTES:
                _keep(self._by_ids, ids, found)
        return found

    def _find_text(self, text: bytes) -> Lookup | None:
        """The rows of a JSON list of point ids; None if it is no such list."""
        found = self._by_text.get(text)
        if found is None:
            try:
                ids = _IDS.decode(text)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return None
            found = self._points.lookup(ids)
            if len(text) <= CACHED_BYTES:
                _keep(self._by_text, text, found)
        return found

    # -- any other message ---------------------------------------------------------------------

    def _slow(self, payload: bytes, now: int) -> Decoded:
        """Decode piece by piece. Python's own json also takes NaN and Infinity and sees repeated keys."""
        decoded = Decoded([], [])
        try:
            text = payload.decode("utf-8")
            document = json.loads(text, object_pairs_hook=_object, parse_int=float)
        except UnicodeDecodeError as error:
            decoded.problems.append(Problem(Reason.NOT_UTF8, f"byte {error.start}"))
        except RecursionError:
            decoded.problems.append(Problem(Reason.NOT_JSON, "nested too deeply"))
        except ValueError as error:
            decoded.problems.append(Problem(Reason.NOT_JSON, plain(str(error))))
        else:
            for element in document if isinstance(document, list) else [document]:
                self._slow_packet(element, now, decoded)
        return decoded

    def _slow_packet(self, packet: object, now: int, decoded: Decoded) -> None:
        try:
            opened = self._open(packet, now)
        except _Unusable as error:
            decoded.problems.append(error.problem)
            return
        found = self._points.lookup(opened.ids)
        if opened.repeated:
            detail = listed([plain(id) for id in opened.repeated])
            decoded.problems.append(Problem(Reason.DUPLICATE_POINT, detail))
        row, value, quality = [], [], []
        wrong = defaultdict[Reason, list[str]](list)
        places = range(found.places) if found.keep is None else found.keep.tolist()
        for point, place in zip(found.row.tolist(), places, strict=True):
            read = _read(*opened.given[place])
            if isinstance(read, Problem):
                wrong[read.reason].append(f"{plain(opened.ids[place])}: {read.detail}")
            else:
                row.append(point)
                value.append(read[0])
                quality.append(read[1])
        decoded.problems += [Problem(reason, listed(details)) for reason, details in wrong.items()]
        columns = Columns(
            np.array(row, np.int32), opened.time, np.array(value, np.float64), np.array(quality, np.uint8)
        )
        _add(decoded, found, columns)

    def _open(self, packet: object, now: int) -> "_Opened":
        """Check an object but for its single readings. Raises _Unusable."""
        if not isinstance(packet, _Object):
            raise _Unusable(Reason.WRONG_SHAPE, f"{shown(packet)} where an object belongs")
        if packet.get("enterprise", self._points.enterprise) != self._points.enterprise:
            raise _Unusable(Reason.ENTERPRISE_MISMATCH, f"enterprise {shown(packet['enterprise'])}")
        if packet.get("gateway", self._points.id) != self._points.id:
            raise _Unusable(Reason.GATEWAY_MISMATCH, f"gateway {shown(packet['gateway'])}")
        if "time" not in packet:
            raise _Unusable(Reason.TIME_MISSING, "an object has no time")
        given = packet["time"]
        time = (
            parse_time(given, now)
            if isinstance(given, str)
            else Problem(Reason.TIME_UNREADABLE, f"time {shown(given)}")
        )
        if isinstance(time, Problem):
            raise _Unusable(time.reason, time.detail)
        rows = "readings" in packet
        if rows == ("points" in packet or "values" in packet):
            raise _Unusable(Reason.WRONG_SHAPE, "an object has either readings, or points and values")
        return _open_rows(time, packet["readings"]) if rows else _open_lists(time, packet)


def status(payload: bytes) -> bool | Problem:
    """Whether a gateway's status says that it is online."""
    try:
        return _STATUS.decode(payload).online
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Problem(Reason.WRONG_SHAPE, f'a status is {{"online": true}} or false: {plain(str(error))}')


Key = TypeVar("Key", bytes, tuple[str, ...])


class _Value(msgspec.Struct, gc=False):
    value: float | None = None
    quality: Literal["good", "uncertain", "bad"] = "good"


class _Packet(msgspec.Struct, gc=False):
    """Either form of an object; which one it is shows in the keys that are there."""

    time: str
    readings: dict[str, float | _Value | None] | msgspec.UnsetType = msgspec.UNSET
    points: msgspec.Raw = msgspec.Raw()
    values: list[float | None] | msgspec.UnsetType = msgspec.UNSET
    qualities: list[Literal["good", "uncertain", "bad"]] | msgspec.UnsetType = msgspec.UNSET
    enterprise: str | msgspec.UnsetType = msgspec.UNSET
    gateway: str | msgspec.UnsetType = msgspec.UNSET


class _Status(msgspec.Struct):
    online: bool


def _arrays(given: list[float | _Value | None]) -> tuple[Values, Qualities | None]:
    """Values, and qualities if any has one of its own: a message mostly gives all of them one, or none."""
    try:
        return np.array(given, np.float64), None
    except TypeError:
        whole = [v if isinstance(v, _Value) else _Value(v) for v in given]
        return np.array([v.value for v in whole], np.float64), np.array(
            [QUALITY[v.quality] for v in whole], np.uint8
        )


_MESSAGES = msgspec.json.Decoder(_Packet | list[_Packet])
_IDS = msgspec.json.Decoder(list[str])
_STATUS = msgspec.json.Decoder(_Status)


class _Unusable(Exception):
    """A whole object of a message cannot be used."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(reason, detail)


class _Object(dict[str, object]):
    """A JSON object that remembers which keys it had twice; the last value counts."""

    repeated: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, object]]) -> _Object:
    made = _Object(pairs)
    if len(made) < len(pairs):
        times = Counter(key for key, _ in pairs)
        made.repeated = tuple(key for key, count in times.items() if count > 1)
    return made


class _Opened(NamedTuple):
    """An object of either form; ``given`` is a pair of value and quality for each id."""

    time: int
    ids: Sequence[str]
    given: Sequence[tuple[object, object]]
    repeated: Sequence[str] = ()


def _open_rows(time: int, readings: object) -> _Opened:
    if not isinstance(readings, _Object):
        raise _Unusable(Reason.WRONG_SHAPE, "readings is not an object")
    given = [
        (reading.get("value"), reading.get("quality", "good"))
        if isinstance(reading, _Object)
        else (reading, "good")
        for reading in readings.values()
    ]
    return _Opened(time, list(readings), given, readings.repeated)


def _open_lists(time: int, packet: _Object) -> _Opened:
    points, values = packet.get("points"), packet.get("values")
    if not isinstance(points, list) or not isinstance(values, list):
        raise _Unusable(Reason.WRONG_SHAPE, "points and values are not both lists")
    qualities = packet.get("qualities", ["good"] * len(values))
    if not isinstance(qualities, list):
        raise _Unusable(Reason.WRONG_SHAPE, "qualities is not a list")
    if not len(points) == len(values) == len(qualities):
        lengths = f"{len(points)} points, {len(values)} values, {len(qualities)} qualities"
        raise _Unusable(Reason.WRONG_SHAPE, lengths)
    if not all(isinstance(id, str) for id in points):
        raise _Unusable(Reason.WRONG_SHAPE, "points are not all strings")
    return _Opened(time, points, list(zip(values, qualities, strict=True)))


def _read(value: object, word: object) -> tuple[float, int] | Problem:
    """One value with its quality."""
    if not isinstance(word, str) or word not in QUALITY:
        return Problem(Reason.QUALITY_UNKNOWN, shown(word))
    if value is None:
        return nan, BAD
    if isinstance(value, float):
        if isfinite(value):
            return value, QUALITY[word]
        return Problem(Reason.VALUE_NOT_FINITE, shown(value))
    return Problem(Reason.VALUE_NOT_NUMBER, shown(value))


def _add(decoded: Decoded, found: Lookup, columns: Columns) -> None:
    """Add readings; a value without quality, or quality without value, is a bad one."""
    if columns.quality is not None:
        bad = (columns.quality == BAD) | np.isnan(columns.value)
        columns.quality[bad] = BAD
        columns.value[bad] = nan
    if len(columns.row):
        decoded.columns.append(columns)
    decoded.problems += found.problems


def _keep(cache: dict[Key, Lookup], key: Key, found: Lookup) -> None:
    if len(cache) >= CACHED:
        cache.clear()
    cache[key] = found
