"""Readings, judgements and findings as the tests of detection need them. Seconds count from START."""

from dslmodel.clock import SECOND
from dslmodel.detect.base import Blame, Family, Judgement, Reading, Subject
from dslmodel.records import Finding, FindingId, Pattern
from dslmodel.testing import at

__all__ = ["SECOND", "at", "blame", "finding", "judgement", "reading"]


def judgement(service: str = "web", *, fires: bool = True, holds: bool | None = None, **fields) -> Judgement:
    known = {
        "pattern": Pattern.ERROR_SPIKE,
        "operation": None,
        "score": 0.7,
        "started_at": at(0),
        "window_seconds": 10.0,
        "summary": f"{service} is bad",
        "clauses": (),
    }
    return Judgement(service=service, fires=fires, holds=fires if holds is None else holds, **(known | fields))


def finding(service: str, second: float, *, pattern: Pattern = Pattern.ERROR_SPIKE, resolved: float | None = None) -> Finding:
    return Finding(
        id=FindingId(f"f-{service}-{second:g}-{pattern}"),
        at=at(second),
        pattern=pattern,
        service=service,
        operation=None,
        score=0.7,
        started_at=at(second - 2),
        resolved_at=None if resolved is None else at(resolved),
    )


def blame(service: str, family: Family = Family.ERRORS, amount: float = 1.0) -> Blame:
    return Blame(service=service, family=family, amount=amount, note="test")


def reading(service: str, signal: str = "error_ratio", *, client: str = "", operation: str = "", **fields) -> Reading:
    known = {
        "value": 0.9,
        "normal": 0.01,
        "shift": 0.89,
        "z": 20.0,
        "limit": 6.4,
        "count": 50.0,
        "at": at(100),
        "window_seconds": 10,
    }
    return Reading(subject=Subject(service, client, operation), signal=signal, **(known | fields))
