"""The rules of points said as plainly as possible: one reading at a time, one record per point.

Written from docs/point-rules.md; shares with the engine only the types that travel and the tiers.
"""

import math
from dataclasses import dataclass, field

import msgspec

from ingest.readings import BAD, Round
from registry.clock import SECOND
from registry.model import LEVELS, Registry
from streams.finding import Finding, Phase, finding_id
from streams.tiers import tier

Key = tuple[str, str]  # enterprise, id of a point, gateway or group


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
    member: tuple[int, float] | None = None  # last known time and value, for its group


@dataclass
class Group:
    key: Key
    tolerance: float
    delay: int
    judged: int | None = None
    since: int | None = None


class PointModel:
    def __init__(self, registry: Registry, now: int) -> None:
        self.now = now
        self.listening = False
        self.listened = 0
        self.points: dict[Key, Point] = {}
        self.groups: dict[Key, Group] = {}
        self.offline: dict[Key, bool] = {}
        self.back: dict[Key, int] = {}  # listened time at which a gateway was offline no more
        self.episodes: dict[tuple[str, Key], Episodes] = {}
        self.held: dict[str, list[Finding]] = {}
        self.told: list[Finding] = []
        self.configure(registry)

    # ---- configuration

    def configure(self, registry: Registry) -> None:
        """Make points, groups and gateways of a version, keeping the state of those there already were."""
        self.registry = registry
        before = self.points
        self.points = {}
        p = registry.points
        for row in range(len(p)):
            g = registry.gateways[p.gateway[row]]
            key = (g.enterprise, p.id[row])
            rule = {
                "kind": p.kind[row],
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
                "group": None,
            }
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
                for level in LEVELS:
                    if math.isnan(rule["limit"][level]):
                        point.limits[level] = Limit(level)
                point.row, point.gateway, point.rule = row, (g.enterprise, g.id), rule
            self.points[key] = point
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

    def reconfigure(self, registry: Registry, now: int, listening: bool = True) -> list[Finding]:
        told = self.advance(now, listening)
        self.release()
        old_index = self.indices()
        self.configure(registry)
        new_index = self.indices()
        order = ["clock", "gateway.offline", "silent", "bad_quality", "range", "limit.low", "limit.high"]
        order += ["rate", "stuck", "disagreement"]
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
            for rule in ("silent", "bad_quality", "range", "limit.low", "limit.high", "rate", "stuck"):
                index[rule, point.key] = point.row
        for number, gateway in enumerate(self.offline):
            index["clock", gateway] = index["gateway.offline", gateway] = number
        for number, group in enumerate(self.groups):
            index["disagreement", group] = number
        return index

    def adapt(self, rule: str, key: Key) -> None:
        """Withdraw an open finding whose rule is no more; ease one whose worse limit is no more."""
        if rule == "clock":
            gone = not any(point.fault for point in self.points.values() if point.gateway == key)
        elif rule in ("gateway.offline", "disagreement"):
            gone = False
        else:
            point = self.points[key]
            if rule in ("limit.low", "limit.high"):
                level = self.level(point, rule)
                last = self.episodes[rule, key].last
                assert last
                if level and level != last.level:
                    self.tell(
                        rule,
                        key,
                        Phase.EASED,
                        self.now,
                        last.value,
                        level=level,
                        limit=point.rule["limit"][level],
                        tier=tier(level, point.rule["kind"]),
                        evidence=(self.registry.version,),
                    )
                gone = not level
            else:
                gone = {
                    "silent": not point.rule["interval"],
                    "bad_quality": not point.rule["interval"],
                    "range": math.isnan(point.rule["low"]) and math.isnan(point.rule["high"]),
                    "rate": math.isnan(point.rule["rate"]),
                    "stuck": not point.rule["stuck"],
                }[rule]
        if gone:
            self.withdraw(rule, key)

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
        for rule in ("range", "limit.low", "limit.high", "rate", "stuck"):
            for point in points:
                self.unknown(rule, point.key, self.now)
        for point in points:
            point.member = None
        for group in self.groups.values():
            if any(point.rule["group"] == group.key for point in points):
                self.agree(group, self.now)

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
        if point.rule["group"] is not None:
            point.member = (time, value) if known else None
            self.agree(self.groups[point.rule["group"]], time)

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
            how = tier(after, point.rule["kind"])
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
        prefix = {"clock": "gateway", "gateway.offline": "gateway", "disagreement": "group"}.get(
            rule, "point"
        )
        rules = self.points[key].rule if prefix == "point" else {"kind": "", "clause": ""}
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
            tier=tier(level, rules["kind"]),
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

    def resume(self, rule: str, key: Key, time: int, value: float) -> None:
        episode = self.episode(rule, key)
        if episode.last and episode.unknown:
            self.tell(rule, key, Phase.RESUMED, time, value)
            episode.unknown = False

    # ---- holding back what was over before it was heard of

    def say(self, finding: Finding) -> None:
        on_device_time = finding.rule not in ("clock", "gateway.offline", "silent", "bad_quality")
        old = finding.time < finding.arrival - 60 * SECOND
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
            if message.phase == Phase.WORSENED and message.tier > worst.tier:
                worst = message
        return msgspec.structs.replace(worst, seq=1, phase=Phase.ENDED, time=messages[-1].time, late=True)

    def release(self) -> None:
        for messages in self.held.values():
            self.told += messages
        self.held = {}

    def take(self) -> list[Finding]:
        told, self.told = self.told, []
        return told
