"""Findings and reports as the demonstration's tests need them."""

from collections.abc import Sequence
from dataclasses import replace

from dslmodel.clock import SECOND
from dslmodel.demo.daemon import Seen, SeenIncident
from dslmodel.demo.faults import FAULTS, Diagnosis, Fault, Verdict
from dslmodel.demo.report import FaultResult, Report
from dslmodel.demo.topology import SERVICES

START = 1_700_000_000 * SECOND


def seen(pattern: str, service: str, *, at: int = START, resolved_at: int | None = None) -> Seen:
    return Seen(
        id=f"{pattern}:{service}",
        at=at,
        pattern=pattern,
        service=service,
        operation=None,
        score=0.9,
        started_at=at,
        resolved_at=resolved_at,
        summary="<summary> & more",
    )


def incident(findings: Sequence[Seen], *root_causes: str) -> SeenIncident:
    return SeenIncident(findings=[finding.id for finding in findings], root_causes=root_causes, resolved_at=None)


def fault_called(name: str) -> Fault:
    return next(fault for fault in FAULTS if fault.name == name)


def result(name: str, verdict: Verdict = Verdict.SEEN) -> FaultResult:
    fault = fault_called(name)
    began_at = START + 20 * SECOND
    expected = seen(fault.pattern.value, fault.service, at=began_at + 2 * SECOND, resolved_at=began_at + 12 * SECOND)
    return FaultResult(
        fault=fault,
        began_at=began_at,
        ended_at=began_at + 6 * SECOND,
        diagnosis=Diagnosis(
            expected=None if verdict is Verdict.UNSEEN else expected,
            blamed=["<storefront>"] if verdict is Verdict.MISATTRIBUTED else [fault.service],
            consequences=[] if verdict is Verdict.UNSEEN else [replace(expected, id="other", service="storefront", resolved_at=None)],
        ),
        verdict=verdict,
    )


def report(*results: FaultResult, unprovoked: Sequence[Seen] = ()) -> Report:
    return Report(
        started_at=START,
        ended_at=START + 60 * SECOND,
        startup_seconds=3.0,
        baseline_seconds=12.0,
        processes=14,
        is_fast=True,
        services=list(SERVICES),
        faults=results or [result(fault.name) for fault in FAULTS],
        unprovoked=unprovoked,
        load={"browse.sent": 10},
        spans={"accepted": 1234},
        agents={"active": 3},
    )
