"""Every word that people read, in Chinese and English: one catalogue, and the notices made from it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from alerting.alert import Alert, Condition, Role
from alerting.lifecycle import LATE, SYSTEM, Call, Event
from registry.clock import MINUTE, SECOND
from registry.model import Registry
from streams.finding import Ground

LANGUAGES = ("zh", "en")

SHOWN = 5
"""So many points are named; of more, their number is said."""

HEARD_LATE = 10 * SECOND
"""An event that we heard of later than this is told with both times, µs."""

# key: (zh, en). Placeholders are str.format's; both languages have the same (a test holds that).
CATALOGUE: dict[str, tuple[str, str]] = {
    # tiers
    "tier.I": ("I级（红色）", "tier I (red)"),
    "tier.II": ("II级（橙色）", "tier II (orange)"),
    "tier.III": ("III级（黄色）", "tier III (yellow)"),
    "tier.IV": ("IV级（蓝色）", "tier IV (blue)"),
    # rules
    "rule.limit.HH": ("达到或高于高高限", "is at or above its high-high limit"),
    "rule.limit.H": ("达到或高于高限", "is at or above its high limit"),
    "rule.limit.L": ("达到或低于低限", "is at or below its low limit"),
    "rule.limit.LL": ("达到或低于低低限", "is at or below its low-low limit"),
    "rule.limit": ("越限", "is beyond its limit"),
    "rule.rate": ("变化过快", "changes too fast"),
    "rule.silent": ("没有数据", "has gone silent"),
    "rule.bad_quality": ("有通信，但没有有效数值", "is heard, but gives no valid value"),
    "rule.stuck": ("数值不变，疑似卡死", "does not change: it may be stuck"),
    "rule.range": ("超出物理量程", "is outside its physical range"),
    "rule.disagreement": ("读数不一致", "has points that disagree"),
    "rule.clock": ("设备时钟错误", "has a wrong clock"),
    "rule.gateway.offline": ("离线", "is offline"),
    "rule.state": ("处于报警状态", "is in its alarm state"),
    "rule.time_to_limit.HH": ("即将达到高高限", "will soon reach its high-high limit"),
    "rule.time_to_limit.H": ("即将达到高限", "will soon reach its high limit"),
    "rule.time_to_limit.L": ("即将达到低限", "will soon reach its low limit"),
    "rule.time_to_limit.LL": ("即将达到低低限", "will soon reach its low-low limit"),
    "rule.time_to_limit": ("即将达到限值", "will soon reach a limit"),
    "rule.leak.suspected": ("流量不平衡，疑似泄漏", "does not balance: it may leak"),
    "rule.leak.confirmed": (
        "流量不平衡且压力下降，判断为泄漏",
        "does not balance and loses pressure: it leaks",
    ),
    "rule.leak": ("泄漏", "leaks"),
    "rule.equipment.due": ("检验即将到期", "is soon due for inspection"),
    "rule.equipment.overdue": ("检验逾期", "is overdue for inspection"),
    "rule.equipment.failed": ("检验不合格", "has failed its inspection"),
    "rule.inspection.failed": ("不合格", "was failed"),
    "rule.licence.expired": ("已过期", "has expired"),
    "rule.certificate.expired": ("已过期", "has expired"),
    "rule.permit": ("有效", "is in force"),
    "rule.chemical.stored": ("储存中", "is stored"),
    "rule.chemical.overstored": ("超过许可储量", "is stored above its permitted quantity"),
    "rule.unit.major_hazard.1": ("为一级重大危险源", "is a major hazard of level 1"),
    "rule.unit.major_hazard.2": ("为二级重大危险源", "is a major hazard of level 2"),
    "rule.unit.major_hazard.3": ("为三级重大危险源", "is a major hazard of level 3"),
    "rule.unit.major_hazard.4": ("为四级重大危险源", "is a major hazard of level 4"),
    "rule.unit.major_hazard": ("为重大危险源", "is a major hazard"),
    "rule.hazard.overdue": ("整改逾期", "is past its deadline"),
    "rule.penalty": ("受到行政处罚", "was penalised"),
    "rule.warning": ("处于灾害预警中", "is under a warning"),
    "rule.compound": ("出现复合风险", "has a compound risk"),
    "rule.system.journal": ("数据日志无法写入", "cannot write its journal"),
    "rule.system.broker": ("收不到消息服务器的数据", "hears nothing from the broker"),
    "rule.system.judge": ("判断进程已停止", "has a judging process that stands still"),
    "rule.system.engine": ("有数据无法判断", "could not judge what arrived"),
    "rule.system.lost": ("丢失了数据", "has lost readings"),
    "rule.system.history": ("历史数据停止写入", "has stopped keeping its history"),
    "rule.system.clock": ("时钟异常", "has a clock that is not right"),
    "rule.system.configuration": ("未接受新的配置", "refused a changed configuration"),
    "rule.other": ("触发规则 {rule}", "triggered rule {rule}"),
    # subjects
    "subject.point": ("{name}（{id}）", "{name} ({id})"),
    "subject.point.unnamed": ("测点（{id}）", "point {id}"),
    "subject.gateway": ("网关（{id}）", "gateway {id}"),
    "subject.group": ("冗余组（{id}）", "redundancy group {id}"),
    "subject.named": ("{name}（{id}）", "{name} ({id})"),
    "subject.unit": ("装置 {id}", "unit {id}"),
    "subject.pipeline": ("管段 {id}", "pipeline section {id}"),
    "subject.equipment": ("设备 {id}", "equipment {id}"),
    "subject.chemical": ("危险化学品 {id}", "chemical {id}"),
    "subject.licence": ("许可证 {id}", "licence {id}"),
    "subject.certificate": ("证书 {id}", "certificate {id}"),
    "subject.permit": ("作业许可 {id}", "work permit {id}"),
    "subject.inspection": ("检查 {id}", "inspection {id}"),
    "subject.hazard": ("隐患 {id}", "hazard {id}"),
    "subject.penalty": ("处罚 {id}", "penalty {id}"),
    "subject.system": ("烽火系统", "Fenghuo"),
    "subject.slot": ("烽火系统数据分区 {id}", "Fenghuo's slot {id}"),
    "subject.collector": ("烽火系统采集进程 {id}", "Fenghuo's collector {id}"),
    "subject.kafka": ("烽火系统采集进程 {id}（Kafka）", "Fenghuo's collector {id} (Kafka)"),
    "subject.shard": ("烽火系统规则分区 {id}", "Fenghuo's shard {id}"),
    # the parts of a notice
    "statement": ("{subject}{what}", "{subject} {what}"),
    "title": ("{who}，{statement}", "{who}, {statement}"),
    "title.ended": ("{title}（现已结束）", "{title} (over now)"),
    "title.unknown": ("{title}（现状未知）", "{title} (state now unknown)"),
    "title.asked": ("【{tier}】请确认：{title}", "[{tier}] please confirm: {title}"),
    "title.told": ("【{tier}】通知：{title}", "[{tier}] for information: {title}"),
    "where": ("{who}，{place}", "{who}, {place}"),
    "happened": ("{where}：{statement}。", "{where}: {statement}."),
    "happened.system": ("{statement}。", "{statement}."),
    "now.ended": ("报警现已结束。", "The alarm is over now."),
    "now.unknown": (
        "现状未知：收不到有效数据。",
        "Its present state is unknown: no valid data comes in.",
    ),
    "measure": ("值", "Value"),
    "measure.rate": ("变化率", "Rate of change"),
    "measure.disagreement": ("差值", "Spread"),
    "measure.clock": ("时钟偏差", "Clock offset"),
    "measure.time_to_limit": ("预计剩余时间", "Time left"),
    "measure.leak": ("泄漏占流量", "Leak, of the flow"),
    "measure.chemical.overstored": ("储量", "Stock"),
    "bound": ("限值", "limit"),
    "bound.time_to_limit": ("提前告知时限", "told from"),
    "bound.leak": ("判定下限", "told from"),
    "bound.chemical.overstored": ("许可储量", "permitted"),
    "bound.stuck": ("变化不超过", "changed by no more than"),
    "bound.disagreement": ("允许差值", "allowed"),
    "value.raised": ("报警时的{measure} {value}", "{measure} at the alarm: {value}"),
    "value.last": ("截至 {time} 的{measure} {value}", "{measure} as of {time}: {value}"),
    "value": ("{value}。", "{value}."),
    "value.limit": ("{value}，{bound} {limit}。", "{value}, {bound} {limit}."),
    "clause": ("依据：{clause}。", "By {clause}."),
    # a compound risk: why, what it stands on, and what it asks for
    "statement.why": ("{subject}：{why}", "{subject}: {why}"),
    "ground": ("{subject}{what}", "{subject} {what}"),
    "ground.of": ("{who} {ground}", "{who}: {ground}"),
    "ground.value": ("{ground}（{value}）", "{ground} ({value})"),
    "ground.limit": ("{ground}（{value}，限值 {limit}）", "{ground} ({value}, limit {limit})"),
    "ground.since": ("{ground}，自 {since}", "{ground}, since {since}"),
    "grounds": ("判断依据：{items}。", "It stands on: {items}."),
    "grounds.and": ("；", "; "),
    "grounds.capped": ("{items}；等", "{items}; and others"),
    "asks": ("请求{what}：由{lead}牵头。", "It asks for {what}: {lead} leads."),
    "asks.support": (
        "请求{what}：由{lead}牵头，{support}配合。",
        "It asks for {what}: {lead} leads, {support} support.",
    ),
    "ask.joint-inspection": ("联合检查", "a joint inspection"),
    "ask.evacuation": ("人员撤离", "evacuation"),
    "ask.on-site-check": ("现场核查", "a check on site"),
    "ask.follow-up-inspection": ("复查", "a follow-up inspection"),
    "department.emergency-management": ("应急管理部门", "emergency management"),
    "department.market-regulation": ("市场监管部门", "market regulation"),
    "department.fire": ("消防救援机构", "the fire department"),
    "department.environment": ("生态环境部门", "the environment department"),
    "department.housing": ("住房城乡建设部门", "housing and construction"),
    "department.mine-safety": ("矿山安全监察部门", "mine safety"),
    "department.police": ("公安部门", "the police"),
    "department.health": ("卫生健康部门", "the health department"),
    "department.transport": ("交通运输部门", "the transport department"),
    "evidence.gateway.offline": ("涉及测点：{items}。", "Its points: {items}."),
    "evidence.disagreement": ("报警时各测点读数：{items}。", "At the alarm they read: {items}."),
    "evidence.time_to_limit": (
        "限值、变化速度和各次变化一致的比例：{items}。",
        "Limit, slope, and how much of it agrees: {items}.",
    ),
    "evidence.leak": (
        "泄漏量和距进口的位置：{items}。",
        "Size of the leak, and place from the inlet: {items}.",
    ),
    "evidence.chemical.overstored": ("各储罐现存：{items}。", "In its tanks: {items}."),
    "evidence.clock": ("首先发现于测点 {items}。", "First seen at point {items}."),
    "evidence.system.journal": (
        "新数据暂存在消息服务器，可以写入后自动继续（{items}）。",
        "New readings wait at the broker until it can be written again ({items}).",
    ),
    "evidence.system.broker": (
        "在此期间不会发现任何异常（{items}）。",
        "Nothing that happens meanwhile is seen ({items}).",
    ),
    "evidence.system.judge": (
        "在此期间不会产生新的告警（{items}）。",
        "No alert is raised meanwhile ({items}).",
    ),
    "evidence.system.engine": ("这一批数据未经判断（{items}）。", "That batch was not judged ({items})."),
    "evidence.system.lost": ("这一段的历史数据不全（{items}）。", "The history has a hole there ({items})."),
    "evidence.system.history": (
        "告警不受影响；数据仍在日志中，恢复后自动补写（{items}）。",
        "Alerts are not affected; the journal has the readings until it goes on ({items}).",
    ),
    "evidence.system.clock": ("各项时限可能不准（{items}）。", "Deadlines may be wrong ({items})."),
    "evidence.system.configuration": (
        "原配置继续有效（{items}）。",
        "The old one stays in force ({items}).",
    ),
    "tier_and_since": ("级别：{tier}。开始于 {since}。", "This is {tier}. Since {since}."),
    "late.heard": (
        "延迟：{happened} 发生，{heard} 才收到。",
        "Late: it happened at {happened} and was heard of only at {heard}.",
    ),
    "late.told": (
        "延迟：应在 {due} 通知，{now} 才发出。",
        "Late: this was due at {due} and goes out only at {now}.",
    ),
    "reason.worsened": ("情况恶化，级别已升高。", "It has got worse: the tier was raised."),
    "reason.reopened": ("结束后又再次发生。", "It has begun again after it had ended."),
    "reason.confirm_due": ("逾期无人确认。", "Nobody has confirmed it in time."),
    "reason.action_due": (
        "已有人确认，但逾期仍无处置记录。",
        "It was confirmed, but no action was recorded in time.",
    ),
    "reason.return_due": ("此前已有人答复，但至今没有结束。", "It was answered, but it is still not over."),
    "reason.take_over": ("此告警已由 {person} 接手。", "{person} has taken over this alert."),
    "nobody": (
        "注意：以下单位无人值班：{places}。请立即安排人员。",
        "Attention: nobody on the rota can be asked: {places}. Please find somebody at once.",
    ),
    "ask": ("请在 {until} 前确认。", "Please confirm before {until}."),
    "ask.now": ("请立即确认。", "Please confirm at once."),
    "ask.nobody": (
        "无人可问：请您安排人员，或接手此告警。",
        "Nobody else can be asked: please find somebody, or take over this alert.",
    ),
    "told": ("本条仅供知悉，无需确认。", "This is for your information; no confirm is asked of you."),
    "told.holder": ("此告警由您负责。", "You hold this alert."),
    "video": ("现场视频：{video}", "Live video: {video}"),
    # what the sender adds to a notice that goes out late
    "delayed": (
        "延迟：这条通知晚了 {minutes} 分钟才送出，以下是当时的内容。",
        "Late: this notice goes out {minutes} min after it was written; what follows was said then.",
    ),
    "delayed.confirmed": ("此后已有人确认。", "Somebody has confirmed it since."),
    "delayed.closed": ("此告警此后已关闭。", "The alert has been closed since."),
    # conditions and answers
    "condition.active": ("进行中", "active"),
    "condition.unknown": ("未知", "unknown"),
    "condition.ended": ("已结束", "ended"),
    "answer.unconfirmed": ("未确认", "unconfirmed"),
    "answer.confirmed": ("已确认", "confirmed"),
    "answer.acted": ("已处置", "acted upon"),
    "role.asked": ("须确认", "asked"),
    "role.told": ("知悉", "told"),
    # the steps of an alert's history
    "event.begun": ("告警产生", "raised"),
    "event.worsened": ("情况恶化", "worsened"),
    "event.eased": ("有所缓解", "eased"),
    "event.resumed": ("数据恢复", "known again"),
    "event.reopened": ("再次发生", "began again"),
    "event.corrected": ("数据更正", "corrected"),
    "event.unknown": ("情况未知", "unknown"),
    "event.ended": ("情况结束", "ended"),
    "event.withdrawn": ("已撤销", "withdrawn"),
    "event.confirm": ("确认", "confirm"),
    "event.take_over": ("接手", "take-over"),
    "event.act": ("处置记录", "action"),
    "event.confirm_due": ("逾期未确认", "not confirmed in time"),
    "event.action_due": ("逾期未处置", "no action in time"),
    "event.return_due": ("长时间未结束", "still not over"),
    "event.close_due": ("自动关闭", "closes itself"),
    "event.undelivered": ("通知未能送达，已放弃", "a notice could not be delivered and was given up"),
    # what a step did
    "step.asked": ("请 {people} 确认", "asked {people}"),
    "step.told": ("通知 {people}", "told {people}"),
    "step.nobody": ("{places} 无人值班", "nobody on duty at {places}"),
    "step.seen": ("已阅（不计为确认）", "seen, which is no confirm"),
    "step.late": ("延迟 {seconds} 秒", "{seconds} s late"),
    "step.missed": ("期间漏发 {count} 次询问", "{count} requests were missed meanwhile"),
    "step.gap": ("之前缺少 {count} 条消息", "{count} messages before it are missing"),
    "step.closed": ("告警关闭：{reason}", "closed: {reason}"),
    "closed.answered": ("已答复", "answered"),
    "closed.never confirmed": ("从未确认", "never confirmed"),
    # what came of a person's answer
    "outcome.confirmed": ("已确认，由您负责", "confirmed: you hold it"),
    "outcome.taken_over": ("已接手，由您负责", "taken over: you hold it"),
    "outcome.acted": ("处置已记录", "action recorded"),
    "outcome.seen": (
        "已记录您已阅；仍在等待被询问的人确认",
        "recorded as seen; it still waits for those who were asked",
    ),
    "outcome.again": (
        "此前已有人确认；您的确认已记录",
        "somebody had confirmed before; yours is recorded too",
    ),
    "outcome.closed": ("告警此前已关闭；您的答复已记录", "it was closed before; your answer is recorded"),
    # lists
    "list.and": ("、", ", "),
    "list.capped": ("{items} … 等 {count} 点", "{items} … {count} points in all"),
    "sentences": ("", " "),
}

_TEMPLATES: dict[str, dict[str, str]] = {
    language: {key: words[index] for key, words in CATALOGUE.items()}
    for index, language in enumerate(LANGUAGES)
}


def say(key: str, language: str, **values: object) -> str:
    """The words for a key, e.g. say("event.begun", "zh"). An unknown language is spoken to in Chinese.

    Raises:
        KeyError: there is no such key, or a placeholder has no value.
    """
    template = _TEMPLATES.get(language, _TEMPLATES["zh"])[key]
    return template.format(**values) if values else template


def number(value: float) -> str:
    """A number as it is read aloud: six significant digits, no exponent, no idle zeros."""
    return format(Decimal(f"{value:.6g}").normalize() + 0, "f")


def quantity(value: float, unit: str) -> str:
    """A number with its engineering unit, if it has one: "1" is none, and "1/s" is so many a second."""
    if unit in ("", "1"):
        return number(value)
    return number(value) + (unit[1:] if unit.startswith("1/") else f" {unit}")


@lru_cache(maxsize=10_000)
def moment(time: int, time_zone: str) -> str:
    """A time (µs UTC) as the people of that zone read it, to the second: 2026-11-21 16:00:03."""
    utc = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time // SECOND)
    return utc.astimezone(ZoneInfo(time_zone)).strftime("%Y-%m-%d %H:%M:%S")


class Occasion(NamedTuple):
    """Why a notice is written, now. Times in µs.

    due: when it should have been written. places: where nobody is on duty, if that is why.
    person: who took over, if that is why.
    """

    event: Event
    now: int
    due: int
    places: tuple[str, ...] = ()
    person: str = ""


class Account(NamedTuple):
    """What a notice says whoever it goes to, in one language."""

    title: str  # after the tier and what is wanted
    tier: str
    text: str
    video: str


def account(alert: Alert, occasion: Occasion, registry: Registry, language: str) -> Account:
    """What happened, where, by which limit and clause, since when, how late, and why we say so now.

    Args:
        alert: as it is after the step that sends the notice.
    """
    zone = registry.time_zone
    tier = say(f"tier.{alert.tier.name}", language)
    of_place = alert.enterprise or alert.cell
    who = place_name(registry, of_place or SYSTEM, language)
    subject, place, video = _subject(registry, alert, language)
    where = say("where", language, who=who, place=place) if place else who
    statement = _statement(alert, subject, language)
    key = "happened" if of_place else "happened.system"
    said = [say(key, language, where=where, statement=statement)]
    if alert.condition is not Condition.ACTIVE:
        said.append(say(f"now.{alert.condition}", language))
    key = f"reason.{occasion.event}"
    if key in CATALOGUE:
        said.append(say(key, language, person=occasion.person))
    said += _measured(alert, occasion.event, zone, language)
    said += _why(alert, registry, language)
    if alert.clause:
        said.append(say("clause", language, clause=alert.clause))
    key = f"evidence.{alert.rule}"
    if alert.evidence and key in CATALOGUE:
        said.append(say(key, language, items=_listed(alert.evidence, language)))
    said.append(say("tier_and_since", language, tier=tier, since=moment(alert.since, zone)))
    said += _lateness(alert, occasion, zone, language)
    if occasion.places:
        places = (place_name(registry, place, language) for place in occasion.places)
        said.append(say("nobody", language, places=say("list.and", language).join(places)))
    title = say("title", language, who=who, statement=statement) if of_place else statement
    if alert.condition is not Condition.ACTIVE:
        title = say(f"title.{alert.condition}", language, title=title)
    return Account(title, tier, say("sentences", language).join(said), video)


def notice(
    account: Account, alert: Alert, call: Call, now: int, time_zone: str, language: str
) -> tuple[str, str]:
    """The title and the text of a notice: the account, and what is wanted of the one it goes to.

    Args:
        call: why this person.
        now: µs.
    """
    said = [account.text]
    if call.role is Role.TOLD:
        said.append(say("told.holder" if call.person == alert.holder != "" else "told", language))
    elif (alert.enterprise or alert.cell) and call.place == SYSTEM:
        said.append(say("ask.nobody", language))
    elif alert.confirm_due > now:
        said.append(say("ask", language, until=moment(alert.confirm_due, time_zone)))
    else:
        said.append(say("ask.now", language))
    if account.video:
        said.append(say("video", language, video=account.video))
    title = say(f"title.{call.role}", language, tier=account.tier, title=account.title)
    return title, say("sentences", language).join(said)


def delayed(text: str, language: str, late: int, *, confirmed: bool, closed: bool) -> str:
    """The text of a notice that goes out so late (µs), and what has become of the alert since."""
    said = [say("delayed", language, minutes=late // MINUTE)]
    if closed:
        said.append(say("delayed.closed", language))
    elif confirmed:
        said.append(say("delayed.confirmed", language))
    return say("sentences", language).join([*said, text])


def rule(name: str, level: str, language: str) -> str:
    """What a rule says of its subject."""
    family = name.partition(".")[0]
    keys = (f"limit.{level}" if family == "limit" else f"{name}.{level}", name, family)
    known = next((key for key in keys if f"rule.{key}" in CATALOGUE), None)
    return say(f"rule.{known}", language) if known else say("rule.other", language, rule=name)


def enterprise_name(registry: Registry, code: str, language: str) -> str:
    """The enterprise's name; its code if the registry has no such enterprise; the system's own for ""."""
    if not code:
        return say("subject.system", language)
    enterprise = registry.enterprises.get(code)
    return enterprise.name if enterprise else code


def place_name(registry: Registry, place: str, language: str) -> str:
    """The name of a duty place: an enterprise, a cell or the system."""
    if place == SYSTEM:
        return say("subject.system", language)
    cell = registry.cells.get(place)
    return cell.name if cell else enterprise_name(registry, place, language)


def subject(registry: Registry, alert: Alert, language: str) -> str:
    """The alert's subject by name and id."""
    return _subject(registry, alert, language)[0]


def _subject(registry: Registry, alert: Alert, language: str) -> tuple[str, str, str]:
    """The subject by name and id, its place, and the link to the live video of it."""
    return _called(registry, alert.enterprise, alert.subject, alert.basis.name, language)


def _called(
    registry: Registry, enterprise: str, subject: str, name: str, language: str
) -> tuple[str, str, str]:
    kind, _, id = subject.partition(":")
    if kind in ("enterprise", "cell"):
        return place_name(registry, id, language), "", ""
    if kind != "point":
        name = name or _part_name(registry, enterprise, kind, id)
        if name and name != id:
            return say("subject.named", language, name=name, id=id), "", ""
        key = f"subject.{kind}"
        return (say(key, language, id=id) if key in CATALOGUE else subject), "", ""
    row = registry.rows.get(enterprise, {}).get(id)
    if row is None:
        return say("subject.point.unnamed", language, id=id), "", ""
    points = registry.points
    name = points.name[row]
    key = "subject.point" if name and name != id else "subject.point.unnamed"
    return say(key, language, name=name, id=id), points.place[row], points.video[row]


def _statement(alert: Alert, subject: str, language: str) -> str:
    """What is said of the subject: of a compound risk, the sentence of its rule."""
    why = alert.basis.why.get(language) or alert.basis.why.get("zh")
    if not why:
        return say("statement", language, subject=subject, what=rule(alert.rule, alert.level, language))
    why = why.rstrip("。.")
    if alert.subject.startswith(("enterprise:", "cell:")):  # which is named already
        return why
    return say("statement.why", language, subject=subject, why=why)


def _part_name(registry: Registry, enterprise: str, kind: str, id: str) -> str:
    """What a unit or a pipeline section of an enterprise is called; "" if nothing says so."""
    known = registry.enterprises.get(enterprise)
    if kind == "unit" and known is not None:
        return dict(known.units).get(id, "")
    if kind == "pipeline":
        return next((s.name for s in registry.sections if (s.enterprise, s.id) == (enterprise, id)), "")
    return ""


def _why(alert: Alert, registry: Registry, language: str) -> list[str]:
    """The findings that a compound risk stands on, and what it asks of whom."""
    basis = alert.basis
    said = []
    if basis.grounds:
        items = say("grounds.and", language).join(
            _ground(ground, alert, registry, language) for ground in basis.grounds[:SHOWN]
        )
        if len(basis.grounds) > SHOWN:
            items = say("grounds.capped", language, items=items)
        said.append(say("grounds", language, items=items))
    for ask in basis.asks:
        support = say("list.and", language).join(_word("department", one, language) for one in ask.support)
        said.append(
            say(
                "asks.support" if support else "asks",
                language,
                what=_word("ask", ask.what, language),
                lead=_word("department", ask.lead, language),
                **({"support": support} if support else {}),
            )
        )
    return said


def _ground(ground: Ground, alert: Alert, registry: Registry, language: str) -> str:
    subject, _, _ = _called(registry, ground.enterprise, ground.subject, ground.name, language)
    text = say("ground", language, subject=subject, what=rule(ground.rule, ground.level, language))
    if ground.enterprise and ground.enterprise != alert.enterprise:
        text = say(
            "ground.of", language, who=enterprise_name(registry, ground.enterprise, language), ground=text
        )
    if ground.value is not None:
        value = quantity(ground.value, ground.unit)
        if ground.limit is None:
            text = say("ground.value", language, ground=text, value=value)
        else:
            limit = quantity(ground.limit, ground.unit)
            text = say("ground.limit", language, ground=text, value=value, limit=limit)
    if ground.since > 0:
        text = say("ground.since", language, ground=text, since=moment(ground.since, registry.time_zone))
    return text


def _word(kind: str, id: str, language: str) -> str:
    """A word of the catalogue for something that a rulebook names; its own name where there is none."""
    key = f"{kind}.{id}"
    return say(key, language) if key in CATALOGUE else id


def _measured(alert: Alert, event: Event, zone: str, language: str) -> list[str]:
    """The last known value and its limit, by the words of the rule, and of when it is."""
    if alert.value is None:
        return []
    raised = event in (Event.BEGUN, Event.WORSENED, Event.REOPENED)
    value = say(
        "value.raised" if raised else "value.last",
        language,
        measure=say(_of_rule("measure", alert.rule), language),
        value=quantity(alert.value, alert.unit),
        time=moment(alert.value_time, zone),
    )
    if alert.limit is None:
        return [say("value", language, value=value)]
    bound = say(_of_rule("bound", alert.rule), language)
    limit = quantity(alert.limit, alert.unit)
    return [say("value.limit", language, value=value, bound=bound, limit=limit)]


def _of_rule(key: str, rule: str) -> str:
    return f"{key}.{rule}" if f"{key}.{rule}" in CATALOGUE else key


def _listed(items: Sequence[str], language: str) -> str:
    """The items, or the first of them and how many there are."""
    text = say("list.and", language).join(items[:SHOWN])
    return say("list.capped", language, items=text, count=len(items)) if len(items) > SHOWN else text


def _lateness(alert: Alert, occasion: Occasion, zone: str, language: str) -> list[str]:
    said = []
    event = occasion.event
    if event not in (Event.CONFIRM_DUE, Event.ACTION_DUE, Event.RETURN_DUE, Event.TAKE_OVER):
        heard = occasion.due
        if heard - alert.time > HEARD_LATE:
            happened = moment(alert.time, zone)
            said.append(say("late.heard", language, happened=happened, heard=moment(heard, zone)))
    if occasion.now - occasion.due > LATE:
        due, now = moment(occasion.due, zone), moment(occasion.now, zone)
        said.append(say("late.told", language, due=due, now=now))
    return said
