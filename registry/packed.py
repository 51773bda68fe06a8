"""A registry as bytes and back: msgpack, points and facts by column, each distinct text once."""

from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from registry.model import (
    Cell,
    Duty,
    Enterprise,
    Escalation,
    Facts,
    Gateway,
    Group,
    Holding,
    Person,
    Points,
    Registry,
    Section,
)

FORMAT = 3

_TEXTS = ("id", "name", "kind", "engineering_unit", "unit", "place", "video", "clause", "template")
_ARRAYS: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "gateway": (np.int32, (-1,)),
    "range_low": (np.float64, (-1,)),
    "range_high": (np.float64, (-1,)),
    "limit": (np.float64, (-1, 4)),
    "reset": (np.float64, (-1, 4)),
    "on_delay": (np.int64, (-1, 4)),
    "off_delay": (np.int64, (-1, 4)),
    "interval": (np.int64, (-1,)),
    "rate": (np.float64, (-1,)),
    "rate_over": (np.int64, (-1,)),
    "stuck_after": (np.int64, (-1,)),
    "stuck_within": (np.float64, (-1,)),
    "alarm_state": (np.float64, (-1,)),
    "state_delay": (np.int64, (-1,)),
    "ahead": (np.int64, (-1,)),
    "ahead_over": (np.int64, (-1,)),
    "group": (np.int32, (-1,)),
}

_FACT_TEXTS = (
    *("rule", "enterprise", "subject", "record", "name", "kind", "unit", "level", "clause"),
    "engineering_unit",
)
_FACT_ARRAYS: dict[str, type[np.generic]] = {
    "begins": np.int64,
    "ends": np.int64,
    "value": np.float64,
    "limit": np.float64,
}


class _Texts(msgspec.Struct, frozen=True, array_like=True):
    distinct: list[str]
    which: bytes  # little-endian int32, an index into distinct for each row


class _PackedFacts(msgspec.Struct, frozen=True):
    texts: dict[str, _Texts]
    arrays: dict[str, bytes]


class _Packed(msgspec.Struct, frozen=True):
    format: int
    version: str
    time_zone: str
    cells: list[Cell]
    enterprises: list[Enterprise]
    gateways: tuple[Gateway, ...]
    texts: dict[str, _Texts]
    arrays: dict[str, bytes]
    groups: tuple[Group, ...]
    people: list[Person]
    duty: tuple[Duty, ...]
    escalation: dict[str, Escalation]
    sections: tuple[Section, ...]
    holdings: tuple[Holding, ...]
    facts: (
        msgspec.Raw
    )  # of _PackedFacts: by far the largest part of a city, and the one that an edit seldom changes
    facts_digest: str
    edit: str


_decoder = msgspec.msgpack.Decoder(_Packed)
_facts_decoder = msgspec.msgpack.Decoder(_PackedFacts)


def pack(registry: Registry) -> bytes:
    """The registry as bytes; equal registries give equal bytes."""
    points, facts = registry.points, _packed_facts(registry.facts)
    return msgspec.msgpack.encode(
        _Packed(
            format=FORMAT,
            version=registry.version,
            time_zone=registry.time_zone,
            cells=list(registry.cells.values()),
            enterprises=list(registry.enterprises.values()),
            gateways=registry.gateways,
            texts={name: _texts(getattr(points, name)) for name in _TEXTS},
            arrays={
                name: _little_endian(getattr(points, name), dtype) for name, (dtype, _) in _ARRAYS.items()
            },
            groups=registry.groups,
            people=list(registry.people.values()),
            duty=registry.duty,
            escalation=registry.escalation,
            sections=registry.sections,
            holdings=registry.holdings,
            facts=msgspec.Raw(facts),
            facts_digest=blake2b(facts, digest_size=16).hexdigest(),
            edit=registry.edit,
        )
    )


def unpack(content: bytes, like: Registry | None = None) -> Registry:
    """The registry of these bytes; its arrays are read-only views. Raises ValueError if they are none.

    like: another one; where its facts are the same, they are the very same object.
    """
    packed = _decoder.decode(content)  # msgspec.DecodeError and ValidationError are ValueErrors
    if packed.format != FORMAT:
        raise ValueError(f"a registry of format {packed.format}, not {FORMAT}")
    columns: dict[str, Any] = {name: _rows(packed.texts[name]) for name in _TEXTS}
    for name, (dtype, shape) in _ARRAYS.items():
        columns[name] = np.frombuffer(packed.arrays[name], np.dtype(dtype).newbyteorder("<")).reshape(shape)
    if like is not None and like.facts.digest == packed.facts_digest:
        facts = like.facts
    else:
        facts = _facts(packed.facts, packed.facts_digest)
    return Registry(
        version=packed.version,
        time_zone=packed.time_zone,
        cells={cell.id: cell for cell in packed.cells},
        enterprises={enterprise.code: enterprise for enterprise in packed.enterprises},
        gateways=packed.gateways,
        points=Points(**columns),
        groups=packed.groups,
        people={person.id: person for person in packed.people},
        duty=packed.duty,
        escalation=packed.escalation,
        sections=packed.sections,
        holdings=packed.holdings,
        facts=facts,
        edit=packed.edit,
    )


def _packed_facts(facts: Facts) -> bytes:
    texts = {name: _texts(getattr(facts, name)) for name in _FACT_TEXTS}
    arrays = {name: _little_endian(getattr(facts, name), dtype) for name, dtype in _FACT_ARRAYS.items()}
    return msgspec.msgpack.encode(_PackedFacts(texts, arrays))


def _facts(content: msgspec.Raw, digest: str) -> Facts:
    packed = _facts_decoder.decode(content)
    columns: dict[str, Any] = {name: _rows(packed.texts[name]) for name in _FACT_TEXTS}
    for name, kind in _FACT_ARRAYS.items():
        columns[name] = np.frombuffer(packed.arrays[name], np.dtype(kind).newbyteorder("<"))
    return Facts(**columns, digest=digest)


def _texts(column: tuple[str, ...]) -> _Texts:
    distinct = {text: index for index, text in enumerate(dict.fromkeys(column))}
    return _Texts(list(distinct), np.array([distinct[text] for text in column], "<i4").tobytes())


def _rows(texts: _Texts) -> tuple[str, ...]:
    distinct = texts.distinct
    return tuple([distinct[index] for index in np.frombuffer(texts.which, "<i4").tolist()])


def _little_endian(array: NDArray[Any], dtype: type[np.generic]) -> bytes:
    return np.ascontiguousarray(array, np.dtype(dtype).newbyteorder("<")).tobytes()
