"""The rules of points said as plainly as possible: one reading at a time, one record per point.

Written from docs/point-rules.md; shares with the engine only the types that travel and the rulebook.
"""

import math
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec

from ingest.readings import BAD, Round
from registry.clock import SECOND
from registry.model import LEVELS, Holding, Registry, Section, Tank
from streams.finding import Finding, Phase, Tier, finding_id
from streams.rulebook import Rulebook
from tests.model.forecast import forecast
from tests.model.leak import SectionModel

Key = tuple[str, str]  # enterprise, id of a point, gateway or group

NO_POINT = {
    "clock": "gateway",
    "gateway.offline": "gateway",
    "disagreement": "group",
    "leak": "pipeline",
    "chemical.overstored": "chemical",
}
"""What the subject of a rule is that is not of a point."""

ON_DEVICE_TIME = ("range", "limit.low", "limit.high", "rate", "stuck", "state", "time_to_limit")
"""The rules of a single point that run on its own time."""


def interpolated(tank: Tank, value: float) -> float:
    """What a tank holds at this value, t; NaN if that is not known."""
    steps = list(zip(tank.value, tank.mass, strict=True))
    if value <= steps[0][0]:
        return steps[0][1]
    for (v0, m0), (v1, m1) in pairwise(steps):
        if value < v1:
            return m0 + (value - v0) / (v1 - v0) * (m1 - m0)
    return math.nan if math.isnan(value) else steps[-1][1]


@dataclass
class Limit:
    """One limit of one point, as it runs."""

    level: str
    state: str = "inactive"
    since: int = 0  # of pending or off-pending; an active one keeps the time at which it was reached
    reached: int = 0


@dataclass
class Episodes:
    """What is told about one rule and subject."""

    last: Finding | None = None  # the last message of the open finding
    unknown: bool = False
    newest_since: int | None = None


@dataclass
class Point:
    key: Key
    row: int
    gateway: Key
    rule: dict
    newest: int | None = None
    value: float = math.nan
    quality: int = BAD
    late_since: int | None = None
    fault: bool = False
    heard: int = 0
    known: int = 0  # when a known value was heard, or silence ended
    limits: dict[str, Limit] = field(default_factory=lambda: {level: Limit(level) for level in LEVELS})
    late: dict[str, tuple[int, str]] = field(default_factory=dict)  # late excursion by rule: last time, level
    anchor: tuple[int, float] | None = None
    still: tuple[int, float] | None = None
    state: tuple[int, float] | None = None  # since when it has the value that it has
    samples: list[tuple[int, float]] = field(default_factory=list)
    content: tuple[int, float] | None = (
        None  # last time and value (NaN if unknown) that say what a tank holds
    )
    member: tuple[int, float] | None = None  # last known time and value, for its group


@dataclass
class Group:
    key: Key
    tolerance: float
    delay: int
    judged: int | None = None
    since: int | None = None


class PointModel:
    def __init__(self, registry: Registry, now: int, rulebook: Rulebook) -> None:
        self.now = now
        self.listening = False
        self.listened = 0
        self.gap_from = self.gap_to = now  # the last time that we did not listen
        self.deaf_from = self.deaf_to = now  # and the last long one
        self.points: dict[Key, Point] = {}
        self.groups: dict[Key, Group] = {}
        self.offline: dict[Key, bool] = {}
        self.back: dict[Key, int] = {}  # listened time at which a gateway was offline no more
        self.episodes: dict[tuple[str, Key], Episodes] = {}
        self.sections: dict[Key, SectionModel] = {}
        self.held: dict[str, list[Finding]] = {}
        self.told: list[Finding] = []
        self.configure(registry, rulebook)

    # ---- configuration

    def configure(self, registry: Registry, rulebook: Rulebook) -> None:
        """Make points, groups and gateways of a version, keeping the state of those there already were."""
        self.registry, self.rulebook = registry, rulebook
        before = self.points
        self.points = {}
        p = registry.points
        for row in range(len(p)):
            g = registry.gateways[p.gateway[row]]
            key = (g.enterprise, p.id[row])
            rule = {
                "kind": p.kind[row],
                "template": p.template[row] or p.kind[row],
                "plant": p.unit[row],
                "unit": p.engineering_unit[row],
                "clause": p.clause[row],
                "low": float(p.range_low[row]),
                "high": float(p.range_high[row]),
                "limit": dict(zip(LEVELS, p.limit[row].tolist(), strict=True)),
                "reset": dict(zip(LEVELS, p.reset[row].tolist(), strict=True)),
                "on": dict(zip(LEVELS, p.on_delay[row].tolist(), strict=True)),
                "off": dict(zip(LEVELS, p.off_delay[row].tolist(), strict=True)),
                "interval": int(p.interval[row]),
                "rate": float(p.rate[row]) if p.rate_over[row] > 0 else math.nan,
                "over": int(p.rate_over[row]),
                "stuck": int(p.stuck_after[row]),
                "within": float(p.stuck_within[row]),
                "alarm": float(p.alarm_state[row]),
                "held": int(p.state_delay[row]),
                "ahead": int(p.ahead[row]),
                "ahead_over": int(p.ahead_over[row]),
                "group": None,
            }
            if all(math.isnan(limit) for limit in rule["limit"].values()) or not rule["ahead_over"]:
                rule["ahead"] = 0
            if p.group[row] >= 0:
                group = registry.groups[p.group[row]]
                rule["group"] = (group.enterprise, group.id)
            point = before.get(key)
            if point is None:
                point = Point(key, row, (g.enterprise, g.id), rule)
                point.heard = point.known = self.listened if rule["interval"] else 0
            else:
                if point.gateway != (g.enterprise, g.id):
                    point.fault, point.late_since = False, None
                if rule["interval"] and not point.rule["interval"]:
                    point.heard = point.known = self.listened
                if rule["group"] != point.rule["group"]:
                    point.member = None
                if math.isnan(rule["rate"]):
                    point.anchor = None
                if not rule["stuck"]:
                    point.still = None
                if math.isnan(rule["alarm"]):
                    point.state = None
                if not rule["ahead"]:
                    point.samples = []
                for level in LEVELS:
                    if math.isnan(rule["limit"][level]):
                        point.limits[level] = Limit(level)
                point.row, point.gateway, point.rule = row, (g.enterprise, g.id), rule
            if not any(row == tank.row for holding in registry.holdings for tank in holding.tanks):
                point.content = None
            self.points[key] = point
        sections, ids = self.sections, [*p.id, ""]
        self.sections = {}
        for s in registry.sections:
            made_of = (s.over, *(ids[row] for row in (s.flow_in, s.flow_out, s.pressure_in, s.pressure_out)))
            old = sections.get((s.enterprise, s.id))
            keeps = old is not None and old.made_of == made_of
            self.sections[s.enterprise, s.id] = old if keeps else SectionModel(made_of)
        groups = self.groups
        self.groups = {}
        for g in registry.groups:
            old = groups.get((g.enterprise, g.id))
            new = Group((g.enterprise, g.id), g.tolerance, g.delay)
            if old:
                new.judged, new.since = old.judged, old.since
            self.groups[new.key] = new
        self.offline = {
            (g.enterprise, g.id): self.offline.get((g.enterprise, g.id), False) for g in registry.gateways
        }
        self.back = {gateway: self.back.get(gateway, 0) for gateway in self.offline}

    def reconfigure(
        self, registry: Registry, rulebook: Rulebook, now: int, listening: bool = True
    ) -> list[Finding]:
        told = self.advance(now, listening)
        self.release()
        old_index = self.indices()
        self.configure(registry, rulebook)
        new_index = self.indices()
        order = ["clock", "gateway.offline", "silent", "bad_quality", "range", "limit.low", "limit.high"]
        order += ["rate", "stuck", "state", "time_to_limit", "disagreement", "leak", "chemical.overstored"]
        opened = [key for key, episode in self.episodes.items() if episode.last]
        gone = [key for key in opened if (key[0], key[1]) not in new_index]
        kept = [key for key in opened if key not in gone]
        place = {**old_index}
        # what is gone is told by its rule with the other messages of the rule, in the order of the old version
        for rule in order:
            for key in sorted((k for k in gone if k[0] == rule), key=lambda k: place[k]):
                self.withdraw(*key)
            for key in sorted((k for k in kept if k[0] == rule), key=lambda k: place[k]):
                self.adapt(*key)
        return told + self.take()

    def indices(self) -> dict[tuple[str, Key], int]:
        """Place of every possible subject of every rule in the version."""
        index: dict[tuple[str, Key], int] = {}
        for point in self.points.values():
            for rule in ("silent", "bad_quality", *ON_DEVICE_TIME):
                index[rule, point.key] = point.row
        for number, gateway in enumerate(self.offline):
            index["clock", gateway] = index["gateway.offline", gateway] = number
        for number, group in enumerate(self.groups):
            index["disagreement", group] = number
        for number, section in enumerate(self.registry.sections):
            index["leak", (section.enterprise, section.id)] = number
        for number, holding in enumerate(self.registry.holdings):
            index["chemical.overstored", (holding.enterprise, holding.id)] = number
        return index

    def adapt(self, rule: str, key: Key) -> None:
        """Withdraw an open finding whose rule is no more; ease one whose worse limit is no more; and say a new tier."""
        if rule == "clock":
            gone = not any(point.fault for point in self.points.values() if point.gateway == key)
        elif rule in ("gateway.offline", "disagreement", "leak", "chemical.overstored"):
            gone = False
        elif rule == "time_to_limit":
            last = self.episodes[rule, key].last
            assert last
            point = self.points[key]
            gone = not point.rule["ahead"] or math.isnan(point.rule["limit"][last.level])
        else:
            point = self.points[key]
            if rule in ("limit.low", "limit.high"):
                level = self.level(point, rule)
                last = self.episodes[rule, key].last
                assert last
                if level and level != last.level:
                    self.revise(rule, key, Phase.EASED, level, point.rule["limit"][level])
                gone = not level
            else:
                gone = {
                    "silent": not point.rule["interval"],
                    "bad_quality": not point.rule["interval"],
                    "range": math.isnan(point.rule["low"]) and math.isnan(point.rule["high"]),
                    "rate": math.isnan(point.rule["rate"]),
                    "stuck": not point.rule["stuck"],
                    "state": math.isnan(point.rule["alarm"]),
                }[rule]
        if gone:
            self.withdraw(rule, key)
            return
        last = self.episodes[rule, key].last
        assert last
        new, old = self.tier(rule, key, last.level), last.tier
        if new != old:
            worse = old is None or (new is not None and new > old)
            self.revise(rule, key, Phase.WORSENED if worse else Phase.EASED, last.level, last.limit)

    def revise(self, rule: str, key: Key, phase: Phase, level: str, limit: float | None) -> None:
        """Say that the configuration changed the level or the tier; what was unknown is so still."""
        episode = self.episodes[rule, key]
        assert episode.last
        value, tier, version = episode.last.value, self.tier(rule, key, level), self.registry.version
        self.tell(rule, key, phase, self.now, value, level=level, limit=limit, tier=tier, evidence=(version,))
        if episode.unknown:
            self.tell(rule, key, Phase.UNKNOWN, self.now, None)

    def tier(self, rule: str, key: Key, level: str) -> Tier | None:
        template = "" if rule in NO_POINT else self.points[key].rule["template"]
        if rule == "time_to_limit":
            level = ""
        return self.rulebook.tier(template, rule, level)

    def within(self, rule: str, key: Key) -> tuple[str, ...]:
        """The unit, group and pipelines that a point lies in; or that all points of a gateway or group do."""
        if rule not in NO_POINT:
            return self.around(self.points[key])
        if rule == "chemical.overstored":
            unit = self.holding(key).unit
            return (f"unit:{unit}",) if unit else ()
        if rule == "leak":
            return self.common([self.around(point) for point in self.ends(self.section(key)).values()])
        field = "group" if rule == "disagreement" else "gateway"
        members = [
            self.around(point)
            for point in self.points.values()
            if key == (point.rule["group"] if field == "group" else point.gateway)
        ]
        return self.common(members)

    @staticmethod
    def common(members: list[tuple[str, ...]]) -> tuple[str, ...]:
        if not members:
            return ()
        return tuple(part for part in members[0] if all(part in member for member in members))

    def around(self, point: Point) -> tuple[str, ...]:
        parts = []
        if point.rule["plant"]:
            parts.append(f"unit:{point.rule['plant']}")
        if point.rule["group"]:
            parts.append(f"group:{point.rule['group'][1]}")
        serves = [
            f"pipeline:{s.id}"
            for s in self.registry.sections
            if point.row in (s.flow_in, s.flow_out, s.pressure_in, s.pressure_out)
        ]
        return (*parts, *serves)

    def withdraw(self, rule: str, key: Key) -> None:
        last = self.episodes[rule, key].last
        assert last
        version = self.registry.version
        self.tell(rule, key, Phase.WITHDRAWN, self.now, last.value, evidence=(version,))

    # ---- time

    def apply(self, round: Round) -> list[Finding]:
        told = self.advance(round.time, round.listening)
        gateways = list(self.offline)
        for status in round.status:
            if status.online:
                self.come_online(gateways[status.gateway])
            elif not self.offline[gateways[status.gateway]]:
                self.go_offline(gateways[status.gateway], self.now)
                self.forget([p for p in self.points.values() if p.gateway == gateways[status.gateway]])
        keys = list(self.points)
        r = round.readings
        for row, time, value, quality in zip(
            r.row.tolist(), r.time.tolist(), r.value.tolist(), r.quality.tolist(), strict=True
        ):
            self.reading(self.points[keys[row]], time, value, quality)
        return told + self.take()

    def advance(self, now: int, listening: bool = True) -> list[Finding]:
        assert now >= self.now
        if now > self.now:
            self.release()
        if self.listening and now - self.now <= 2 * SECOND:
            self.listened += now - self.now
        elif now > self.now:
            if self.now > self.gap_to + 60 * SECOND:
                self.gap_from = self.now
            self.gap_to = now
            if self.gap_to - self.gap_from > 60 * SECOND:
                self.deaf_from, self.deaf_to = self.gap_from, self.gap_to
        self.now, self.listening = now, listening
        self.notice_silence()
        return self.take()

    def notice_silence(self) -> None:
        gone = {
            gateway: due
            for gateway in self.offline
            if (due := self.offline_due(gateway)) is not None and due <= self.listened
        }
        silent = {
            point.key: due
            for point in self.points.values()
            if point.gateway not in gone and (due := self.silent_due(point)) is not None
            if due <= self.listened
        }
        bad = {
            point.key: due
            for point in self.points.values()
            if point.gateway not in gone and point.key not in silent
            if (due := self.bad_due(point)) is not None and due <= self.listened
        }
        for gateway, due in gone.items():
            self.go_offline(gateway, self.now - (self.listened - due))
        for rule, dues in (("silent", silent), ("bad_quality", bad)):
            for key, due in dues.items():
                time = self.now - (self.listened - due)
                self.begin(rule, key, time, time)
        self.forget([p for p in self.points.values() if p.gateway in gone or p.key in silent])

    def silent_due(self, point: Point) -> int | None:
        """The listened time at which a point becomes silent, if nothing more is heard of it."""
        if self.offline[point.gateway] or self.is_open("silent", point.key) or not point.rule["interval"]:
            return None
        return max(point.heard, self.back[point.gateway]) + point.rule["interval"]

    def bad_due(self, point: Point) -> int | None:
        """The listened time at which a point has given no known value for its interval, though it is heard."""
        if self.silent_due(point) is None or self.is_open("bad_quality", point.key):
            return None
        if point.heard <= point.known:
            return None
        return max(point.known, self.back[point.gateway]) + point.rule["interval"]

    def offline_due(self, gateway: Key) -> int | None:
        """The listened time at which a gateway becomes offline, if nothing more is heard of it."""
        points = [point for point in self.points.values() if point.gateway == gateway]
        timed = [point for point in points if point.rule["interval"]]
        if self.offline[gateway] or not timed:
            return None
        heard = max(point.heard for point in points)
        if all(point.heard + point.rule["interval"] <= heard for point in timed):
            return None  # it talked when each of them was overdue
        quiet = max(heard, self.back[gateway]) + min(point.rule["interval"] for point in timed)
        return max([quiet, *[due for point in timed if (due := self.silent_due(point)) is not None]])

    def deadline(self) -> int | None:
        """The arrival time at which silence (or a held finding) is noticed, if marks come every second."""
        if self.held:
            return self.now + 1
        if not self.listening:
            return None
        dues = [self.silent_due(point) for point in self.points.values()]
        dues += [self.bad_due(point) for point in self.points.values()]
        dues += [self.offline_due(gateway) for gateway in self.offline]
        left = [due - self.listened for due in dues if due is not None]
        return self.now + max(min(left), 0) if left else None

    def go_offline(self, gateway: Key, time: int) -> None:
        self.offline[gateway] = True
        points = tuple(p.key[1] for p in self.points.values() if p.gateway == gateway)
        self.begin("gateway.offline", gateway, time, time, evidence=points)

    def come_online(self, gateway: Key) -> None:
        if self.offline[gateway]:
            self.offline[gateway] = False
            self.tell("gateway.offline", gateway, Phase.ENDED, self.now, None)
            self.back[gateway] = self.listened

    def forget(self, points: list[Point]) -> None:
        for rule in ON_DEVICE_TIME:
            for point in points:
                self.unknown(rule, point.key, self.now)
        for point in points:
            point.member = None
        for group in self.groups.values():
            if any(point.rule["group"] == group.key for point in points):
                self.agree(group, self.now)
        for section in self.registry.sections:
            if any(end in points for end in self.ends(section).values()):
                self.unknown("leak", (section.enterprise, section.id), self.now)
        for point in points:
            if point.content:
                point.content = point.content[0], math.nan
        for holding in self.registry.holdings:
            if any(tank.row == point.row for tank in holding.tanks for point in points):
                self.judge_stock(holding, self.now)

    # ---- one reading

    def reading(self, point: Point, time: int, value: float, quality: int) -> None:
        if not math.isfinite(value):
            value = math.nan
        newest, arrival = point.newest, self.now
        later = newest is None or time > newest
        too_early = time > arrival + 60 * SECOND
        same = time == newest and (value == point.value or (math.isnan(value) and math.isnan(point.value)))
        late = False
        if point.fault:
            if later and not too_early:
                point.fault = False
                if not any(p.fault for p in self.points.values() if p.gateway == point.gateway):
                    self.tell("clock", point.gateway, Phase.ENDED, arrival, None)
            else:
                time = arrival
        elif too_early:
            self.clock_fault(point, arrival, time)
            time = arrival
        elif later:
            point.late_since = None
        elif same:
            return
        elif point.late_since is None:
            point.late_since = arrival
            late = True
        elif arrival - point.late_since > 10 * SECOND:
            self.clock_fault(point, point.late_since, time)
            time = arrival
        else:
            late = True

        self.come_online(point.gateway)
        point.heard = self.listened
        if self.is_open("silent", point.key):
            self.tell("silent", point.key, Phase.ENDED, arrival, None)
            point.known = self.listened
        if not math.isnan(value):
            point.known = self.listened
            if self.is_open("bad_quality", point.key):
                self.tell("bad_quality", point.key, Phase.ENDED, arrival, None)

        if late:
            self.late_evidence(point, time, value)
            return
        point.newest, point.value, point.quality = time, value, quality
        out = value < point.rule["low"] or value > point.rule["high"]
        self.judge_range(point, time, value, out)
        self.judge_direction(point, "limit.low", ("L", "LL"), time, value, out)
        self.judge_direction(point, "limit.high", ("H", "HH"), time, value, out)
        known = not math.isnan(value) and not out
        self.judge_rate(point, time, value, known)
        self.judge_stuck(point, time, value, known)
        self.judge_state(point, time, value, known)
        self.judge_time_to_limit(point, time, value, known)
        if point.rule["group"] is not None:
            point.member = (time, value) if known else None
            self.agree(self.groups[point.rule["group"]], time)
        for section in self.registry.sections:
            for end, served in self.ends(section).items():
                if served is point:
                    self.judge_section(section, end, time, value, known)
        holdings = [h for h in self.registry.holdings if any(tank.row == point.row for tank in h.tanks)]
        if holdings:
            point.content = time, value if known else math.nan
        for holding in holdings:
            rows = {tank.row for tank in holding.tanks}
            heard = [p.content[0] for p in self.points.values() if p.row in rows and p.content]
            self.judge_stock(holding, max(heard))

    def clock_fault(self, point: Point, since: int, time: int) -> None:
        point.fault, point.late_since = True, None
        if not self.is_open("clock", point.gateway):
            off = (time - self.now) / SECOND
            self.begin("clock", point.gateway, since, self.now, off, unit="s", evidence=(point.key[1],))

    def judge_range(self, point: Point, time: int, value: float, out: bool) -> None:
        if math.isnan(value):
            self.unknown("range", point.key, time)
            return
        self.resume("range", point.key, time, value)
        if out and not self.is_open("range", point.key):
            limit = point.rule["low"] if value < point.rule["low"] else point.rule["high"]
            self.begin("range", point.key, time, time, value, limit, unit=point.rule["unit"])
        elif not out and self.is_open("range", point.key):
            self.tell("range", point.key, Phase.ENDED, time, value)

    @staticmethod
    def reaches(point: Point, level: str, value: float) -> bool:
        limit = point.rule["limit"][level]
        return value >= limit if level in ("H", "HH") else value <= limit  # false for NaN

    @staticmethod
    def beyond_reset(point: Point, level: str, value: float) -> bool:
        limit, reset = point.rule["limit"][level], point.rule["reset"][level]
        if level in ("H", "HH"):
            return value < (limit if math.isnan(reset) else min(limit, reset))
        return value > (limit if math.isnan(reset) else max(limit, reset))

    @staticmethod
    def level(point: Point, rule: str) -> str:
        """The worst active limit of a direction, or ""."""
        for level in ("LL", "L") if rule == "limit.low" else ("HH", "H"):
            if point.limits[level].state in ("active", "off-pending"):
                return level
        return ""

    def judge_direction(
        self, point: Point, rule: str, levels: tuple[str, str], time: int, value: float, out: bool
    ) -> None:
        reached = [level for level in levels if self.reaches(point, level, value)]
        if math.isnan(value) or (out and not reached):
            self.unknown(rule, point.key, time)
            return
        self.resume(rule, point.key, time, value)
        before = self.level(point, rule)
        for level in levels:
            if not math.isnan(point.rule["limit"][level]) and (level in reached or not out):
                self.run(point, point.limits[level], time, value)
        after = self.level(point, rule)
        if after == before:
            return
        limit = point.rule["limit"].get(after)
        if not before:
            since = min(
                point.limits[level].reached for level in levels if point.limits[level].state != "inactive"
            )
            self.begin(rule, point.key, since, time, value, limit, after, point.rule["unit"])
        elif not after:
            self.tell(rule, point.key, Phase.ENDED, time, value)
        else:
            phase = Phase.WORSENED if len(after) > len(before) else Phase.EASED
            how = self.tier(rule, point.key, after)
            self.tell(rule, point.key, phase, time, value, level=after, limit=limit, tier=how)

    def run(self, point: Point, limit: Limit, time: int, value: float) -> None:
        reaches = self.reaches(point, limit.level, value)
        beyond = self.beyond_reset(point, limit.level, value)
        on, off = point.rule["on"][limit.level], point.rule["off"][limit.level]
        if limit.state == "inactive":
            if reaches:
                limit.state = "pending"
                limit.reached = time
        elif limit.state == "pending":
            limit.reached = min(limit.reached, time)
            if not reaches:
                limit.state = "inactive"
        elif limit.state == "active":
            if beyond:
                limit.state = "off-pending"
                limit.since = time
        elif limit.state == "off-pending":
            limit.since = min(limit.since, time)
            if not beyond:
                limit.state = "active"
        if limit.state == "pending" and time - limit.reached >= on:
            limit.state = "active"
        if limit.state == "off-pending" and time - limit.since >= off:
            limit.state = "inactive"

    def late_evidence(self, point: Point, time: int, value: float) -> None:
        if math.isnan(value):
            return
        apart = max(60 * SECOND, point.rule["interval"])
        for rule, levels in (("limit.low", ("LL", "L")), ("limit.high", ("HH", "H"))):
            reached = [level for level in levels if self.reaches(point, level, value)]
            episode = self.episode(rule, point.key)
            if not reached:
                point.late.pop(rule, None)
                continue
            if episode.last and episode.last.since <= time:
                continue
            pending = [
                point.limits[level].reached for level in levels if point.limits[level].state == "pending"
            ]
            if not episode.last and pending and min(pending) <= time:
                continue
            level = reached[0]
            before, worst = point.late.get(rule, (time, ""))
            if abs(time - before) > apart:
                worst = ""  # another excursion
            if len(level) <= len(worst):
                point.late[rule] = time, worst
                continue
            point.late[rule] = time, level
            limit = point.rule["limit"][level]
            message = self.message(
                rule, point.key, Phase.ENDED, time, time, value, limit, level, point.rule["unit"]
            )
            id = finding_id(rule, point.key[0], f"point:{point.key[1]}", time, late=level)
            self.told.append(msgspec.structs.replace(message, id=id, late=True))

    def judge_rate(self, point: Point, time: int, value: float, known: bool) -> None:
        if math.isnan(point.rule["rate"]):
            return
        if not known:
            self.unknown("rate", point.key, time)
            return
        self.resume("rate", point.key, time, value)
        if point.anchor is None or time < point.anchor[0]:
            point.anchor = (time, value)
            return
        t0, v0 = point.anchor
        if time - t0 < point.rule["over"]:
            return
        rate = abs(value - v0) / ((time - t0) / SECOND)
        steep = rate >= point.rule["rate"]
        if steep and not self.is_open("rate", point.key):
            limit, unit = point.rule["rate"], point.rule["unit"] + "/s"
            self.begin("rate", point.key, t0, time, rate, limit, unit=unit)
        elif not steep and self.is_open("rate", point.key):
            self.tell("rate", point.key, Phase.ENDED, time, rate)
        point.anchor = (time, value)

    def judge_stuck(self, point: Point, time: int, value: float, known: bool) -> None:
        if not point.rule["stuck"]:
            return
        if not known:
            self.unknown("stuck", point.key, time)
            return
        self.resume("stuck", point.key, time, value)
        if point.still is None or abs(value - point.still[1]) > point.rule["within"]:
            if self.is_open("stuck", point.key):
                self.tell("stuck", point.key, Phase.ENDED, time, value)
            point.still = (time, value)
            return
        point.still = (min(point.still[0], time), point.still[1])
        if time - point.still[0] >= point.rule["stuck"] and not self.is_open("stuck", point.key):
            limit, unit = point.rule["within"], point.rule["unit"]
            self.begin("stuck", point.key, point.still[0], time, value, limit, unit=unit)

    def judge_state(self, point: Point, time: int, value: float, known: bool) -> None:
        if math.isnan(point.rule["alarm"]):
            return
        if not known:
            self.unknown("state", point.key, time)
            return
        self.resume("state", point.key, time, value)
        if point.state is None or point.state[1] != value:
            point.state = time, value
        point.state = min(point.state[0], time), value
        if value != point.rule["alarm"]:
            if self.is_open("state", point.key):
                self.tell("state", point.key, Phase.ENDED, time, value)
        elif time - point.state[0] >= point.rule["held"] and not self.is_open("state", point.key):
            limit, unit = point.rule["alarm"], point.rule["unit"]
            self.begin("state", point.key, point.state[0], time, value, limit, unit=unit)

    def judge_time_to_limit(self, point: Point, time: int, value: float, known: bool) -> None:
        rule, ahead = "time_to_limit", point.rule["ahead"]
        if not ahead:
            return
        if not known:
            self.unknown(rule, point.key, time)
            return
        self.resume(rule, point.key, time, None)
        over = point.rule["ahead_over"]
        if point.samples and time < point.samples[-1][0]:
            point.samples = []
        if point.samples and (time - point.samples[-1][0]) * 15 < over:
            return
        point.samples = [*point.samples, (time, value)][-16:]
        f = forecast(point.samples, over, point.rule["limit"])
        will = bool(f.level) and f.left <= ahead / SECOND and f.share >= 0.9 and f.count >= 10
        goes_on = bool(f.level) and f.left <= 1.5 * ahead / SECOND and f.share >= 0.6
        minutes, limit = round(f.left / 60, 1), ahead / (60 * SECOND)
        evidence = (
            f"{f.level} {f.target:g} {point.rule['unit']}",
            f"{f.slope * 60:+.3g} {point.rule['unit']}/min",
            f"{100 * f.share:.0f}%",
        )
        if last := self.episode(rule, point.key).last:
            if f.span == 0 or f.span < over // 2:
                return  # too little to say
            if (will or goes_on) and f.level[0] == last.level[0]:
                if f.level != last.level:
                    phase = Phase.WORSENED if len(f.level) > len(last.level) else Phase.EASED
                    how = self.tier(rule, point.key, f.level)
                    self.tell(
                        rule,
                        point.key,
                        phase,
                        time,
                        minutes,
                        level=f.level,
                        limit=limit,
                        tier=how,
                        evidence=evidence,
                    )
                return
            self.tell(rule, point.key, Phase.ENDED, time, None)
        if will:
            self.begin(
                rule, point.key, time, time, minutes, limit, level=f.level, unit="min", evidence=evidence
            )

    def section(self, key: Key) -> Section:
        return next(s for s in self.registry.sections if (s.enterprise, s.id) == key)

    def ends(self, section: Section) -> dict[int, Point]:
        rows = (section.flow_in, section.flow_out, section.pressure_in, section.pressure_out)
        by_row = {point.row: point for point in self.points.values()}
        return {end: by_row[row] for end, row in enumerate(rows) if row >= 0}

    def judge_section(self, section: Section, end: int, time: int, value: float, known: bool) -> None:
        key, rule = (section.enterprise, section.id), "leak"
        if not known:
            self.unknown(rule, key, time)
            return
        model = self.sections[key]
        for k in model.hear(section, end, time, value):
            said = model.judge(section, k, self.ends(section)[0].rule["unit"])
            if said is None:
                continue
            value, limit = round(100 * said.share, 2), 100 * section.leak
            self.resume(rule, key, said.time, value)
            last = self.episode(rule, key).last
            if last and said.share < said.least / 2:
                self.tell(rule, key, Phase.ENDED, said.time, value)
            elif last and (last.level, said.level) == ("suspected", "confirmed"):
                how = self.tier(rule, key, said.level)
                self.tell(
                    rule,
                    key,
                    Phase.WORSENED,
                    said.time,
                    value,
                    level=said.level,
                    limit=limit,
                    tier=how,
                    evidence=said.evidence,
                )
            elif not last and said.share >= said.least:
                self.begin(
                    rule,
                    key,
                    said.time,
                    said.time,
                    value,
                    limit,
                    level=said.level,
                    unit="%",
                    evidence=said.evidence,
                )

    def holding(self, key: Key) -> Holding:
        return next(h for h in self.registry.holdings if (h.enterprise, h.id) == key)

    def judge_stock(self, holding: Holding, time: int) -> None:
        key, rule = (holding.enterprise, holding.id), "chemical.overstored"
        by_row = {point.row: point for point in self.points.values()}
        held = []
        for tank in holding.tanks:
            point = by_row[tank.row]
            mass = interpolated(tank, point.content[1]) if point.content else math.nan
            held.append((point.key[1], mass))
        known = [(id, mass) for id, mass in held if not math.isnan(mass)]
        total = holding.declared + sum(mass for _, mass in known)
        if total < holding.permitted and len(known) < len(held):
            self.unknown(rule, key, time)
            return
        self.resume(rule, key, time, total)
        if total >= holding.permitted and not self.is_open(rule, key):
            evidence = tuple(f"{id} {mass:g} t" for id, mass in known)
            self.begin(rule, key, time, time, total, holding.permitted, unit="t", evidence=evidence)
        elif total < 0.99 * holding.permitted and self.is_open(rule, key):
            self.tell(rule, key, Phase.ENDED, time, total)

    def agree(self, group: Group, time: int) -> None:
        """Judge a group after something happened to a member."""
        members = [point for point in self.points.values() if point.rule["group"] == group.key]
        known = [(point, *point.member) for point in members if point.member]
        if len(known) < 2:
            self.unknown("disagreement", group.key, time)
            return
        now = min(when for _, when, _ in known)
        if group.judged is not None and now <= group.judged:
            return
        group.judged = now
        values = [value for _, _, value in known]
        spread = max(values) - min(values)
        self.resume("disagreement", group.key, now, spread)
        if spread > group.tolerance:
            group.since = now if group.since is None else group.since
            if now - group.since >= group.delay and not self.is_open("disagreement", group.key):
                evidence = tuple(f"{point.key[1]} {value:g}" for point, _, value in known)
                unit, limit = members[0].rule["unit"], group.tolerance
                self.begin(
                    "disagreement",
                    group.key,
                    group.since,
                    now,
                    spread,
                    limit,
                    unit=unit,
                    evidence=evidence,
                )
        else:
            group.since = None
            if self.is_open("disagreement", group.key):
                self.tell("disagreement", group.key, Phase.ENDED, now, spread)

    # ---- telling

    def episode(self, rule: str, key: Key) -> Episodes:
        return self.episodes.setdefault((rule, key), Episodes())

    def is_open(self, rule: str, key: Key) -> bool:
        return self.episode(rule, key).last is not None

    def begin(
        self,
        rule: str,
        key: Key,
        since: int,
        time: int,
        value: float | None = None,
        limit: float | None = None,
        level: str = "",
        unit: str = "",
        evidence: tuple[str, ...] = (),
    ) -> None:
        episode = self.episode(rule, key)
        assert episode.last is None
        if episode.newest_since is not None and since <= episode.newest_since:
            since = episode.newest_since + 1
        episode.newest_since = since
        episode.unknown = False
        episode.last = self.message(
            rule, key, Phase.BEGUN, since, time, value, limit, level, unit, evidence=evidence
        )
        self.say(episode.last)

    def message(
        self,
        rule: str,
        key: Key,
        phase: Phase,
        since: int,
        time: int,
        value: float | None,
        limit: float | None,
        level: str,
        unit: str,
        evidence: tuple[str, ...] = (),
    ) -> Finding:
        enterprise, name = key
        prefix = NO_POINT.get(rule, "point")
        rules = self.points[key].rule if prefix == "point" else {"kind": "", "clause": "", "template": ""}
        title = ""
        if rule == "chemical.overstored":
            holding = self.holding(key)
            title, rules = holding.name, {"kind": holding.cas, "clause": holding.clause, "template": ""}
        if rule == "leak":
            title = self.section(key).name
        return Finding(
            id=finding_id(rule, enterprise, f"{prefix}:{name}", since),
            seq=1,
            rule=rule,
            enterprise=enterprise,
            subject=f"{prefix}:{name}",
            phase=phase,
            since=since,
            time=time,
            arrival=self.now,
            level=level,
            tier=self.tier(rule, key, level),
            name=title,
            kind=rules["kind"],
            template=rules["template"],
            within=self.within(rule, key),
            value=value,
            limit=limit,
            unit=unit,
            clause=rules["clause"],
            evidence=evidence,
            version=self.registry.version,
        )

    def tell(
        self, rule: str, key: Key, phase: Phase, time: int, value: float | None, **changes: object
    ) -> None:
        episode = self.episode(rule, key)
        assert episode.last
        last = episode.last
        episode.last = msgspec.structs.replace(
            last,
            seq=last.seq + 1,
            phase=phase,
            time=time,
            arrival=self.now,
            value=value,
            version=self.registry.version,
            **changes,
        )
        self.say(episode.last)
        if phase in (Phase.ENDED, Phase.WITHDRAWN):
            episode.last = None

    def unknown(self, rule: str, key: Key, time: int) -> None:
        episode = self.episode(rule, key)
        if episode.last and not episode.unknown:
            self.tell(rule, key, Phase.UNKNOWN, time, None)
            episode.unknown = True

    def resume(self, rule: str, key: Key, time: int, value: float | None) -> None:
        episode = self.episode(rule, key)
        if episode.last and episode.unknown:
            self.tell(rule, key, Phase.RESUMED, time, value)
            episode.unknown = False

    # ---- holding back what was over before it was heard of

    def say(self, finding: Finding) -> None:
        on_device_time = finding.rule not in ("clock", "gateway.offline", "silent", "bad_quality")
        old = finding.time < finding.arrival - 60 * SECOND
        if self.deaf_from <= finding.time + 60 * SECOND and finding.time <= self.deaf_to:
            old = False
        if finding.id in self.held:
            messages = self.held[finding.id]
            messages.append(finding)
            if finding.phase == Phase.ENDED:
                del self.held[finding.id]
                self.told += [self.as_evidence(messages)] if old else messages
        elif finding.phase == Phase.BEGUN and on_device_time and old:
            self.held[finding.id] = [finding]
        else:
            self.told.append(finding)

    @staticmethod
    def as_evidence(messages: list[Finding]) -> Finding:
        """One message for all: as at its worst, ended when it ended."""
        worst = messages[0]
        for message in messages:
            here, there = message.tier or 0, worst.tier or 0
            higher = message.phase == Phase.WORSENED and message.level != worst.level
            if here > there or (here == there and higher):
                worst = message
        return msgspec.structs.replace(worst, seq=1, phase=Phase.ENDED, time=messages[-1].time, late=True)

    def release(self) -> None:
        for messages in self.held.values():
            self.told += messages
        self.held = {}

    def take(self) -> list[Finding]:
        told, self.told = self.told, []
        return told
