"""Ranks the services of an incident by how much of the trouble arose in them.

Each family of trouble (errors, time, missing calls, requests that don't come) is shared out among the services in which it arose
(`Blame`); a family weighs as much as the most convincing reading of it. Requests that don't come are what callers cause, so they
count little beside anything else.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from dslmodel.detect.base import Blame, Family, Reading, strength
from dslmodel.records import Clause, RootCause

_WEIGHTS = {Family.ERRORS: 1.0, Family.TIME: 1.0, Family.MISSING: 0.8, Family.RATE: 0.05}
_TOUCHED = 0.02  # for a service with convincing readings but no blame
_LISTED = 10
_CONVINCING = 0.5  # strength at the limit
_EXPLAINED = 0.2
_FAMILY_OF_PREFIX = (("error", Family.ERRORS), ("follows", Family.MISSING), ("throughput", Family.RATE))


@dataclass(slots=True)
class Evidence:
    """What an incident has gathered: amounts add up over its life, strengths are the greatest seen."""

    amounts: dict[tuple[Family, str], float] = field(default_factory=dict)
    notes: dict[tuple[Family, str], str] = field(default_factory=dict)
    strengths: dict[Family, float] = field(default_factory=dict)
    touched: dict[str, float] = field(default_factory=dict)

    def add(self, blames: Iterable[Blame], readings: Iterable[Reading], services: AbstractSet[str]) -> None:
        """Take one tick's blames and readings of the services near the incident."""
        for blame in blames:
            if blame.service in services:
                place = (blame.family, blame.service)
                self.amounts[place] = self.amounts.get(place, 0.0) + blame.amount
                self.notes[place] = blame.note
        for reading in readings:
            if reading.subject.service in services and reading.z is not None and reading.shift > 0:
                force = strength(reading.z, reading.limit)
                family = family_of(reading.signal)
                self.strengths[family] = max(self.strengths.get(family, 0.0), force)
                self.touched[reading.subject.service] = max(self.touched.get(reading.subject.service, 0.0), force)


def family_of(signal: str) -> Family:
    """The family that a signal's readings speak for."""
    return next((family for prefix, family in _FAMILY_OF_PREFIX if signal.startswith(prefix)), Family.TIME)


def rank(evidence: Evidence, graph: Mapping[str, frozenset[str]]) -> tuple[RootCause, ...]:
    """Root causes, best first. Ties go to the service deeper in the call graph (fewest callees), then by name."""
    amounts = {
        (family, service): _explained(family, service, amount, evidence, graph) for (family, service), amount in evidence.amounts.items()
    }
    totals: dict[Family, float] = {}
    for (family, _), amount in amounts.items():
        totals[family] = totals.get(family, 0.0) + amount
    scores: dict[str, float] = {service: _TOUCHED * force for service, force in evidence.touched.items()}
    clauses: dict[str, list[Clause]] = {}
    weights = {family: _WEIGHTS[family] * evidence.strengths.get(family, 0.1) for family in totals}
    whole = sum(weights.values()) or 1.0
    for (family, service), amount in sorted(amounts.items(), key=lambda item: -item[1]):
        share = amount / totals[family] if totals[family] > 0 else 0.0
        scores[service] = scores.get(service, 0.0) + weights[family] / whole * share
        note = evidence.notes[family, service]
        clauses.setdefault(service, []).append(
            Clause(name=f"{family} that arose here", value=round(float(share), 4), rule=f"share of the incident's ({note})", holds=True)
        )
    callees = {service: sum(service in clients for clients in graph.values()) for service in scores}
    best: Sequence[str] = sorted(scores, key=lambda s: (-round(scores[s], 6), callees[s], s))[:_LISTED]
    return tuple(RootCause(service=s, score=round(min(1.0, float(scores[s])), 4), clauses=tuple(clauses.get(s, ()))) for s in best)


def _explained(family: Family, service: str, amount: float, evidence: Evidence, graph: Mapping[str, frozenset[str]]) -> float:
    """A request that failed, or hung, at one callee does not go on to the next: then the missing call is not the caller's doing."""
    if family is not Family.MISSING:
        return amount
    suffers = any(
        service in graph.get(callee, frozenset()) and callee != service and evidence.touched.get(callee, 0.0) >= _CONVINCING
        for kind, callee in evidence.amounts
        if kind in (Family.ERRORS, Family.TIME)
    )
    return amount * (_EXPLAINED if suffers else 1.0)
