"""One tick, in order: the only place where stages meet.

payloads -> windows -> detect -> health -> snapshot
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from dslmodel.clock import SECOND
from dslmodel.detect.detection import Detection
from dslmodel.errors import ConfigurationError, IngestError
from dslmodel.health.score import Measures, score
from dslmodel.records import (
    Acceptance,
    Command,
    CoordinationEvent,
    Finding,
    Incident,
    Input,
    LogCount,
    MeasuredEdge,
    MeasuredWindow,
    Payload,
    ResourceSample,
    Signal,
    Snapshot,
    WindowBatch,
)
from dslmodel.settings import Settings
from dslmodel.windows.report import Metrics, Report


class Aggregator(Protocol):
    """The engine that counts spans (`windows.base`)."""

    @property
    def engine(self) -> str:
        """Its name."""
        ...

    def add(self, payload: Payload, received_at: int) -> Acceptance:
        """Count a traces payload."""
        ...

    def seal(self, now: int) -> WindowBatch:
        """What changed since the last seal."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """How payloads of metrics and logs are read; edges of the pipeline that `runtime` hands in."""

    resource_samples: Callable[[Payload], Sequence[ResourceSample]]
    log_counts: Callable[[Payload], Sequence[LogCount]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """The state after a tick, and only those findings and incidents that changed in it."""

    snapshot: Snapshot
    findings: Sequence[Finding]
    incidents: Sequence[Incident]


class Pipeline:
    """Feeds and ticks the stages. Single writer; never raises for data; reads no clock."""

    def __init__(self, *, aggregator: Aggregator, detection: Detection, readers: Readers, settings: Settings) -> None:
        self._aggregator = aggregator
        self._detection = detection
        self._readers = readers
        self._settings = settings
        self._report = Report()
        self._log_errors: dict[tuple[str, int], int] = {}
        self._marked: list[Finding] = []
        self.faults: dict[str, str] = {}

    def configure(self, settings: Settings) -> None:
        """Take settings that may change while running (the reported window, weights)."""
        self._settings = settings

    # ------------------------------------------------------------ in

    def feed(self, item: Input) -> Acceptance:
        """Take one input. What can't be used is counted as rejected with the reason."""
        if isinstance(item, Payload):
            return self._feed_payload(item)
        if isinstance(item, (MeasuredWindow, MeasuredEdge)):
            self._detection.measured.observe(item)
        elif isinstance(item, CoordinationEvent):
            self._detection.fleet.observe(item)
        else:
            self._obey(item)
        return Acceptance(accepted=1)

    def _feed_payload(self, payload: Payload) -> Acceptance:
        try:
            if payload.signal is Signal.TRACES:
                return self._aggregator.add(payload, payload.received_at)
            if payload.signal is Signal.METRICS:
                samples = self._readers.resource_samples(payload)
                self._detection.resources.observe(samples)
                return Acceptance(accepted=len(samples))
            counts = self._readers.log_counts(payload)
        except IngestError as error:
            return Acceptance(accepted=0, rejected=1, reason=str(error))
        for count in counts:
            if count.errors:
                place = (count.service, payload.received_at // SECOND)
                self._log_errors[place] = self._log_errors.get(place, 0) + count.errors
        return Acceptance(accepted=sum(count.records for count in counts))

    def _obey(self, command: Command) -> None:
        target, now = command.arguments.get("id") or "", command.received_at
        if command.name == "ack":
            marked = self._detection.tracker.acknowledge(target, now)
        elif command.name == "false_positive":
            marked = self._detection.reject(target, now)
        else:
            marked = None
            if command.name == "baseline_reset":
                self._detection.forget(command.arguments.get("service"))
        if marked is not None:
            self._marked.append(marked)

    # ------------------------------------------------------------ tick

    def tick(self, now: int) -> Tick:
        """Work out what is true at `now`, from everything fed before."""
        window = self._settings.telemetry.window_seconds
        batch = self._aggregator.seal(now)
        self._report.add(batch, window)
        changes = self._detection.tick(batch, now, self._marked)
        self._marked = []
        self.faults = dict(changes.faults)
        snapshot = self._snapshot(batch, self._report.metrics(window), now)
        return Tick(snapshot=snapshot, findings=tuple(changes.findings), incidents=tuple(changes.incidents))

    def _snapshot(self, batch: WindowBatch, metrics: Metrics, now: int) -> Snapshot:
        detection = self._detection
        open_findings = tuple(detection.tracker.open())
        telemetry_health = detection.telemetry_health(now)
        latency_ratio, throughput_ratio = detection.ratios(now)
        measures = Measures(
            has_data=metrics.requests > 0 or detection.has_windows(now),
            error_ratio=metrics.errors / metrics.requests if metrics.requests else None,
            latency_ratio=latency_ratio,
            throughput_ratio=throughput_ratio,
            finding_scores=[finding.score for finding in open_findings],
        )
        graph = detection.graph()
        return Snapshot(
            at=now,
            health=score(measures, self._settings.health.weights),
            telemetry_health=telemetry_health,
            window_seconds=metrics.window_seconds,
            throughput_per_second=round(metrics.throughput_per_second, 4),
            span_counts=metrics.span_counts,
            error_rates={service: round(rate, 6) for service, rate in metrics.error_rates.items()},
            latency_ms=metrics.latency_ms,
            patterns=open_findings,
            incidents=tuple(detection.incidents.open()),
            learning=detection.learning(),
            edges=_by_client(graph),
            tally=batch.tally,
            log_errors=self._errors_logged(now, metrics.window_seconds),
            agents=detection.fleet.counts(now),
            engine=self._aggregator.engine,
        )

    def _errors_logged(self, now: int, window_seconds: float) -> dict[str, int]:
        first = now // SECOND - round(window_seconds)
        for place in [p for p in self._log_errors if p[1] < first]:
            del self._log_errors[place]
        totals: dict[str, int] = {}
        for (service, _), errors in sorted(self._log_errors.items()):
            totals[service] = totals.get(service, 0) + errors
        return totals

    # ------------------------------------------------------------ what was found and learnt

    def findings(self) -> Sequence[Finding]:
        """Everything retained, oldest first."""
        return self._detection.tracker.all()

    def incidents(self) -> Sequence[Incident]:
        """Everything retained, oldest first."""
        return self._detection.incidents.all()

    def dump_baselines(self) -> bytes:
        """All that was learnt, as JSON."""
        return orjson.dumps(self._detection.dump(), option=orjson.OPT_SORT_KEYS)

    def load_baselines(self, data: bytes) -> None:
        """Take what `dump_baselines` gave. Raises ConfigurationError when it is something else."""
        try:
            self._detection.load(orjson.loads(data))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(f"these baselines can't be read ({error}): `dsl telemetry baseline reset` starts anew") from error

    def describe_baselines(self, service: str | None = None) -> list[dict[str, Any]]:
        """What is taken as normal, by service and operation."""
        return self._detection.describe(service)


def _by_client(graph: dict[str, frozenset[str]]) -> dict[str, tuple[str, ...]]:
    edges: dict[str, list[str]] = {}
    for server, clients in sorted(graph.items()):
        for client in clients:
            edges.setdefault(client, []).append(server)
    return {client: tuple(servers) for client, servers in sorted(edges.items())}
