"""Our own numbers for Prometheus, in the text format or OpenMetrics (with trace ids as exemplars)."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from dslmodel.clock import SECOND
from dslmodel.engine.runner import RunnerStats, TickReport
from dslmodel.records import Snapshot

_TICK_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_DELAY_BUCKETS = (0.5, 1.0, 1.5, 2.1, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
_NEW_SECONDS = 1


class Fill(Protocol):
    """What waits for the pipeline, and what came and went."""

    @property
    def items(self) -> int:
        """Inputs queued."""
        ...

    @property
    def bytes(self) -> int:
        """Memory they hold."""
        ...

    @property
    def accepted(self) -> Mapping[str, int]:
        """Inputs taken, by signal."""
        ...

    @property
    def dropped(self) -> Mapping[str, int]:
        """Inputs refused for lack of room, by signal."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Meters:
    """Where the numbers come from; each is called once a scrape."""

    snapshot: Callable[[], Snapshot | None]
    runner: Callable[[], RunnerStats]
    buffer: Callable[[], Fill]
    received: Callable[[], Iterable[tuple[str, str, str, int]]]  # (transport, signal, what became of it, how many)
    forwarded: Callable[[], Mapping[str, int]]  # by outcome; empty when nothing is forwarded
    version: str


class Metrics:
    """A registry of its own, so that it never mixes with that of a program that embeds us."""

    def __init__(self, meters: Meters) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Readings(meters))
        self._ticks = Histogram(
            "dslmodel_tick_duration_seconds",
            "Time to feed and tick the pipeline for one second of data",
            buckets=_TICK_BUCKETS,
            registry=self._registry,
        )
        self._delays = Histogram(
            "dslmodel_finding_delay_seconds",
            "From the start of the trouble, as the data tell it, to its finding",
            ["pattern"],
            buckets=_DELAY_BUCKETS,
            registry=self._registry,
        )

    def observe(self, report: TickReport) -> None:
        """Count one tick. Called on the pipeline's thread."""
        self._ticks.observe(report.duration_seconds)
        for finding in report.ticked.findings:
            if report.at - finding.at < _NEW_SECONDS * SECOND and finding.resolved_at is None:
                exemplar = {"trace_id": finding.exemplars[0]} if finding.exemplars else None
                self._delays.labels(finding.pattern.value).observe(max(finding.at - finding.started_at, 0) / SECOND, exemplar)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Everything in the format that the scraper accepts, and its content type."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self._registry), content_type


class _Readings(Collector):
    """Gauges and counters that others keep, read at each scrape."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters

    def collect(self) -> Iterator[Metric]:
        snapshot = self._meters.snapshot()
        yield from _health(snapshot)
        if snapshot is not None:
            yield from _stream(snapshot)
        yield from self._loop()
        yield from self._receivers()
        info = GaugeMetricFamily("dslmodel_build_info", "Version of the running program; always 1", labels=["version", "engine"])
        info.add_metric([self._meters.version, snapshot.engine if snapshot else ""], 1)
        yield info

    def _loop(self) -> Iterator[Metric]:
        stats = self._meters.runner()
        yield CounterMetricFamily("dslmodel_ticks", "Seconds that were ticked", value=stats.ticks)
        yield CounterMetricFamily("dslmodel_inputs", "Payloads, events and commands fed to the pipeline", value=stats.inputs)
        errors = CounterMetricFamily("dslmodel_errors", "Errors that the loop outlived", labels=["where"])
        for where in ("pipeline", "observer", "store", "recording"):
            errors.add_metric([where], getattr(stats, f"{where}_errors"))
        yield errors

    def _receivers(self) -> Iterator[Metric]:
        fill = self._meters.buffer()
        yield GaugeMetricFamily("dslmodel_queue_items", "Inputs that wait for the pipeline", value=fill.items)
        yield GaugeMetricFamily("dslmodel_queue_bytes", "Bytes that wait for the pipeline", value=fill.bytes)
        received = CounterMetricFamily("dslmodel_received", "What came in, by what became of it", labels=["transport", "signal", "result"])
        dropped = CounterMetricFamily("dslmodel_dropped", "Inputs that were not used, by why", labels=["signal", "reason"])
        drops: Counter[tuple[str, str]] = Counter()
        for transport, signal, result, count in self._meters.received():
            received.add_metric([transport, signal, result], count)
            if result not in {"requests", "bytes", "items"}:
                drops[signal, result] += count
        for signal, count in fill.dropped.items():
            drops[signal, "queue_full"] = max(drops[signal, "queue_full"], count)
        for (signal, reason), count in sorted(drops.items()):
            dropped.add_metric([signal, reason], count)
        yield received
        yield dropped
        forwarded = self._meters.forwarded()
        if forwarded:
            family = CounterMetricFamily("dslmodel_forwarded", "Requests passed on, by outcome", labels=["outcome"])
            for outcome, count in forwarded.items():
                family.add_metric([outcome], count)
            yield family


def _health(snapshot: Snapshot | None) -> Iterator[Metric]:
    score = math.nan if snapshot is None or snapshot.health.score is None else snapshot.health.score
    yield GaugeMetricFamily("dslmodel_health_score", "Health of the span stream from 0 to 1; NaN when nothing is known", value=score)
    trust = GaugeMetricFamily("dslmodel_telemetry_health", "1 for the state that the telemetry itself is in", labels=["state"])
    for state in ("good", "bad", "unknown"):
        trust.add_metric([state], float(state == (snapshot.telemetry_health.state if snapshot else "unknown")))
    yield trust


def _stream(snapshot: Snapshot) -> Iterator[Metric]:
    spans = CounterMetricFamily("dslmodel_spans", "Spans, by what became of them", labels=["result"])
    tally = snapshot.tally
    for result in ("accepted", "rejected", "windowed", "late", "own", "overflowed", "joins_missed"):
        spans.add_metric([result], getattr(tally, result))
    yield spans
    left_out = tally.attributes_left_out
    yield CounterMetricFamily("dslmodel_attributes_left_out", "Attributes of spans that were over the limit and not read", value=left_out)
    yield GaugeMetricFamily("dslmodel_last_tick_timestamp_seconds", "The second that was ticked last", value=snapshot.at / SECOND)
    yield GaugeMetricFamily("dslmodel_spans_per_second", "Spans a second over the window", value=snapshot.throughput_per_second)
    yield GaugeMetricFamily("dslmodel_services_learning", "Services whose baseline is not ready", value=len(snapshot.learning))
    yield GaugeMetricFamily("dslmodel_incidents_open", "Open incidents", value=len(snapshot.incidents))
    findings = GaugeMetricFamily("dslmodel_findings_open", "Open findings", labels=["pattern", "service"])
    for (pattern, service), count in Counter((f.pattern.value, f.service) for f in snapshot.patterns).items():
        findings.add_metric([pattern, service], count)
    yield findings
    ratios = GaugeMetricFamily("dslmodel_service_error_ratio", "Errors to requests over the window", labels=["service"])
    for service, ratio in snapshot.error_rates.items():
        ratios.add_metric([service], ratio)
    yield ratios
    agents = GaugeMetricFamily("dslmodel_agents", "Agents and work files of the coordination directory", labels=["state"])
    for state, count in snapshot.agents.items():
        agents.add_metric([state], count)
    yield agents
