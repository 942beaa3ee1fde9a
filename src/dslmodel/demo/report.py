"""The report of a demonstration: what was done, what was found, and whether that is right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dslmodel.api.shapes import instant
from dslmodel.clock import SECOND
from dslmodel.demo.daemon import Seen
from dslmodel.demo.faults import Diagnosis, Fault, Verdict

FEATURE_NAME = "demo-8020"
_PHASES_BEFORE_FAULTS = 2  # the start, the baseline


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultResult:
    """One fault, from its start to the closing of what it raised."""

    fault: Fault
    began_at: int
    ended_at: int
    diagnosis: Diagnosis
    verdict: Verdict

    @property
    def seconds_to_finding(self) -> float | None:
        """From the start of the fault to the finding, by the daemon's own record."""
        return None if self.diagnosis.expected is None else seconds_between(self.began_at, self.diagnosis.expected.at)

    @property
    def seconds_to_close(self) -> float | None:
        """From the repair to the closing of the finding."""
        expected = self.diagnosis.expected
        return None if expected is None or expected.resolved_at is None else seconds_between(self.ended_at, expected.resolved_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole demonstration."""

    started_at: int
    ended_at: int
    startup_seconds: float
    baseline_seconds: float
    processes: int
    is_fast: bool
    services: Sequence[str]
    faults: Sequence[FaultResult]
    unprovoked: Sequence[Seen]  # raised while nothing was wrong
    load: Mapping[str, int] = field(default_factory=dict)
    spans: Mapping[str, int] = field(default_factory=dict)
    agents: Mapping[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every fault was seen, blamed on the right service and closed after its repair."""
        return all(result.verdict is Verdict.SEEN for result in self.faults)

    @property
    def problems(self) -> list[str]:
        """What went wrong, as sentences."""
        return [f"{result.fault.what}: {_WHY[result.verdict].format(result=result)}" for result in self.faults if result.verdict in _WHY]

    @property
    def remarks(self) -> list[str]:
        """What was raised besides, as sentences."""
        unrelated = [finding for result in self.faults for finding in result.diagnosis.unrelated]
        told = [f"{finding.pattern} on {finding.service} was raised, which the fault does not explain" for finding in unrelated]
        return told + [f"{finding.pattern} on {finding.service} was raised while nothing was wrong" for finding in self.unprovoked]

    def span_attributes(self) -> dict[str, str | int | bool]:
        """Attributes of the `swarmsh.e2e.complete_cycle` span."""
        return {
            "feature_name": FEATURE_NAME,
            "total_duration_ms": (self.ended_at - self.started_at) // 1_000_000,
            "automation_success": self.passed,
            "phases_completed": _PHASES_BEFORE_FAULTS + sum(result.verdict is Verdict.SEEN for result in self.faults),
        }

    def data(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "feature_name": FEATURE_NAME,
            "passed": self.passed,
            "fast": self.is_fast,
            "started_at": instant(self.started_at),
            "ended_at": instant(self.ended_at),
            "duration_seconds": seconds_between(self.started_at, self.ended_at),
            "startup_seconds": round(self.startup_seconds, 3),
            "baseline_seconds": round(self.baseline_seconds, 3),
            "processes": self.processes,
            "services": list(self.services),
            "faults": [_fault_data(result) for result in self.faults],
            "unprovoked": [_finding_data(finding) for finding in self.unprovoked],
            "load": dict(self.load),
            "spans": dict(self.spans),
            "agents": dict(self.agents),
        }


_WHY = {
    Verdict.UNSEEN: "no {result.fault.pattern.value} was raised for {result.fault.service} while it lasted",
    Verdict.MISATTRIBUTED: "the incident blames {result.diagnosis.blamed} and should blame {result.fault.service} first",
    Verdict.NOT_CLOSED: "a finding was still open when the wait after the repair was over",
}


def seconds_between(earlier: int, later: int) -> float:
    """Seconds between two instants, to the millisecond."""
    return round((later - earlier) / SECOND, 3)


def _fault_data(result: FaultResult) -> dict[str, Any]:
    diagnosis, fault = result.diagnosis, result.fault
    return {
        "name": fault.name,
        "what": fault.what,
        "service": fault.service,
        "expected_pattern": fault.pattern.value,
        "verdict": result.verdict.value,
        "began_at": instant(result.began_at),
        "ended_at": instant(result.ended_at),
        "seconds_to_finding": result.seconds_to_finding,
        "seconds_to_close": result.seconds_to_close,
        "finding": _finding_data(diagnosis.expected) if diagnosis.expected else None,
        "root_causes": list(diagnosis.blamed),
        "consequences": [_finding_data(finding) for finding in diagnosis.consequences],
        "unrelated": [_finding_data(finding) for finding in diagnosis.unrelated],
    }


def _finding_data(finding: Seen) -> dict[str, Any]:
    return {
        "id": finding.id,
        "at": instant(finding.at),
        "pattern": finding.pattern,
        "service": finding.service,
        "operation": finding.operation,
        "score": finding.score,
        "started_at": instant(finding.started_at),
        "resolved_at": instant(finding.resolved_at),
        "summary": finding.summary,
    }
