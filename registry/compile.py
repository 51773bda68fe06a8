"""From a registry folder to the frozen registry, in an order that does not hang on how it was written."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from registry import packed
from registry.facts import facts
from registry.folder import Source, read
from registry.mistakes import RegistryErrors as RegistryErrors
from registry.model import (
    LEVELS,
    Cell,
    Contact,
    Duty,
    Enterprise,
    Escalation,
    Gateway,
    Group,
    Person,
    Points,
    Registry,
)
from registry.sections import sections
from registry.stock import holdings

Columns = Mapping[str, Sequence[Any]]


def compile_folder(folder: Path) -> Registry:
    """The registry that this folder describes (docs/registry.md).

    Its version is a digest of what it says: comments, blanks, the order of entries and rows, and how
    points are dealt out over files do not change it. Raises RegistryErrors with every mistake.
    """
    return compile_source(read(folder))


def compile_source(source: Source) -> Registry:
    """The frozen registry of a checked source. Who made the newest edit in it is no part of its version."""
    enterprises = sorted(source.enterprises, key=lambda entry: entry.code)
    gateways = tuple(
        Gateway(entry.code, gateway) for entry in enterprises for gateway in sorted(entry.gateways)
    )
    groups = tuple(
        Group(entry.code, group.id, group.tolerance, group.delay)
        for entry in enterprises
        for group in sorted(entry.groups, key=lambda group: group.id)
    )
    points = _points(source.points, gateways, groups)
    rows = {
        (gateways[behind].enterprise, point): (row, unit)
        for row, (behind, point, unit) in enumerate(
            zip(points.gateway.tolist(), points.id, points.engineering_unit, strict=True)
        )
    }
    registry = Registry(
        version="",
        time_zone=source.registry.time_zone,
        cells={
            cell.id: Cell(cell.id, cell.name, cell.level, cell.parent)
            for cell in sorted(source.cells, key=lambda cell: cell.id)
        },
        enterprises={
            entry.code: Enterprise(
                entry.code,
                entry.name,
                entry.cell,
                tuple(sorted((unit.id, unit.name) for unit in entry.units)),
            )
            for entry in enterprises
        },
        gateways=gateways,
        points=points,
        groups=groups,
        people={
            person.id: Person(
                person.id,
                person.name,
                person.language,
                tuple(Contact(contact.channel, contact.address) for contact in person.contacts),
            )
            for person in sorted(source.people, key=lambda person: person.id)
        },
        duty=tuple(
            sorted(
                {Duty(entry.place, entry.person, *entry.hours, entry.weekdays) for entry in source.duty},
                key=lambda duty: (duty.place, duty.person, duty.start, duty.end, duty.weekdays),
            )
        ),
        escalation={
            tier: Escalation(
                entry.confirm_within,
                entry.action_within,
                entry.again_after,
                entry.told_level or "",
                entry.top_level or "",
            )
            for tier, entry in source.escalation.items()
        },
        sections=sections(source.records, rows),
        holdings=holdings(source.records, rows),
        facts=facts(
            source.records,
            source.registry.time_zone,
            {(entry.code, unit.id): unit.name for entry in enterprises for unit in entry.units},
            {cell.id: cell.name for cell in source.cells},
        ),
    )
    version = blake2b(packed.pack(registry), digest_size=8).hexdigest()
    return replace(registry, version=version, edit=source.edit)


def _points(columns: Columns, gateways: Sequence[Gateway], groups: Sequence[Group]) -> Points:
    """The rows sorted by enterprise, gateway and point, so that each of the first two is contiguous."""
    gateway_index = {(gateway.enterprise, gateway.id): index for index, gateway in enumerate(gateways)}
    group_index = {(group.enterprise, group.id): index for index, group in enumerate(groups)}
    behind = [gateway_index[key] for key in zip(columns["enterprise"], columns["gateway"], strict=True)]
    ids = columns["point"]
    order = sorted(range(len(ids)), key=lambda row: (behind[row], ids[row]))

    def text(name: str) -> tuple[str, ...]:
        values = columns[name]
        return tuple(values[row] for row in order)

    def array(values: Sequence[Any] | NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
        result = np.array(values, dtype)[order]
        result.setflags(write=False)
        return result

    def four(name: str, usual: str, dtype: DTypeLike) -> NDArray[Any]:
        """A column for each limit; where it says nothing, the usual one does."""
        pairs = (
            zip(columns[name.format(level)], columns[usual.format(level)], strict=True) for level in LEVELS
        )
        return array(
            np.array(
                [[other if one is None or one != one else one for one, other in pair] for pair in pairs],
                dtype,
            ).T,
            dtype,
        )

    return Points(
        id=text("point"),
        name=tuple(name or id_ for name, id_ in zip(text("name"), text("point"), strict=True)),
        kind=text("kind"),
        engineering_unit=text("engineering_unit"),
        unit=text("unit"),
        place=text("place"),
        video=text("video"),
        clause=text("clause"),
        template=text("template"),
        gateway=array(behind, np.int32),
        range_low=array(columns["range_low"], np.float64),
        range_high=array(columns["range_high"], np.float64),
        limit=four("{}", "{}", np.float64),
        reset=four("{}_reset", "{}", np.float64),
        on_delay=four("{}_on_delay", "on_delay", np.int64),
        off_delay=four("{}_off_delay", "off_delay", np.int64),
        interval=array(columns["interval"], np.int64),
        rate=array(columns["rate"], np.float64),
        rate_over=array(columns["rate_over"], np.int64),
        stuck_after=array(columns["stuck_after"], np.int64),
        stuck_within=array(
            [0.0 if value != value else value for value in columns["stuck_within"]], np.float64
        ),
        alarm_state=array(columns["alarm_state"], np.float64),
        state_delay=array(columns["state_delay"], np.int64),
        ahead=array(columns["ahead"], np.int64),
        ahead_over=array(columns["ahead_over"], np.int64),
        group=array(
            [
                group_index[key] if key[1] else -1
                for key in zip(columns["enterprise"], columns["group"], strict=True)
            ],
            np.int32,
        ),
    )
