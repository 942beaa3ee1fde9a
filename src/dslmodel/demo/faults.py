"""The faults of the demonstration, each with what a correct diagnosis is, and the verdict on what was found."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from dslmodel.demo.daemon import Seen, SeenIncident
from dslmodel.demo.system import System
from dslmodel.demo.topology import connected
from dslmodel.records import Pattern


class Verdict(StrEnum):
    """How well a fault was diagnosed."""

    SEEN = "seen"
    UNSEEN = "unseen"  # no finding of this pattern for this service
    MISATTRIBUTED = "misattributed"  # found, but the incident blames another service most
    NOT_CLOSED = "not_closed"  # found, but the finding stayed open after the repair


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to break the system for real. `begin` and `end` give the time from which they hold."""

    name: str
    what: str
    service: str
    pattern: Pattern
    begin: Callable[[System], int]
    end: Callable[[System], int]

    @property
    def scope(self) -> frozenset[str]:
        """The services that it can reach. What is raised elsewhere has nothing to do with it."""
        return connected(self.service)

    def is_shown_by(self, finding: Seen, blamed: Sequence[str]) -> bool:
        """Tell whether a finding is the expected one. A cascade may be reported for any service that it runs through: the blame decides."""
        if finding.pattern != self.pattern:
            return False
        if self.pattern is Pattern.CASCADE_FAILURE:
            return self.service in (finding.service, *blamed)
        return finding.service == self.service


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What the daemon made of one fault: the finding that shows it, whom it blames, and everything else that it raised."""

    expected: Seen | None
    blamed: Sequence[str] = ()
    consequences: Sequence[Seen] = ()  # of the same incident
    unrelated: Sequence[Seen] = ()

    @property
    def is_closed(self) -> bool:
        """Whether all that was raised has been closed."""
        return all(finding.resolved_at is not None for finding in self.raised)

    @property
    def raised(self) -> Sequence[Seen]:
        """Every finding that was raised."""
        return [*([self.expected] if self.expected else []), *self.consequences, *self.unrelated]


FAULTS = (
    Fault(
        name="errors",
        what="half of what cart is asked for fails",
        service="cart",
        pattern=Pattern.ERROR_SPIKE,
        begin=lambda system: system.fault("cart", error_ratio=0.5),
        end=lambda system: system.fault("cart"),
    ),
    Fault(
        name="latency",
        what="carriers takes 200 ms longer and its workers are busy",
        service="carriers",
        pattern=Pattern.LATENCY_INCREASE,
        begin=lambda system: system.fault("carriers", latency_ms=200.0),
        end=lambda system: system.fault("carriers"),
    ),
    Fault(
        name="death",
        what="the process of ledger is killed",
        service="ledger",
        pattern=Pattern.CASCADE_FAILURE,
        begin=lambda system: system.kill("ledger"),
        end=lambda system: system.restart("ledger"),
    ),
    Fault(
        name="silence",
        what="nobody asks reviews any more",
        service="reviews",
        pattern=Pattern.THROUGHPUT_DROP,
        begin=lambda system: system.stop_traffic("read"),
        end=lambda system: system.stop_traffic(),
    ),
)


def diagnose(fault: Fault, findings: Sequence[Seen], incidents: Sequence[SeenIncident]) -> Diagnosis:
    """Sort what was raised since a fault began into what shows it, what follows from it and what has nothing to do with it."""
    incident_of = {identity: incident for incident in incidents for identity in incident.findings}

    def blamed_for(finding: Seen) -> Sequence[str]:
        incident = incident_of.get(finding.id)
        return incident.root_causes if incident else ()

    expected = next((finding for finding in findings if fault.is_shown_by(finding, blamed_for(finding))), None)
    if expected is None:
        return Diagnosis(expected=None, unrelated=findings)
    related = set(incident_of[expected.id].findings) if expected.id in incident_of else set()
    others = [finding for finding in findings if finding is not expected]
    return Diagnosis(
        expected=expected,
        blamed=blamed_for(expected),
        consequences=[finding for finding in others if finding.id in related],
        unrelated=[finding for finding in others if finding.id not in related],
    )


def judge(fault: Fault, during: Diagnosis, *, is_closed: bool) -> Verdict:
    """Give the verdict on the diagnosis as it stood when the fault was ended, and on whether it closed afterwards."""
    if during.expected is None:
        return Verdict.UNSEEN
    if list(during.blamed[:1]) != [fault.service]:
        return Verdict.MISATTRIBUTED
    return Verdict.SEEN if is_closed else Verdict.NOT_CLOSED
