"""A scenario made whole: its points, what was true, and everything that its gateways send."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from simulators import instruments, risks, uplink
from simulators.instruments import Instruments, Readout
from simulators.physics import Physics
from simulators.plant import Floats, Stage
from simulators.points import credit_codes, points
from simulators.scenario import Change, Fault, Gateway, Outage, Scenario, ScenarioError, copies, matches
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
        ScenarioError: a design with which its kind cannot be, or a gateway with more points than it can send.
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
        try:
            self._uplinks()
        except ValueError as error:
            raise ScenarioError(str(error)) from error

    def touched(self) -> set[int]:
        """The places of the points to which something of the timeline happens: to their unit, or to themselves."""
        changed = {
            (unit.kind, unit.index)
            for event in self.scenario.timeline
            if isinstance(event, Change)
            for unit in self.physics.of(event)
        }
        places = {place for place, point in enumerate(self.points) if (point.kind, point.unit) in changed}
        return places | {place for _, found in self._blind for place in found}

    # -- what is sent --------------------------------------------------------------------------

    def moments(self) -> Iterator[Moment]:
        """Every step from the start to the end. Each call begins anew."""
        scenario = self.scenario
        bench, uplinks = self._instruments(), self._uplinks()
        starts, gather = self._gather()
        true = np.empty(starts)
        for truth in self.physics.run():
            at = 0
            for name, kind in self.physics.kinds.items():
                for signal in kind.signals:
                    values = truth.signals[name][signal.name]
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
        return [
            place
            for place, point in enumerate(self.points)
            if any(matches(target, point.enterprise, point.id) for target in fault.points)
        ]

    def _make_stations(self) -> Iterator[Station]:
        gateways = {
            (id, name): gateway
            for enterprise in self.scenario.enterprises
            for id in copies(enterprise)
            for name, gateway in enterprise.gateways.items()
        }
        first = 0
        for key, group in groupby(self.points, key=lambda point: (point.enterprise, point.gateway)):
            own = tuple(point.id for point in group)
            uplink = _uplink(gateways[key])
            yield Station(self.codes[key[0]], key[1], first, own, uplink, tuple(self._outages_of(key)))
            first += len(own)

    def _outages_of(self, key: tuple[str, str]) -> Iterator[uplink.Outage]:
        for event in self._outages:
            if any(matches(target, *key) for target in event.gateways):
                mad = event.outage == "mad_clock"
                kind = "clock" if mad else event.outage
                begin = self.scenario.start + event.at
                yield uplink.Outage(kind, begin, self._over(event), by=event.by_seconds, mad=mad)

    # -- what was true -------------------------------------------------------------------------

    def truth(self, tell: Callable[[float], None] = lambda share: None) -> Truth:
        """What was dangerous when, by the physics, with and without what people did; and who was blind.

        tell: is told now and then how much of it is done, 0 to 1.
        """
        aided = any(isinstance(e, Change) and (e.by or e.ended_by) for e in self.scenario.timeline)
        actual, unaided = self._watch(self.physics, beyond=not aided, tell=tell)
        if aided:
            _, unaided = self._watch(Physics(self.scenario, remedies=False), beyond=True, tell=tell)
        dangers: list[Danger] = []
        excused: list[Stretch] = []
        for name, kind in self.physics.kinds.items():
            found, other = derived(kind.hazards, self._units(name), actual[name], unaided[name], self._end)
            dangers += found
            excused += other
        dangers += risks.dangers(self.physics, self.codes, self._end)
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

    def _watch(
        self, physics: Physics, *, beyond: bool, tell: Callable[[float], None]
    ) -> tuple[dict[str, Watcher], dict[str, Watcher]]:
        """The stages of every kind's hazards until the end; and also beyond it, as long as something is a danger and
        harm could still come in the time that people would have needed before the end."""
        within, all_of_it = self._watchers(), self._watchers()
        response = max(hazard.response for kind in physics.kinds.values() for hazard in kind.hazards)
        for count, truth in enumerate(physics.run(round(response * 1e6) if beyond else 0)):
            if truth.time >= self._end and not any(
                (stages >= Stage.DANGER).any() for of in truth.stages.values() for stages in of.values()
            ):
                break
            for name, stages in truth.stages.items():
                all_of_it[name].tell(truth.time, stages)
                if truth.time < self._end:
                    within[name].tell(truth.time, stages)
            if count % 1000 == 0:
                tell(min(1.0, count * self.scenario.step / max(self.scenario.lasts, 1)))
        return within, all_of_it

    def _watchers(self) -> dict[str, Watcher]:
        return {
            name: Watcher([hazard.name for hazard in kind.hazards], self.physics.count[name])
            for name, kind in self.physics.kinds.items()
        }

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
        """Where the plant itself could not see: a danger where that lasts longer than the scenario says it may."""
        for fault, found in self._blind:
            for place in found:
                point = self.points[place]
                if self._lasts_too_long(fault):
                    yield self._blind_danger(
                        fault, fault.fault, point.code, point.columns["unit"], point=point.id
                    )
                else:
                    yield self._excused(fault, fault.fault, point.code, (point.id,))
        for outage in self._outages:
            what = "clock" if outage.outage in ("clock", "mad_clock") else "gateway"
            for station in self._stations:
                enterprise = next(id for id, code in self.codes.items() if code == station.enterprise)
                if any(matches(target, enterprise, station.gateway) for target in outage.gateways):
                    if self._lasts_too_long(outage):
                        yield self._blind_danger(
                            outage, what, station.enterprise, "", gateway=station.gateway
                        )
                    # what it sent of its points, or did not, says little of the plant
                    yield self._excused(outage, what, station.enterprise, station.points, station.gateway)

    def _lasts_too_long(self, event: Fault | Outage) -> bool:
        return event.within is not None and self._over(event) - self.scenario.start - event.at > event.within

    def _excused(
        self, event: Fault | Outage, what: str, code: str, points: tuple[str, ...], gateway: str = ""
    ) -> Stretch:
        begin, over = self.scenario.start + event.at, self._over(event)
        return Stretch(
            enterprise=code, points=points, gateway=gateway, begin=begin, end=over, why=BLIND[what][1]
        )

    def _blind_danger(
        self, event: Fault | Outage, what: str, code: str, unit: str, *, point: str = "", gateway: str = ""
    ) -> Danger:
        begin, over = self.scenario.start + event.at, self._over(event)
        zh, en = BLIND[what]
        return Danger(
            id=f"{code}/{gateway or point}/blind.{what}/{event.at // 1_000_000}",
            enterprise=code,
            unit=unit,
            hazard=f"blind.{what}",
            zh=zh,
            en=en,
            tier="IV",
            points=(point,) if point else (),
            gateway=gateway,
            earliest=begin,
            danger=begin,
            latest=begin + (event.within or 0),
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
