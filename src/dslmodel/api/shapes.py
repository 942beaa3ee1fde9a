"""Records as plain JSON values: one shape for the API, the command line, the snapshot file and replay.

Times become RFC 3339 UTC text; numbers that JSON can't hold (NaN, infinities) become null.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from dslmodel.clock import SECOND
from dslmodel.records import Clause, Finding, Health, HealthState, Incident, RootCause, Snapshot, Tally

Shape = dict[str, Any]

# Nothing acts on anything yet, so these are facts and not placeholders.
REMEDIATION_OFF: Shape = {"enabled": False, "mode": "off", "active_remediations": 0, "total_remediations": 0, "success_rate": None}
SECURITY_NONE: Shape = {"total_events": 0}


def instant(at: int | None) -> str | None:
    """Nanoseconds since the epoch as RFC 3339 in UTC; the fraction appears only when there is one (exact, up to 9 digits)."""
    if at is None:
        return None
    seconds, nanos = divmod(at, SECOND)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return f"{text}{fraction}Z"


def number(value: float | None, digits: int = 6) -> float | None:
    """A JSON number: rounded, None for what is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), digits)


def clause_shape(clause: Clause) -> Shape:
    """One condition with its value."""
    value = clause.value if isinstance(clause.value, str) else number(clause.value)
    return {"name": clause.name, "value": value, "rule": clause.rule, "holds": clause.holds}


def finding_shape(finding: Finding) -> Shape:
    """A finding as lists show it."""
    return {
        "id": finding.id,
        "at": instant(finding.at),
        "pattern": finding.pattern.value,
        "service": finding.service,
        "operation": finding.operation,
        "score": number(finding.score),
        "started_at": instant(finding.started_at),
        "resolved_at": instant(finding.resolved_at),
        "is_flapping": finding.is_flapping,
        "acknowledged_at": instant(finding.acknowledged_at),
        "false_positive_at": instant(finding.false_positive_at),
        "summary": finding.summary,
        "exemplars": list(finding.exemplars),
    }


def finding_detail(finding: Finding) -> Shape:
    """A finding with every clause, for `explain`."""
    clauses = [clause_shape(clause) for clause in finding.clauses]
    return {**finding_shape(finding), "updated_at": instant(finding.updated_at or None), "clauses": clauses}


def root_cause_shape(cause: RootCause) -> Shape:
    """A suspect and how much speaks for it."""
    return {"service": cause.service, "score": number(cause.score)}


def incident_shape(incident: Incident) -> Shape:
    """An incident as lists show it; its findings by id."""
    return {
        "id": incident.id,
        "opened_at": instant(incident.opened_at),
        "resolved_at": instant(incident.resolved_at),
        "root_causes": [root_cause_shape(cause) for cause in incident.root_causes],
        "findings": list(incident.findings),
        "is_false_positive": incident.is_false_positive,
    }


def incident_detail(incident: Incident, findings: Mapping[str, Finding]) -> Shape:
    """An incident with what speaks for each suspect and with its findings, for `explain`."""
    return {
        **incident_shape(incident),
        "root_causes": [{**root_cause_shape(c), "clauses": [clause_shape(clause) for clause in c.clauses]} for c in incident.root_causes],
        "findings": [finding_detail(findings[i]) if i in findings else {"id": i} for i in incident.findings],
    }


def replay_shape(findings: Sequence[Finding], incidents: Sequence[Incident]) -> Shape:
    """What a replay prints. Incidents name their findings by index in the list beside them."""
    index = {finding.id: i for i, finding in enumerate(findings)}
    return {
        "findings": [
            {key: shape[key] for key in ("id", "at", "pattern", "service", "operation", "score", "started_at", "resolved_at")}
            for shape in map(finding_shape, findings)
        ],
        "incidents": [
            {
                "id": incident.id,
                "opened_at": instant(incident.opened_at),
                "resolved_at": instant(incident.resolved_at),
                "root_causes": [root_cause_shape(cause) for cause in incident.root_causes],
                "findings": [index[i] for i in incident.findings if i in index],
            }
            for incident in incidents
        ],
        "decisions": [],
        "plans": [],
    }


def health_shape(health: Health) -> Shape:
    """Health and its parts. An unknown score is null."""
    score = number(health.score)
    return {
        "health_score": score,
        "health_state": health.state.value if score is not None else HealthState.UNKNOWN.value,
        "components": {name: number(value) for name, value in health.components.items()},
    }


def tally_shape(tally: Tally) -> dict[str, int]:
    """Where the spans went."""
    return {
        "accepted": tally.accepted,
        "rejected": tally.rejected,
        "windowed": tally.windowed,
        "late": tally.late,
        "own": tally.own,
        "overflowed": tally.overflowed,
        "joins_missed": tally.joins_missed,
        "attributes_left_out": tally.attributes_left_out,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What status says besides the snapshot: the process around the pipeline."""

    processing: bool = False
    receivers: Sequence[Mapping[str, Any]] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)  # by signal, at the receivers
    problems: Sequence[str] = ()  # of the process: full disk, a stepped clock


def telemetry_shape(snapshot: Snapshot | None, around: Surroundings) -> Shape:
    """`.data.telemetry` of status. Ages are the reader's business: they depend on when it reads."""
    if snapshot is None:
        return _nothing_known(around)
    problems = [*snapshot.telemetry_health.problems, *around.problems]
    state = "bad" if around.problems else snapshot.telemetry_health.state
    return {
        **health_shape(snapshot.health),
        "processing": around.processing,
        "at": instant(snapshot.at),
        "engine": snapshot.engine,
        "window_seconds": number(snapshot.window_seconds),
        "throughput_per_second": number(snapshot.throughput_per_second, 3),
        "span_counts": {service: dict(counts) for service, counts in snapshot.span_counts.items()},
        "error_rates": {service: number(rate) for service, rate in snapshot.error_rates.items()},
        "latency_ms": {service: _numbers(quantiles) for service, quantiles in snapshot.latency_ms.items()},
        "patterns": [finding_shape(finding) for finding in snapshot.patterns],
        "incidents": [incident_shape(incident) for incident in snapshot.incidents],
        "learning": list(snapshot.learning),
        "edges": {client: list(servers) for client, servers in snapshot.edges.items()},
        "telemetry_health": {"state": state, "problems": problems},
        "log_errors": dict(snapshot.log_errors),
        "agents": dict(snapshot.agents),
        "spans": tally_shape(snapshot.tally),
        "dropped": dict(around.dropped),
        "receivers": [dict(receiver) for receiver in around.receivers],
    }


def _nothing_known(around: Surroundings) -> Shape:
    return {
        "health_score": None,
        "health_state": HealthState.UNKNOWN.value,
        "components": {},
        "processing": around.processing,
        "at": None,
        "engine": None,
        "window_seconds": None,
        "throughput_per_second": 0.0,
        "span_counts": {},
        "error_rates": {},
        "latency_ms": {},
        "patterns": [],
        "incidents": [],
        "learning": [],
        "edges": {},
        "telemetry_health": {"state": "unknown", "problems": list(around.problems)},
        "log_errors": {},
        "agents": {},
        "spans": {},
        "dropped": dict(around.dropped),
        "receivers": [dict(receiver) for receiver in around.receivers],
    }


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: number(value, 3) for name, value in values.items()}


def clean(value: Any) -> Any:
    """Any plain value with non-finite numbers replaced by None, so that what is printed is always valid JSON."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): clean(item) for key, item in value.items()}
    if isinstance(value, str) or not isinstance(value, Iterable):
        return value
    return [clean(item) for item in value]
