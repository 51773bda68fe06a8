"""A scenario made whole: its points, what was true, and everything that its gateways send."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from simulators import instruments, uplink
from simulators.instruments import Instruments, Readout
from simulators.physics import Physics, copies, matches
from simulators.plant import Floats
from simulators.points import credit_codes, points
from simulators.scenario import Fault, Gateway, Outage, Scenario, ScenarioError
from simulators.truth import Danger, Stretch, Truth, Unit, Watcher, derived
from simulators.uplink import Message, Station, Uplink, Uplinks

BLIND = {
    "frozen": ("传感器示值冻结", "sensor frozen"),
    "dead": ("传感器失效", "sensor dead"),
    "open_circuit": ("传感器断线", "sensor circuit open"),
    "covered": ("探测器被遮挡", "detector covered"),
    "calibration": ("标定后未恢复", "calibration left on"),
    "drift": ("传感器漂移", "sensor drifts"),
    "offset": ("传感器零点偏移", "sensor off its zero"),
    "gateway": ("网关失联", "gateway not heard"),
    "clock": ("设备时钟错乱", "device clock wrong"),
}
"""What it is called when a plant can't see, or sees wrongly."""


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """One step. time: µs UTC. readout: what the instruments show, in the order of the points."""

    time: int
    readout: Readout
    messages: Sequence[Message]


class City:
    """What a scenario makes of plants, instruments and gateways. The same scenario gives the same bytes.

    Raises:
        ScenarioError: something of the scenario is not there.
    """

    def __init__(self, scenario: Scenario, name: str) -> None:
        self.scenario = scenario
        self.name = name
        self.physics = Physics(scenario)
        self.points = points(scenario, self.physics)
        self.codes = credit_codes(scenario)
        self._end = scenario.start + scenario.lasts + scenario.step
        self._faults = [event for event in scenario.timeline if isinstance(event, Fault)]
        self._outages = [event for event in scenario.timeline if isinstance(event, Outage)]
        self._blind = [(fault, self._find(fault)) for fault in self._faults]
        self._stations = list(self._make_stations())

    # -- what is sent --------------------------------------------------------------------------

    def moments(self) -> Iterator[Moment]:
        """Every step from the start to the end. Each call begins anew."""
        scenario = self.scenario
        bench, uplinks = self._instruments(), self._uplinks()
        starts, gather = self._gather()
        true = np.empty(starts)
        for truth in self.physics.run():
            at = 0
            for signals in truth.signals.values():
                for values in signals.values():
                    true[at : at + len(values)] = values
                    at += len(values)
            readout = bench.read(truth.time, scenario.step / 1e6, true[gather])
            yield Moment(truth.time, readout, uplinks.step(truth.time, readout))

    def _gather(self) -> tuple[int, np.ndarray[tuple[int], np.dtype[np.intp]]]:
        """How many true values there are in all, and where among them each point's is."""
        first: dict[tuple[str, str], int] = {}
        at = 0
        for name, kind in self.physics.kinds.items():
            for signal in kind.signals:
                first[name, signal.name] = at
                at += self.physics.count[name]
        return at, np.array([first[p.kind, p.signal] + p.unit for p in self.points], np.intp)

    def _instruments(self) -> Instruments:
        return Instruments(
            noise=self._each("noise"),
            resolution=self._each("resolution"),
            lag=self._each("lag"),
            range_low=self._each("low"),
            range_high=self._each("high"),
            faults=[
                instruments.Fault(
                    fault.fault,
                    np.array(found, np.intp),
                    self.scenario.start + fault.at,
                    self._over(fault),
                    share=fault.share,
                    value=fault.value,
                    per_hour=fault.value,
                )
                for fault, found in self._blind
            ],
            random=np.random.default_rng([self.scenario.seed, *b"instruments"]),
        )

    def _uplinks(self) -> Uplinks:
        random = np.random.default_rng([self.scenario.seed, *b"uplinks"])
        return Uplinks(self._stations, random, resolution=self._each("resolution"))

    def _each(self, what: str) -> Floats:
        return np.array([getattr(point, what) for point in self.points], np.float64)

    def _over(self, event: Fault | Outage) -> int:
        return self._end if event.lasts is None else self.scenario.start + event.at + event.lasts

    def _find(self, fault: Fault) -> list[int]:
        found = [
            place
            for place, point in enumerate(self.points)
            if any(matches(target, point.enterprise, point.id) for target in fault.points)
        ]
        if not found:
            raise ScenarioError(f"timeline: no point {', '.join(fault.points)}")
        return found

    def _make_stations(self) -> Iterator[Station]:
        gateways = {
            (id, name): (enterprise, gateway)
            for enterprise in self.scenario.enterprises
            for id in copies(enterprise)
            for name, gateway in enterprise.gateways.items()
        }
        for outage in self._outages:
            if not any(matches(target, *key) for target in outage.gateways for key in gateways):
                raise ScenarioError(f"timeline: no gateway {', '.join(outage.gateways)}")
        first = 0
        for key, group in groupby(self.points, key=lambda point: (point.enterprise, point.gateway)):
            own = tuple(point.id for point in group)
            _, gateway = gateways[key]
            yield Station(
                self.codes[key[0]], key[1], first, own, _uplink(gateway), tuple(self._outages_of(key))
            )
            first += len(own)

    def _outages_of(self, key: tuple[str, str]) -> Iterator[uplink.Outage]:
        for event in self._outages:
            if any(matches(target, *key) for target in event.gateways):
                mad = event.outage == "mad_clock"
                kind = "clock" if mad else event.outage
                begin = self.scenario.start + event.at
                yield uplink.Outage(kind, begin, self._over(event), by=event.by_seconds, mad=mad)

    # -- what was true -------------------------------------------------------------------------

    def truth(self) -> Truth:
        """What was dangerous when, by the physics, with and without what people did; and who was blind."""
        actual = self._watch(self.physics)
        aided = any(getattr(event, "by", "") for event in self.scenario.timeline)
        unaided = self._watch(Physics(self.scenario, remedies=False)) if aided else actual
        dangers: list[Danger] = []
        excused: list[Stretch] = []
        for name, kind in self.physics.kinds.items():
            found, other = derived(kind.hazards, self._units(name), actual[name], unaided[name], self._end)
            dangers += found
            excused += other
        for seen in self._blindness():
            if isinstance(seen, Danger):
                dangers.append(seen)
            else:
                excused.append(seen)
        return Truth(
            scenario=self.name,
            seed=self.scenario.seed,
            begin=self.scenario.start,
            end=self._end,
            enterprises=tuple(self.codes.values()),
            dangers=tuple(sorted(dangers, key=lambda danger: (danger.earliest, danger.id))),
            excused=tuple(excused),
        )

    def _watch(self, physics: Physics) -> dict[str, Watcher]:
        watchers = {
            name: Watcher([hazard.name for hazard in kind.hazards], physics.count[name])
            for name, kind in physics.kinds.items()
        }
        for truth in physics.run():
            for name, watcher in watchers.items():
                watcher.tell(truth.time, truth.stages[name])
        return watchers

    def _units(self, kind: str) -> list[Unit]:
        """What each unit of a kind has to show its hazards with."""
        hazards = self.physics.kinds[kind].hazards
        shown: dict[tuple[int, str], list[str]] = {}
        for point in self.points:
            if point.kind == kind:
                shown.setdefault((point.unit, point.signal), []).append(point.id)
        return [
            Unit(
                self.codes[unit.enterprise],
                unit.id,
                {
                    hazard.name: tuple(
                        id for signal in hazard.signals for id in shown.get((unit.index, signal), ())
                    )
                    for hazard in hazards
                },
            )
            for unit in self.physics.units
            if unit.kind == kind
        ]

    def _blindness(self) -> Iterator[Danger | Stretch]:
        """Where the plant itself could not see: a danger where the scenario says how long that may last."""
        for fault, found in self._blind:
            for place in found:
                point = self.points[place]
                yield self._blind_part(fault, fault.fault, point.code, point.columns["unit"], (point.id,), "")
        for outage in self._outages:
            for station in self._stations:
                enterprise = next(id for id, code in self.codes.items() if code == station.enterprise)
                if any(matches(target, enterprise, station.gateway) for target in outage.gateways):
                    what = "clock" if outage.outage in ("clock", "mad_clock") else "gateway"
                    yield self._blind_part(
                        outage, what, station.enterprise, "", station.points, station.gateway
                    )

    def _blind_part(
        self, event: Fault | Outage, what: str, code: str, unit: str, ids: tuple[str, ...], gateway: str
    ) -> Danger | Stretch:
        begin, over = self.scenario.start + event.at, self._over(event)
        zh, en = BLIND[what]
        if event.within is None:
            return Stretch(
                enterprise=code, points=ids, gateway=gateway, begin=begin, end=over, why=f"{en}, and harmless"
            )
        return Danger(
            id=f"{code}/{gateway or ids[0]}/blind.{what}/{event.at // 1_000_000}",
            enterprise=code,
            unit=unit,
            hazard=f"blind.{what}",
            zh=zh,
            en=en,
            tier="IV",
            points=ids,
            gateway=gateway,
            earliest=begin,
            danger=begin,
            latest=begin + event.within,
            ended=over if over < self._end else None,
            why="The plant may be blind there for so long, as the scenario says.",
        )


def _uplink(gateway: Gateway) -> Uplink:
    return Uplink(
        every=gateway.every / 1e6,
        form=gateway.form,
        batch=gateway.batch / 1e6,
        exception=gateway.exception or None,
        heartbeat=gateway.heartbeat / 1e6,
        loss=gateway.loss,
        doubled=gateway.doubled,
        late=gateway.late,
        late_by=gateway.late_by / 1e6,
        clock_offset=gateway.clock.offset,
        clock_drift=gateway.clock.drift,
    )
