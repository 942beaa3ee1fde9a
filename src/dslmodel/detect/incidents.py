"""Findings that the call graph and time connect -> incidents with ranked root causes."""

import hashlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from dslmodel.clock import SECOND
from dslmodel.detect.base import Blame, Reading
from dslmodel.detect.root_cause import Evidence, rank
from dslmodel.records import Finding, FindingId, Incident, IncidentId, RootCause

Graph = Mapping[str, frozenset[str]]  # {service: services that call it}
Seen = tuple[Sequence[Blame], Sequence[Reading]]  # what one tick brought

_REACH = 2  # calls between two services of one incident: one silent service between them does not break the chain
_TOGETHER_SECONDS = 900
_MEMORY_SECONDS = 120  # what arose this long before the first finding belongs to the incident too
_NOTEWORTHY = 0.02


@dataclass(slots=True)
class _Open:
    id: IncidentId
    opened_at: int
    findings: dict[FindingId, Finding]
    services: set[str] = field(default_factory=set)
    evidence: Evidence = field(default_factory=Evidence)
    last_at: int = 0
    root_causes: Sequence[RootCause] = ()


class Incidents:
    """Groups findings. Level-triggered: membership and ranking follow from what is open and from the graph as known now."""

    def __init__(self, *, retention_hours: float, max_incidents: int) -> None:
        self._retention = round(retention_hours * 3600 * SECOND)
        self._max = max_incidents
        self._open: list[_Open] = []
        self._kept: dict[IncidentId, Incident] = {}
        self._recent: deque[tuple[int, Sequence[Blame], Sequence[Reading]]] = deque()

    def update(
        self, findings: Iterable[Finding], going_on: AbstractSet[FindingId], evidence: Seen, graph: Graph, now: int
    ) -> list[Incident]:
        """Incidents that changed. `findings`: those that changed in this tick; `going_on`: open ones that aren't clearing."""
        blames, readings = evidence
        self._recent.append((now, blames, readings))
        while self._recent and self._recent[0][0] < now - _MEMORY_SECONDS * SECOND:
            self._recent.popleft()
        changed: dict[IncidentId, Incident] = {}
        touched: set[IncidentId] = set()
        for finding in findings:
            incident = self._place(finding, going_on, graph, now)
            if incident is not None:
                touched.add(incident.id)
        for incident in self._open:
            incident.evidence.add(blames, readings, _near(incident.services, graph))
            ranking = rank(incident.evidence, graph)
            if incident.id in touched or _differs(ranking, incident.root_causes):
                incident.root_causes = ranking
                changed[incident.id] = self._record(incident, now)
        for incident in [i for i in self._open if all(f.resolved_at is not None for f in i.findings.values())]:
            self._open.remove(incident)
            changed[incident.id] = self._record(incident, now, resolved=True)
        if now // SECOND % 60 == 0:
            self._prune(now)
        return list(changed.values())

    def _place(self, finding: Finding, going_on: AbstractSet[FindingId], graph: Graph, now: int) -> _Open | None:
        """The incident that a changed finding belongs to: its own, the oldest that it is connected with, or a new one."""
        for incident in self._open:
            if finding.id in incident.findings:
                incident.findings[finding.id] = finding
                return incident
        if finding.resolved_at is not None:
            return None
        for incident in self._open:
            # What begins elsewhere while an incident is only clearing is not part of it.
            is_live = finding.service in incident.services or not going_on.isdisjoint(incident.findings)
            is_near = finding.service in _near(incident.services, graph)
            if is_live and is_near and finding.at - incident.last_at <= _TOGETHER_SECONDS * SECOND:
                break
        else:
            incident = _Open(id=_incident_id(finding), opened_at=finding.at, findings={})
            self._open.append(incident)
            incident.services.add(finding.service)
            for at, blames, readings in self._recent:
                if at < now:
                    incident.evidence.add(blames, readings, _near(incident.services, graph))
        incident.findings[finding.id] = finding
        incident.services.add(finding.service)
        incident.last_at = finding.at
        return incident

    def _record(self, incident: _Open, now: int, *, resolved: bool = False) -> Incident:
        members = list(incident.findings.values())
        record = Incident(
            id=incident.id,
            opened_at=incident.opened_at,
            resolved_at=now if resolved else None,
            root_causes=tuple(incident.root_causes),
            findings=tuple(incident.findings),
            updated_at=now,
            is_false_positive=all(f.false_positive_at is not None for f in members),
        )
        self._kept[incident.id] = record
        return record

    def _prune(self, now: int) -> None:
        resolved = [i for i in self._kept.values() if i.resolved_at is not None]
        old = {i.id for i in resolved if i.resolved_at is not None and i.resolved_at < now - self._retention}
        for incident in old | {i.id for i in resolved[: max(0, len(self._kept) - self._max)]}:
            del self._kept[incident]

    def services(self) -> set[str]:
        """Services of open incidents."""
        return {service for incident in self._open for service in incident.services}

    def all(self) -> list[Incident]:
        """Everything retained, oldest first."""
        return list(self._kept.values())

    def open(self) -> list[Incident]:
        """Open incidents, oldest first."""
        return [self._kept[incident.id] for incident in self._open if incident.id in self._kept]


def _near(services: set[str], graph: Graph) -> set[str]:
    """`services` and everything within two calls of them, in either direction."""
    reached = set(services)
    edge = set(services)
    for _ in range(_REACH):
        further = {client for name in edge for client in graph.get(name, frozenset())}
        further |= {server for server, clients in graph.items() if clients & edge}
        edge = further - reached
        reached |= edge
    return reached


def _differs(new: Sequence[RootCause], old: Sequence[RootCause]) -> bool:
    if [cause.service for cause in new] != [cause.service for cause in old]:
        return True
    return any(abs(a.score - b.score) > _NOTEWORTHY for a, b in zip(new, old, strict=True))


def _incident_id(finding: Finding) -> IncidentId:
    return IncidentId("i-" + hashlib.sha256(f"incident\0{finding.id}".encode()).hexdigest()[:12])
