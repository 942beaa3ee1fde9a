"""What was found, as readers ask for it: lists, one record by the beginning of its id, explanations."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from dslmodel.api.shapes import Shape, finding_detail, finding_shape, incident_detail, incident_shape
from dslmodel.clock import SECOND
from dslmodel.errors import DslModelError
from dslmodel.records import Finding, Incident

Hit = TypeVar("Hit", Finding, Incident, Finding | Incident)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SHORTEST_PREFIX = 4
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Records(Protocol):
    """The store, as far as it is read here."""

    def findings(
        self, *, since: int | None = None, service: str | None = None, open_only: bool = False, limit: int | None = None
    ) -> Sequence[Finding]:
        """Findings, oldest first."""
        ...

    def incidents(
        self, *, since: int | None = None, service: str | None = None, open_only: bool = False, limit: int | None = None
    ) -> Sequence[Incident]:
        """Incidents, oldest first."""
        ...


class NotFound(DslModelError):
    """No record has this id, or several do."""


def parse_since(text: str, now: int) -> int:
    """`1h`, `90m`, `7d` ago, or an RFC 3339 time, as nanoseconds since the epoch.

    Raises:
        ValueError: It is neither.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip())
    if match:
        return now - round(float(match[1]) * _UNITS[match[2]] * SECOND)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is neither a length of time (30m, 1h, 7d) nor an RFC 3339 time (2026-01-31T12:00:00Z)") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since_epoch = moment - _EPOCH
    return (since_epoch.days * 86_400 + since_epoch.seconds) * SECOND + since_epoch.microseconds * 1000


def finding_by(records: Records, prefix: str) -> Finding:
    """The finding whose id begins with `prefix`.

    Raises:
        NotFound: None does, or several do.
    """
    return _one([f for f in records.findings() if f.id.startswith(prefix)], prefix, "finding")


def list_findings(records: Records, since: int | None, service: str | None, *, open_only: bool) -> list[Shape]:
    """Findings, newest last."""
    return [finding_shape(finding) for finding in records.findings(since=since, service=service, open_only=open_only)]


def list_incidents(records: Records, since: int | None, service: str | None, *, open_only: bool) -> list[Shape]:
    """Incidents, newest last."""
    return [incident_shape(incident) for incident in records.incidents(since=since, service=service, open_only=open_only)]


def explain(records: Records, prefix: str) -> Shape:
    """Why a finding or an incident is there: every clause with its values.

    Raises:
        NotFound: No id begins so, or several do.
    """
    findings: dict[str, Finding] = {finding.id: finding for finding in records.findings()}
    incidents = records.incidents()
    hits: list[Finding | Incident] = [f for f in findings.values() if f.id.startswith(prefix)]
    hits += [i for i in incidents if i.id.startswith(prefix)]
    hit = _one(hits, prefix, "finding or incident")
    if isinstance(hit, Incident):
        return {"kind": "incident", "finding": None, "incident": incident_detail(hit, findings)}
    incident = next((i for i in reversed(incidents) if hit.id in i.findings), None)
    return {"kind": "finding", "finding": finding_detail(hit), "incident": incident and incident_detail(incident, findings)}


def _one(hits: Sequence[Hit], prefix: str, what: str) -> Hit:
    exact = [hit for hit in hits if hit.id == prefix]
    if exact:
        return exact[0]
    if not hits or len(prefix) < _SHORTEST_PREFIX:
        short = f" (at least {_SHORTEST_PREFIX} characters)" if len(prefix) < _SHORTEST_PREFIX else ""
        raise NotFound(f"no {what} has an id that begins with {prefix!r}{short}. List them: `dsl telemetry findings`")
    if len(hits) > 1:
        raise NotFound(f"{len(hits)} ids begin with {prefix!r}: {', '.join(hit.id for hit in hits[:5])}. Give more characters")
    return hits[0]
