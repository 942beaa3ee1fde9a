"""The stage as one object: batches and windows in, changed findings and incidents out, once a tick."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from dslmodel.clock import SECOND
from dslmodel.detect import measured_blame, stream_blame
from dslmodel.detect.base import Blame, Detector, Judgement, Reading, View
from dslmodel.detect.fleet import Fleet
from dslmodel.detect.incidents import Incidents
from dslmodel.detect.measured import Measured
from dslmodel.detect.memory import describe, dump, load
from dslmodel.detect.resources import Resources
from dslmodel.detect.stream import Stream
from dslmodel.detect.stream_readings import StreamReadings
from dslmodel.detect.tracker import ACCEPTED_SECONDS, CLEAR_SECONDS, Tracker
from dslmodel.records import Exemplar, Finding, Incident, Pattern, TelemetryHealth, WindowBatch

_MAX_EXEMPLARS = 5
_EXEMPLAR_SECONDS = 3600
_MARGIN_SECONDS = 60  # around trouble, in which nothing is learnt as normal


class DetectionOptions(NamedTuple):
    """What detection is built with."""

    min_spans: int = 100
    min_seconds: float = 300.0
    settle_seconds: float = 6.0
    retention_hours: float = 168.0
    max_findings: int = 10_000


class Changes(NamedTuple):
    """What one tick changed."""

    findings: Sequence[Finding]
    incidents: Sequence[Incident]
    faults: Mapping[str, str]  # {detector: why it was skipped}


class Detection:
    """Owns baselines, open findings and incidents. One writer; takes `now`, reads no clock."""

    def __init__(self, detectors: Sequence[Detector], options: DetectionOptions, parse_time: Callable[[Any], int]) -> None:
        self._detectors = detectors
        self.stream = Stream(min_spans=options.min_spans, min_seconds=options.min_seconds, settle_seconds=options.settle_seconds)
        self._readings = StreamReadings(self.stream)
        self.measured = Measured()
        self.fleet = Fleet(parse_time)
        self.resources = Resources()
        # Who learns in seconds wants to see the end in seconds, too.
        clear_seconds = round(min(CLEAR_SECONDS, max(3.0, options.min_seconds / 5)))
        self.tracker = Tracker(retention_hours=options.retention_hours, max_findings=options.max_findings, clear_seconds=clear_seconds)
        self.incidents = Incidents(retention_hours=options.retention_hours, max_incidents=options.max_findings)
        self._exemplars: dict[str, list[Exemplar]] = {}
        self._trouble: dict[str, int] = {}  # service: last second at which it was in trouble
        self._accepted: dict[str, int] = {}  # service: second until which its trouble is learnt as normal

    def tick(self, batch: WindowBatch, now: int, marked: Sequence[Finding] = ()) -> Changes:
        """Judge what is known at `now`. `marked`: findings that people said something about since the last tick."""
        self.stream.observe(batch)
        self._keep_exemplars(batch.exemplars)
        open_findings = self.tracker.open()
        watched = {f.service for f in open_findings}
        from_windows = self.measured.read(now)
        readings = self._readings.read(now, watched) + from_windows
        graph = self.graph()
        faults: dict[str, str] = {}
        view = View(
            now=now,
            readings=readings,
            callers=graph,
            failing={f.service: f.started_at for f in open_findings if f.pattern is Pattern.ERROR_SPIKE},
            open=frozenset((f.pattern, f.service) for f in open_findings),
            agents=self.fleet.agents(),
            usages=self.resources.usages(),
        )
        changed = [*marked, *self.tracker.update(self._judge(view, faults), self._exemplar_ids(), now)]
        blames: list[Blame] = []
        if changed or open_findings or readings:
            blames = [*stream_blame.blame(self.stream, now, readings), *measured_blame.blame(self.measured, now, from_windows)]
        incidents = self.incidents.update(changed, self.tracker.going_on(), (blames, readings), graph, now)
        self._note_trouble(now // SECOND, readings)
        self.stream.learn(now, self._is_clean)
        self._readings.learn(now, self._is_clean)
        self.measured.learn(now, self._is_clean)
        self.resources.learn(now, self._is_clean)
        if now // SECOND % 600 == 0:
            self._forget_exemplars(now // SECOND)
        return Changes(changed, incidents, faults)

    def _judge(self, view: View, faults: dict[str, str]) -> list[Judgement]:
        judgements: list[Judgement] = []
        for detector in self._detectors:
            try:
                judgements += detector.inspect(view)
            except Exception as error:  # noqa: BLE001  # one faulty detector must not blind the others
                faults[detector.pattern] = f"{type(error).__name__}: {error}"
        return judgements

    def _note_trouble(self, second: int, readings: Sequence[Reading]) -> None:
        for finding in self.tracker.open():
            self._trouble[finding.service] = second
        for service in [name for name, until in self._accepted.items() if until <= second]:
            del self._accepted[service]
        for reading in readings:
            if reading.z is not None and reading.z >= reading.limit:
                self._trouble[reading.subject.service] = second
        if second % 600 == 0:
            self._trouble = {s: at for s, at in self._trouble.items() if at > second - 3600}

    def _is_clean(self, service: str, second: int) -> bool:
        """Nothing was wrong with the service from a minute before `second` until now, or people said that it was nothing."""
        if service in self._accepted:
            return True
        return self._trouble.get(service, -_MARGIN_SECONDS) < second - _MARGIN_SECONDS

    # ------------------------------------------------------------ what people say

    def reject(self, finding_id: str, now: int) -> Finding | None:
        """A false positive: close the finding and learn its service's data of the next hour as normal. None when unknown."""
        marked = self.tracker.reject(finding_id, now)
        if marked is not None:
            self._accepted[marked.service] = now // SECOND + ACCEPTED_SECONDS
        return marked

    def forget(self, service: str | None) -> None:
        """Unlearn what is normal for a service, or for all."""
        self.stream.forget_service(service)
        self._readings.forget_service(service)
        self.measured.forget_service(service)

    # ------------------------------------------------------------ for readers

    def graph(self) -> dict[str, frozenset[str]]:
        """{service: services that call it}."""
        merged: dict[str, set[str]] = {server: set(clients) for server, clients in self.stream.callers.items()}
        for server, clients in self.measured.callers.items():
            merged.setdefault(server, set()).update(clients)
        return {server: frozenset(clients) for server, clients in merged.items()}

    def learning(self) -> tuple[str, ...]:
        """Services whose baseline is not ready."""
        return self._readings.learning()

    def ratios(self, now: int) -> tuple[float | None, float | None]:
        """(normal / actual latency, actual / normal throughput) over all requests of services with a baseline; None = not known."""
        return self._readings.ratios(now)

    def has_windows(self, now: int) -> bool:
        """Windows of others are still coming."""
        return any(latest.at > now - round(3 * latest.width_seconds * SECOND) for latest in self.measured.latest.values())

    def describe(self, service: str | None) -> list[dict[str, Any]]:
        """What is taken as normal, for people."""
        return describe(self.stream, self.measured, self.learning(), service)

    def telemetry_health(self, now: int) -> TelemetryHealth:
        """Whether the data can be trusted."""
        return self.stream.arrivals.health(now)

    def _keep_exemplars(self, exemplars: Sequence[Exemplar]) -> None:
        for exemplar in exemplars:
            kept = self._exemplars.setdefault(exemplar.key.service, [])
            kept.append(exemplar)
            if len(kept) > 4 * _MAX_EXEMPLARS:
                kept.sort(key=lambda e: (e.is_error, e.second, e.duration_ms))
                del kept[: 2 * _MAX_EXEMPLARS]

    def _forget_exemplars(self, second: int) -> None:
        oldest = second - _EXEMPLAR_SECONDS
        self._exemplars = {service: kept for service, kept in self._exemplars.items() if any(e.second > oldest for e in kept)}

    def _exemplar_ids(self) -> dict[str, tuple[str, ...]]:
        return {
            service: tuple(e.trace_id for e in sorted(kept, key=lambda e: (not e.is_error, -e.second, -e.duration_ms))[:_MAX_EXEMPLARS])
            for service, kept in self._exemplars.items()
        }

    def dump(self) -> dict[str, Any]:
        """Baselines, for JSON."""
        return dump(self.stream, self.measured)

    def load(self, document: Mapping[str, Any]) -> None:
        """Baselines from `dump`."""
        load(document, self.stream, self.measured)
