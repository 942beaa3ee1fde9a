"""Records as a running daemon would hold them, for tests of what readers get."""

from dataclasses import replace

from dslmodel.clock import SECOND
from dslmodel.engine.runner import TickReport
from dslmodel.records import (
    Clause,
    Finding,
    FindingId,
    Health,
    HealthState,
    Incident,
    IncidentId,
    Pattern,
    RootCause,
    Snapshot,
    Tally,
    TelemetryHealth,
)

NOW = 1_800_000_000 * SECOND
CLAUSES = (
    Clause(name="error ratio", value=0.41, rule="> 0.05", holds=True),
    Clause(name="mode", value="shadow", rule="= live", holds=False),
)


def finding(name="f1a2b3c4d5e6", service="payments", **changes):
    """An open error spike."""
    spike = Finding(
        id=FindingId(name),
        at=NOW,
        pattern=Pattern.ERROR_SPIKE,
        service=service,
        operation="POST /pay",
        score=0.93,
        started_at=NOW - 2 * SECOND,
        updated_at=NOW,
        summary="41 % of 400 requests failed; 0.2 % is normal",
        clauses=CLAUSES,
        exemplars=("0af7651916cd43dd8448eb211c80319c",),
    )
    return replace(spike, **changes)


def incident(name="i9f8e7d6c5b4", findings=("f1a2b3c4d5e6",), **changes):
    """An open incident with one suspect."""
    opened = Incident(
        id=IncidentId(name),
        opened_at=NOW,
        resolved_at=None,
        root_causes=(RootCause(service="payments", score=0.8, clauses=CLAUSES), RootCause(service="database", score=0.2)),
        findings=tuple(map(FindingId, findings)),
        updated_at=NOW,
    )
    return replace(opened, **changes)


def snapshot(at=NOW, score=0.72, **changes):
    """A stream of two services, one of them in trouble."""
    full = Snapshot(
        at=at,
        health=Health(score=score, state=HealthState.HEALTHY if score is not None else HealthState.UNKNOWN, components={"error": 0.4}),
        telemetry_health=TelemetryHealth(state="good"),
        window_seconds=60.0,
        throughput_per_second=812.44,
        span_counts={"payments": {"POST /pay": 400}, "catalogue": {"GET /items": 48_000, "GET /items/{id}": 346}},
        error_rates={"payments": 0.41, "catalogue": 0.0},
        latency_ms={"payments": {"p50": 12.4, "p95": 210.0, "p99": 1500.5}},
        patterns=(finding(),),
        incidents=(incident(),),
        learning=("catalogue",),
        edges={"payments": ("database",)},
        tally=Tally(accepted=48_746, rejected=2, windowed=48_740, late=6, own=0, overflowed=0, joins_missed=1),
        log_errors={"payments": 3},
        agents={"active": 2, "stale": 0, "pending": 5, "claimed": 1, "completed": 9, "failed": 0},
        engine="reference",
    )
    return replace(full, **changes)


class Ticked:
    """What a tick gives."""

    def __init__(self, snapshot, findings=(), incidents=()):
        self.snapshot = snapshot
        self.findings = findings
        self.incidents = incidents


def report(at=NOW, findings=(), incidents=(), lag_seconds=0.0, **changes):
    """A tick as observers get it."""
    ticked = Ticked(snapshot(at, **changes), findings, incidents)
    return TickReport(at=at, ticked=ticked, inputs=3, duration_seconds=0.004, lag_seconds=lag_seconds)


class Records:
    """A store in memory."""

    def __init__(self, findings=(), incidents=()):
        self._findings = list(findings)
        self._incidents = list(incidents)

    def record(self, findings, incidents):
        changed = {f.id: f for f in findings}
        self._findings = [changed.pop(f.id, f) for f in self._findings] + list(changed.values())
        self._incidents += list(incidents)

    def findings(self, *, since=None, service=None, open_only=False, limit=None):
        return [
            f
            for f in self._findings
            if (since is None or f.at >= since) and service in {None, f.service} and not (open_only and f.resolved_at)
        ]

    def incidents(self, *, since=None, service=None, open_only=False, limit=None):
        return [i for i in self._incidents if (since is None or i.opened_at >= since) and not (open_only and i.resolved_at)]
