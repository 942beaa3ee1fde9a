"""Healthy days raise nothing, and the fault at their end is found. On a virtual clock, with generated traffic.

DSLMODEL_TEST_RATE multiplies the requests; the long test's time goes with it only in part, for it ticks a quarter of a million times.
"""

import os

import pytest

from dslmodel.clock import SECOND
from dslmodel.engine.pipeline import Tick
from dslmodel.engine.runtime import build_pipeline
from dslmodel.records import Finding, Pattern
from dslmodel.settings import Settings
from dslmodel.testing import START, at
from tests.traffic import Call, Fault, Load, Operation, Rollout, Service, System, Traffic, daily, play, steady

HOUR = 3600
DAY = 24 * HOUR
RATE = float(os.environ.get("DSLMODEL_TEST_RATE", "1"))

SERVICES = {
    "web": Service(
        operations={
            "GET /": Operation(median_ms=8, calls=[Call("catalog", "list", 0.9)]),
            "POST /order": Operation(median_ms=15, calls=[Call("order", "create")]),
        }
    ),
    "catalog": Service(operations={"list": Operation(median_ms=12, sigma=0.6, calls=[Call("store", "select")])}),
    "order": Service(operations={"create": Operation(median_ms=20, calls=[Call("payment", "charge"), Call("store", "insert")])}),
    "payment": Service(operations={"charge": Operation(median_ms=80, sigma=0.8)}),
    "store": Service(operations={"select": Operation(median_ms=3, sigma=0.7), "insert": Operation(median_ms=5, sigma=0.7)}),
    "reports": Service(operations={"nightly": Operation(median_ms=300, calls=[Call("store", "select")])}, instances=1),
    "admin": Service(operations={"GET /admin": Operation(median_ms=30, calls=[Call("store", "select")])}),
}


def nightly(second: float) -> float:
    """Twelve minutes of work at 2:00."""
    return 0.2 if 2.0 <= second / HOUR % 24 < 2.2 else 0.0


def shop(*, end: float, rollout: float, shift: float = 0.0) -> System:
    """The system; its day begins `shift` seconds after midnight."""
    browsing, ordering = daily(0.3 * RATE, 1.5 * RATE), daily(0.05 * RATE, 0.4 * RATE)
    return System(
        services=SERVICES,
        loads=[
            Load(service="web", operation="GET /", rate=lambda second: browsing(second + shift)),
            Load(service="web", operation="POST /order", rate=lambda second: ordering(second + shift)),
            Load(service="reports", operation="nightly", rate=lambda second: nightly(second + shift)),
            Load(service="admin", operation="GET /admin", rate=steady(0.003)),
        ],
        rollouts=[
            Rollout(service="catalog", started=rollout, version="2", slower=0.9),
            Rollout(service="order", started=rollout + 300, version="2", slower=1.1),
        ],
        faults=[Fault(service="payment", started=end, error_ratio=0.5)],
    )


def told(finding: Finding) -> str:
    second = (finding.at - START) // SECOND
    when = f"day {second // DAY + 1} {second % DAY // HOUR:02}:{second % HOUR // 60:02}:{second % 60:02}"
    why = "; ".join(f"{clause.name} {clause.value} ({clause.rule})" for clause in finding.clauses)
    return f"{when} {finding.pattern} {finding.summary}: {why}"


def healthy_then_broken(system: System, *, learnt: int, end: int, seed: int) -> None:
    """Nothing is found between `learnt` and `end`; the fault is found in the ten minutes after."""
    raised: list[Finding] = []

    def take(tick: Tick) -> None:
        raised.extend(finding for finding in tick.findings if finding.at == tick.snapshot.at)

    play(build_pipeline(Settings()), Traffic(system, seed=seed), end + 600, take)
    false = [told(finding) for finding in raised if at(learnt) <= finding.at < at(end)]
    assert not false, "\n".join(false)
    after = [finding for finding in raised if finding.at >= at(end)]
    assert (Pattern.ERROR_SPIKE, "payment") in {(finding.pattern, finding.service) for finding in after}
    assert {finding.service for finding in after} <= {"payment", "order", "web"}


@pytest.mark.long
@pytest.mark.timeout(3600)  # six to nine minutes on a core of its own
@pytest.mark.parametrize("seed", [1])
def test_second_and_third_healthy_day_raise_nothing(seed):
    healthy_then_broken(shop(end=3 * DAY, rollout=1.6 * DAY), learnt=DAY, end=3 * DAY, seed=seed)


@pytest.mark.parametrize("seed", [1, 2])
def test_healthy_hours_raise_nothing(seed):
    """From 9:00 on: an hour to learn, then an hour with a rollout."""
    healthy_then_broken(shop(end=2 * HOUR, rollout=1.2 * HOUR, shift=9 * HOUR), learnt=HOUR, end=2 * HOUR, seed=seed)
