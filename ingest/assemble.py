"""From messages that arrived together to the round that is judged and journaled, and the dead letters beside it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from ingest.codec import (
    ADVICE,
    Codec,
    Columns,
    GatewayPoints,
    Limits,
    Problem,
    Reason,
    listed,
    plain,
)
from ingest.dead_letters import merged
from ingest.message import Message
from ingest.native import Native, status
from ingest.readings import BAD, DeadLetter, GatewayStatus, Readings, Round
from registry import credit
from registry.model import Registry

CODECS: dict[str, type[Codec]] = {"readings": Native}
"""The codec of each kind of topic, by its last level."""

STATUS = "status"
"""The last level of a topic that carries a gateway's status instead of readings."""

HEAD = 256
"""Bytes of a payload that a dead letter keeps."""

MEMORY = 16_384
"""Digests remembered at least, unless told otherwise."""


class Assembler:
    """Messages in, rounds and dead letters out; knows the registry and what came lately.

    Args:
        registry: the version in force.
        recent: digests of the messages journaled last, oldest first (``Journal.recent_digests``).
        limits: the largest message that is looked into.
        memory: digests remembered at least; more than the broker may send again.

    ``dropped`` counts messages that the broker sent again although they had come ("repeated").
    """

    def __init__(
        self,
        registry: Registry,
        recent: Iterable[bytes] = (),
        limits: Limits | None = None,
        memory: int = MEMORY,
    ) -> None:
        self.dropped: Counter[str] = Counter()
        self._memory = memory
        self._limits = limits or Limits()
        self._recent = dict.fromkeys(recent)
        self.set_registry(registry)

    def set_registry(self, registry: Registry) -> None:
        """From the next call on, messages are read by this version."""
        self._registry = registry
        self._routes: dict[str, _Route] = {}

    def assemble(
        self, messages: Sequence[Message], now: int, *, listening: bool = True
    ) -> tuple[list[Round], list[DeadLetter]]:
        """Make one round of all readings; a status message that follows readings begins a new round.

        Any messages give at least one round, so that their digests are journaled; no messages give none.
        What is given is to be journaled, however late: its messages are not read again. Never raises for
        anything that a message holds.
        """
        if not messages:
            return [], []
        batch = _Batch()
        for message in messages:
            digest = _digest(message)
            if message.dup and digest in self._recent:
                self.dropped["repeated"] += 1
            else:
                self._recent[digest] = batch.digests[digest] = None
                self._read(message, now, batch)
        batch.close()
        self._forget()
        rounds = [
            Round(
                now,
                listening,
                status=tuple(statuses),
                readings=_readings(columns),
                digests=b"".join(batch.digests) if place == len(batch.closed) else b"",
            )
            for place, (statuses, columns) in enumerate(batch.closed, 1)
        ]
        return rounds, merged(batch.dead)

    def _forget(self) -> None:
        if len(self._recent) > 2 * self._memory:
            self._recent = dict.fromkeys(list(self._recent)[-self._memory :])

    def _read(self, message: Message, now: int, batch: "_Batch") -> None:
        """Take what is good of a message into the batch; the rest becomes dead letters, one a reason.

        A fault of ours costs the one message that showed it, not the stream.
        """
        try:
            problems = self._understand(message, now, batch)
        except Exception as error:  # noqa: BLE001  counted and kept as a dead letter; nothing may stop the rest
            problems = [Problem(Reason.CODEC_FAILED, f"{type(error).__name__}: {plain(str(error))}")]
        for reason, detail in _details(problems):
            batch.dead.append(
                DeadLetter(now, _writable(message.topic), reason, detail, message.payload[:HEAD])
            )

    def _understand(self, message: Message, now: int, batch: "_Batch") -> Sequence[Problem]:
        """Take what is good of a message into the batch; what was wrong with the rest."""
        route = self._routes.get(message.topic) or self._route(message.topic)
        if isinstance(route, Problem):
            return [route]
        if len(message.payload) > self._limits.payload:
            detail = f"{len(message.payload)} bytes; at most {self._limits.payload} in a message"
            return [Problem(Reason.TOO_LARGE, detail)]
        if route.codec is None:
            online = status(message.payload)
            if isinstance(online, Problem):
                return [online]
            batch.status(GatewayStatus(route.gateway, online))
            return []
        decoded = route.codec.decode(message.payload, now)
        batch.columns += decoded.columns
        return decoded.problems

    def _route(self, topic: str) -> "_Route | Problem":
        """Who speaks on a topic, and how to read it."""
        levels = topic.split("/")
        if len(levels) != 5 or levels[:2] != ["fenghuo", "v1"] or levels[4] not in (*CODECS, STATUS):
            return Problem(Reason.TOPIC, plain(topic))
        _, _, enterprise, gateway, kind = levels
        if enterprise not in self._registry.enterprises:
            if wrong := credit.check(enterprise):
                return Problem(Reason.CREDIT_CODE, f"{plain(enterprise)} {wrong}")
            return Problem(Reason.UNKNOWN_ENTERPRISE, enterprise)
        index = self._registry.gateway_index.get((enterprise, gateway))
        if index is None:
            return Problem(Reason.UNKNOWN_GATEWAY, plain(gateway))
        codec = None
        if kind != STATUS:
            codec = CODECS[kind](GatewayPoints(self._registry, index), self._limits)
        route = self._routes[topic] = _Route(enterprise, gateway, index, codec)
        return route


@dataclass(frozen=True, slots=True)
class _Route:
    """A topic that the registry knows; codec None: it carries the gateway's status."""

    enterprise: str
    id: str
    gateway: int
    codec: Codec | None


@dataclass(slots=True)
class _Batch:
    """What became of the messages of one call."""

    closed: list[tuple[list[GatewayStatus], list[Columns]]] = field(default_factory=list)
    statuses: list[GatewayStatus] = field(default_factory=list)
    columns: list[Columns] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    digests: dict[bytes, None] = field(default_factory=dict)

    def status(self, said: GatewayStatus) -> None:
        """A round's status comes before its readings: readings that came before it need their own round."""
        if self.columns:
            self.close()
        self.statuses.append(said)

    def close(self) -> None:
        self.closed.append((self.statuses, self.columns))
        self.statuses, self.columns = [], []


def _digest(message: Message) -> bytes:
    """8 bytes by which a message that is sent again is known: its packet id, topic and payload.

    The packet id tells a repeat from a message that says the same again (offline, online, offline): what
    is sent again keeps its id (MQTT 5, 4.4), in mosquitto also over a restart of the broker. From a broker
    that numbers anew, readings are journaled twice, and the engine drops them as duplicates by their time.
    """
    digest = blake2b(message.topic.encode("utf-8", "surrogatepass"), digest_size=8)
    digest.update(b"\0%d\0" % message.mid)
    digest.update(message.payload)
    return digest.digest()


def _details(problems: Sequence[Problem]) -> list[tuple[Reason, str]]:
    """One detail for each reason: what exactly, and how to mend it."""
    details: dict[Reason, list[str]] = {}
    for problem in problems:
        details.setdefault(problem.reason, []).append(problem.detail)
    return [(reason, f"{listed(told)} ({ADVICE[reason]})") for reason, told in details.items()]


def _writable(topic: str) -> str:
    """A topic as a file can hold it: a gateway's maker may put anything into it."""
    return topic[:HEAD] if topic.isprintable() else plain(topic)


def _readings(columns: Sequence[Columns]) -> Readings:
    """All columns one after the other."""
    if not columns:
        return Readings.empty()
    counts = [len(part.row) for part in columns]
    value = np.concatenate([part.value for part in columns])
    quality = np.isnan(value).view(np.uint8)
    quality *= BAD
    start = 0
    for part, count in zip(columns, counts, strict=True):
        if part.quality is not None:
            quality[start : start + count] = part.quality
        start += count
    return Readings(
        np.concatenate([part.row for part in columns]),
        np.repeat(np.array([part.time for part in columns], np.int64), counts),
        value,
        quality,
    )
