"""What Prometheus reads: counts of the judge, the sender and the API, and what the desk holds right now."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine, func, select

from alerting import store, tables
from alerting.desk import sources
from alerting.sender import Counts
from registry.clock import SECOND
from registry.database import DatabaseBusy, DatabaseUnwritable, reading


class Latency(Protocol):
    """Milliseconds over the newest samples."""

    @property
    def count(self) -> int: ...
    @property
    def p50(self) -> float: ...
    @property
    def p99(self) -> float: ...


class JudgeStatus(Protocol):
    """What the judging process says of itself; counts since its start, times in µs."""

    @property
    def time(self) -> int: ...
    @property
    def started(self) -> int: ...
    @property
    def connected(self) -> bool: ...
    @property
    def listening(self) -> bool: ...
    @property
    def offset(self) -> int: ...
    @property
    def absorbed(self) -> int: ...
    @property
    def messages(self) -> int: ...
    @property
    def readings(self) -> int: ...
    @property
    def findings(self) -> int: ...
    @property
    def dead(self) -> Mapping[str, int]: ...
    @property
    def dropped(self) -> Mapping[str, int]: ...
    @property
    def waiting(self) -> int: ...
    @property
    def desk_busy(self) -> int: ...
    @property
    def unwritable(self) -> str: ...
    @property
    def alert_ms(self) -> Latency: ...
    @property
    def round_ms(self) -> Latency: ...
    @property
    def journal_bytes(self) -> int: ...
    @property
    def journal_hours(self) -> float: ...


@dataclass(slots=True)
class Requests:
    """Answers of the API since its start, by route, method and status."""

    answered: Counter[tuple[str, str, int]] = field(default_factory=Counter)


class Scrape(Collector):
    """Everything, gathered when it is asked for; of what cannot be read now, nothing is said but that."""

    def __init__(
        self,
        database: Engine,
        status: Callable[[], JudgeStatus | None],
        requests: Requests,
        sender: Counts | None = None,
        standstill: Callable[[], str] | None = None,
    ) -> None:
        self._database = database
        self._status = status
        self._requests = requests
        self._sender = sender
        self._standstill = standstill

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand, so that registering asks no database."""
        return ()

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        if self._standstill is None:
            yield _gauge(
                "fenghuo_judge_up", "1 if the judging process has ever said how it is.", status is not None
            )
        else:
            yield _gauge("fenghuo_cluster_judges", "1 if what arrives is judged.", not self._standstill())
        if status is not None:
            yield from _judge(status)
        try:
            yield from self._desk()
            readable = True
        except (DatabaseBusy, DatabaseUnwritable):
            readable = False
        yield _gauge("fenghuo_desk_readable", "1 if the desk's database could be read just now.", readable)
        answered = CounterMetricFamily(
            "fenghuo_http_answers", "Answers of the API.", labels=["route", "method", "status"]
        )
        for (route, method, code), count in sorted(self._requests.answered.items()):
            answered.add_metric([route, method, str(code)], count)
        yield answered
        if self._sender is not None:
            yield from _sender(self._sender)

    def _desk(self) -> Iterator[Metric]:
        column = tables.outbox.c.state
        with reading(self._database) as connection:
            counts = store.counts(connection, store.Scope(system=True))
            states = connection.execute(select(column, func.count()).group_by(column)).all()
        alerts = GaugeMetricFamily(
            "fenghuo_alerts_open", "Alerts that are not closed.", labels=["tier", "condition", "answer"]
        )
        for tier, condition, answer, count in counts:
            alerts.add_metric([tier.name, condition, answer], count)
        yield alerts
        notices = GaugeMetricFamily("fenghuo_notices", "Notices in the outbox.", labels=["state"])
        for state, count in states:
            notices.add_metric([state], count)
        yield notices
        came = sources(self._database)
        if came:
            times = GaugeMetricFamily(
                "fenghuo_source_time_seconds",
                "Up to when the desk has absorbed a source.",
                labels=["source"],
            )
            for source, time in sorted(came.items()):
                times.add_metric([source], time / SECOND)
            yield times


def _judge(status: JudgeStatus) -> Iterator[Metric]:
    counters = {
        "messages": (status.messages, "MQTT messages journaled."),
        "readings": (status.readings, "Readings journaled and judged."),
        "findings": (status.findings, "Messages of findings."),
        "desk_busy": (status.desk_busy, "Rounds that the desk could not take at once."),
    }
    for name, (count, words) in counters.items():
        yield CounterMetricFamily(f"fenghuo_{name}", words, value=count)
    yield _by_reason("fenghuo_dead_letters", "Messages or parts of them that could not be used.", status.dead)
    yield _by_reason("fenghuo_dropped_readings", "Readings left out.", status.dropped)
    gauges = {
        "judge_time_seconds": (status.time / SECOND, "The judge's time when it last said how it is."),
        "judge_start_time_seconds": (status.started / SECOND, "When the judge was started."),
        "broker_connected": (status.connected, "1 if the collector is connected to the broker."),
        "listening": (status.listening, "1 if silence counts: connected, and caught up with the broker."),
        "journal_offset": (status.offset, "Newest offset of the journal."),
        "journal_offset_absorbed": (status.absorbed, "Newest offset whose findings the desk holds."),
        "journal_bytes": (status.journal_bytes, "Size of the journal."),
        "journal_hours_left": (status.journal_hours, "Hours that the disk budget lasts at this rate."),
        "journal_unwritable": (bool(status.unwritable), "1 while the journal cannot be written."),
        "findings_waiting": (status.waiting, "Findings that the desk has not taken yet."),
    }
    for name, (value, words) in gauges.items():
        yield _gauge(f"fenghuo_{name}", words, value)
    yield quantiles(
        "fenghuo_alert_latency_seconds",
        "From a reading's device time to its finding committed.",
        status.alert_ms,
    )
    yield quantiles(
        "fenghuo_round_latency_seconds", "From messages taken to their findings committed.", status.round_ms
    )


def _sender(counts: Counts) -> Iterator[Metric]:
    attempts = CounterMetricFamily(
        "fenghuo_notice_attempts", "Attempts to deliver a notice.", labels=["channel", "outcome"]
    )
    for (channel, outcome), count in sorted(counts.outcomes.items()):
        attempts.add_metric([channel, outcome], count)
    yield attempts
    for name, count, words in (
        ("notice_repeats", counts.repeats, "Attempts marked as a repeat."),
        ("notices_failed", counts.failed, "Notices refused or given up."),
        ("notices_recovered", counts.recovered, "Notices found in the middle of an attempt at start."),
        ("sender_database_busy", counts.database_busy, "Times that the sender could not use the database."),
    ):
        yield CounterMetricFamily(f"fenghuo_{name}", words, value=count)


def quantiles(name: str, words: str, latency: Latency) -> Metric:
    """A latency in seconds, by quantile; without a value where there is no sample."""
    family = GaugeMetricFamily(name, words, labels=["quantile"])
    if latency.count:
        family.add_metric(["0.5"], latency.p50 / 1000)
        family.add_metric(["0.99"], latency.p99 / 1000)
    return family


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)


def _by_reason(name: str, words: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, words, labels=["reason"])
    for reason, count in sorted(counts.items()):
        family.add_metric([reason], count)
    return family
