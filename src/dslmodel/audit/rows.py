"""Findings and incidents as rows and back, exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from dslmodel.records import Clause, Finding, FindingId, Incident, IncidentId, Pattern, RootCause


def finding_row(finding: Finding) -> dict[str, Any]:
    """A row of `findings`."""
    return {
        "id": _text(finding.id),
        "at": finding.at,
        "pattern": finding.pattern.value,
        "service": _text(finding.service),
        "operation": None if finding.operation is None else _text(finding.operation),
        "score": finding.score,
        "started_at": finding.started_at,
        "resolved_at": finding.resolved_at,
        "updated_at": finding.updated_at,
        "is_flapping": finding.is_flapping,
        "acknowledged_at": finding.acknowledged_at,
        "false_positive_at": finding.false_positive_at,
        "summary": _text(finding.summary),
        "clauses": [asdict(clause) for clause in finding.clauses],
        "exemplars": list(finding.exemplars),
    }


def finding_of(row: Mapping[str, Any]) -> Finding:
    """The finding that a row holds."""
    values = dict(row)
    values["id"] = FindingId(values["id"])
    values["pattern"] = Pattern(values["pattern"])
    values["clauses"] = _clauses(values["clauses"])
    values["exemplars"] = tuple(values["exemplars"])
    return Finding(**values)


def incident_row(incident: Incident) -> dict[str, Any]:
    """A row of `incidents`."""
    return {
        "id": _text(incident.id),
        "opened_at": incident.opened_at,
        "resolved_at": incident.resolved_at,
        "root_causes": [asdict(cause) for cause in incident.root_causes],
        "findings": list(incident.findings),
        "updated_at": incident.updated_at,
        "is_false_positive": incident.is_false_positive,
    }


def incident_of(row: Mapping[str, Any]) -> Incident:
    """The incident that a row holds."""
    values = dict(row)
    values["id"] = IncidentId(values["id"])
    values["root_causes"] = tuple(
        RootCause(service=cause["service"], score=cause["score"], clauses=_clauses(cause["clauses"])) for cause in values["root_causes"]
    )
    values["findings"] = tuple(FindingId(name) for name in values["findings"])
    return Incident(**values)


def _clauses(documents: Sequence[Mapping[str, Any]]) -> tuple[Clause, ...]:
    return tuple(Clause(**document) for document in documents)


def _text(value: str) -> str:
    """Text as SQLite can keep it: half of a surrogate pair, which only broken JSON brings, becomes a question mark."""
    return value.encode("utf-8", "replace").decode("utf-8")
