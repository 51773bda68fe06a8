"""Every word that people read, in Chinese and English: one catalogue, and the notices made from it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from alerting.alert import Alert, Role
from alerting.lifecycle import LATE, SYSTEM, Call, Event
from registry.clock import SECOND
from registry.model import Registry

LANGUAGES = ("zh", "en")

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
    "rule.stuck": ("数值不变，疑似卡死", "does not change: it may be stuck"),
    "rule.range": ("超出物理量程", "is outside its physical range"),
    "rule.disagreement": ("冗余测点读数不一致", "redundant points disagree"),
    "rule.clock": ("设备时钟错误", "has a wrong clock"),
    "rule.gateway.offline": ("网关离线", "is offline"),
    "rule.system.journal": ("数据日志无法写入", "the journal cannot be written"),
    "rule.system.lost": ("有数据丢失", "readings were lost"),
    "rule.system.clock": ("系统时钟异常", "the system's clock is not right"),
    "rule.system.desk": ("告警数据库异常", "the alert database is in trouble"),
    "rule.system.configuration": ("新的配置未被接受", "a changed configuration was refused"),
    "rule.other": ("触发规则 {rule}", "triggered rule {rule}"),
    # subjects
    "subject.point": ("{name}（{id}）", "{name} ({id})"),
    "subject.point.unnamed": ("测点 {id}", "point {id}"),
    "subject.gateway": ("网关 {id}", "gateway {id}"),
    "subject.group": ("冗余组 {id}", "redundancy group {id}"),
    "subject.system": ("烽火系统", "the Fenghuo system"),
    # the parts of a notice
    "title": ("{who}，{subject}{what}", "{who}, {subject} {what}"),
    "title.asked": ("【{tier}】请确认：{title}", "[{tier}] please confirm: {title}"),
    "title.told": ("【{tier}】通知：{title}", "[{tier}] for information: {title}"),
    "where": ("{who}，{place}", "{who}, {place}"),
    "happened": ("{where}：{subject}{what}。", "{where}: {subject} {what}."),
    "value": ("当前值 {value}。", "Value {value}."),
    "value.limit": ("当前值 {value}，限值 {limit}。", "Value {value}, limit {limit}."),
    "clause": ("依据：{clause}。", "By {clause}."),
    "evidence": ("详情：{evidence}。", "Details: {evidence}."),
    "tier_and_since": ("级别：{tier}。开始于 {since}。", "This is {tier}. Since {since}."),
    "late.heard": (
        "迟到：{happened} 发生，{heard} 才收到。",
        "Late: it happened at {happened} and was heard of only at {heard}.",
    ),
    "late.told": (
        "迟到：应在 {due} 通知，{now} 才发出。",
        "Late: this was due at {due} and goes out only at {now}.",
    ),
    "reason.worsened": ("情况恶化，级别已升高。", "It has got worse: the tier was raised."),
    "reason.reopened": ("结束后又再次发生。", "It has begun again after it had ended."),
    "reason.confirm_due": ("到时仍无人确认。", "Nobody has confirmed it in time."),
    "reason.action_due": (
        "已有人确认，但到时仍没有处置记录。",
        "It was confirmed, but no action was recorded in time.",
    ),
    "reason.return_due": ("已有人处理，但至今没有结束。", "It was dealt with, but it is still not over."),
    "reason.take_over": ("此告警已由 {person} 接手。", "{person} has taken over this alert."),
    "reason.ended": (
        "现场数据已恢复正常，但仍须有人确认。",
        "The plant is back to normal, but it is still unanswered.",
    ),
    "nobody": (
        "注意：值班表上无人可以通知：{places}。请立即安排人员。",
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
    "event.withdrawn": ("规则已撤销", "withdrawn"),
    "event.confirm": ("确认", "confirm"),
    "event.take_over": ("接手", "take-over"),
    "event.act": ("处置记录", "action"),
    "event.confirm_due": ("到时未确认", "not confirmed in time"),
    "event.action_due": ("到时未处置", "no action in time"),
    "event.return_due": ("长时间未结束", "still not over"),
    "event.close_due": ("自动关闭", "closes itself"),
    # what a step did
    "step.asked": ("请 {people} 确认", "asked {people}"),
    "step.told": ("通知 {people}", "told {people}"),
    "step.nobody": ("{places} 无人值班", "nobody on duty at {places}"),
    "step.seen": ("已阅，不算确认", "seen, which is no confirm"),
    "step.late": ("迟了 {seconds} 秒", "{seconds} s late"),
    "step.missed": ("期间漏问 {count} 次", "{count} askings fell away meanwhile"),
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
    """A number with its engineering unit, if it has one."""
    return f"{number(value)} {unit}" if unit else number(value)


@lru_cache(maxsize=10_000)
def moment(time: int, time_zone: str) -> str:
    """A time (µs UTC) as the people of that zone read it, to the second: 2026-11-21 16:00:03."""
    utc = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time // SECOND)
    return utc.astimezone(ZoneInfo(time_zone)).strftime("%Y-%m-%d %H:%M:%S")


class Occasion(NamedTuple):
    """Why a notice is written, now. Times in µs.

    due: when it should have been written. places: where nobody is on duty, if that is why.
    person: who took over, if that is why. evidence: of the finding.
    """

    event: Event
    now: int
    due: int
    places: tuple[str, ...] = ()
    person: str = ""
    evidence: tuple[str, ...] = ()


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
    who = enterprise_name(registry, alert.enterprise, language)
    subject, place, video = _subject(registry, alert, language)
    what = rule(alert.rule, alert.level, language)
    where = say("where", language, who=who, place=place) if place else who
    said = [say("happened", language, where=where, subject=subject, what=what)]
    key = f"reason.{occasion.event}"
    if key in CATALOGUE:
        said.append(say(key, language, person=occasion.person))
    elif alert.ended:
        said.append(say("reason.ended", language))
    if alert.value is not None:
        value = quantity(alert.value, alert.unit)
        if alert.limit is None:
            said.append(say("value", language, value=value))
        else:
            limit = quantity(alert.limit, alert.unit)
            said.append(say("value.limit", language, value=value, limit=limit))
    if alert.clause:
        said.append(say("clause", language, clause=alert.clause))
    if occasion.evidence:
        said.append(say("evidence", language, evidence=say("list.and", language).join(occasion.evidence)))
    said.append(say("tier_and_since", language, tier=tier, since=moment(alert.since, zone)))
    said += _lateness(alert, occasion, zone, language)
    if occasion.places:
        places = (place_name(registry, place, language) for place in occasion.places)
        said.append(say("nobody", language, places=say("list.and", language).join(places)))
    title = say("title", language, who=who, subject=subject, what=what)
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
    elif alert.enterprise and call.place == SYSTEM:
        said.append(say("ask.nobody", language))
    elif alert.confirm_due > now:
        said.append(say("ask", language, until=moment(alert.confirm_due, time_zone)))
    else:
        said.append(say("ask.now", language))
    if account.video:
        said.append(say("video", language, video=account.video))
    title = say(f"title.{call.role}", language, tier=account.tier, title=account.title)
    return title, say("sentences", language).join(said)


def rule(name: str, level: str, language: str) -> str:
    """What a rule says of its subject."""
    if name.startswith("limit."):
        return say(f"rule.limit.{level}" if f"rule.limit.{level}" in CATALOGUE else "rule.limit", language)
    key = f"rule.{name}"
    return say(key, language) if key in CATALOGUE else say("rule.other", language, rule=name)


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
    kind, _, id = alert.subject.partition(":")
    if kind != "point":
        key = f"subject.{kind}"
        return (say(key, language, id=id) if key in CATALOGUE else alert.subject), "", ""
    row = registry.rows.get(alert.enterprise, {}).get(id)
    if row is None:
        return say("subject.point.unnamed", language, id=id), "", ""
    points = registry.points
    name = points.name[row]
    key = "subject.point" if name and name != id else "subject.point.unnamed"
    return say(key, language, name=name, id=id), points.place[row], points.video[row]


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
