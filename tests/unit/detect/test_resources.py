"""Memory, processors and disks: over the limit for long enough, or grown out of their history."""

import pytest

from dslmodel.detect.base import View
from dslmodel.detect.resource_exhaustion import ResourceExhaustion
from dslmodel.detect.resources import Resources
from dslmodel.records import ResourceSample
from tests.unit.detect.build import at


class Reported:
    """Samples every ten seconds."""

    def __init__(self) -> None:
        self.resources, self.second, self.trouble = Resources(), 0, set()

    def report(self, *values: float, ratio: bool = True, resource: str = "memory", service: str = "db", every: int = 10) -> None:
        for value in values:
            self.second += every
            known = {"ratio": value, "value": None} if ratio else {"ratio": None, "value": value}
            sample = ResourceSample(service=service, instance="1", resource=resource, at=at(self.second), **known)
            self.resources.observe([sample])
            self.resources.learn(at(self.second), lambda service, _: service not in self.trouble)

    def judge(self) -> dict[str, tuple[bool, bool]]:
        """{service: (fires, holds)}."""
        view = View(now=at(self.second), readings=(), callers={}, failing={}, usages=self.resources.usages())
        return {j.service: (j.fires, j.holds) for j in ResourceExhaustion().inspect(view)}


@pytest.fixture
def r() -> Reported:
    return Reported()


def test_readings_of_every_second_last_long_enough_too(r):
    r.report(*[0.99] * 30, resource="cpu", every=1)
    assert r.judge() == {"db": (False, True)}
    r.report(*[0.99] * 60, resource="cpu", every=1)
    assert r.judge() == {"db": (True, True)}


def test_readings_of_every_minute_do_with_three(r):
    r.report(0.99, 0.99, 0.99, resource="cpu", every=60)
    assert r.judge() == {"db": (True, True)}


@pytest.mark.parametrize(
    ("resource", "values", "expected"),
    [
        ("memory", [0.5, 0.95, 0.96, 0.97], (True, True)),
        ("memory", [0.5, 0.5, 0.96, 0.97], (False, True)),  # not long enough
        ("memory", [0.95, 0.95, 0.5, 0.95], (False, True)),
        ("memory", [0.5, 0.6, 0.7, 0.8], (False, False)),
        ("memory", [0.5, 0.87, 0.87, 0.87], (False, True)),  # would not open, would stay
        ("disk", [0.91, 0.91, 0.91, 0.91], (True, True)),
        ("cpu", [0.99, 0.99, 0.99, 0.99], (False, True)),  # must last a minute
        ("cpu", [0.99] * 8, (True, True)),
        ("cpu", [0.99] * 3 + [0.3] + [0.99] * 3, (False, True)),
        ("memory", [1.5] * 4, (True, True)),
    ],
)
def test_use_over_its_limit_for_long_enough_fires(r, resource, values, expected):
    r.report(*values, resource=resource)
    assert r.judge() == {"db": expected}


def test_score_is_bounded_for_impossible_ratios(r):
    r.report(5.0, 9.0, 99.0)
    view = View(now=at(r.second), readings=(), callers={}, failing={}, usages=r.resources.usages())
    assert [j.score for j in ResourceExhaustion().inspect(view)] == [1.0]


def test_growth_without_a_known_limit_fires_when_it_has_doubled(r):
    r.report(*[100e6, 102e6, 98e6] * 10, ratio=False)
    assert r.judge() == {"db": (False, False)}
    r.trouble.add("db")
    r.report(230e6, 240e6, 250e6, ratio=False)
    assert r.judge() == {"db": (True, True)}


def test_growth_says_nothing_while_it_is_learning(r):
    r.report(100e6, 300e6, 400e6, 500e6, ratio=False)
    assert r.judge() == {"db": (False, False)}


def test_what_lasts_in_trouble_does_not_become_normal(r):
    r.report(*[100e6] * 30, ratio=False)
    r.trouble.add("db")
    r.report(*[300e6] * 300, ratio=False)
    assert r.judge() == {"db": (True, True)}


def test_worst_resource_of_a_service_is_named(r):
    for _ in range(4):
        r.report(0.3, service="db", resource="disk", every=0)
        r.report(0.95, service="db", resource="memory")
    view = View(now=at(r.second), readings=(), callers={}, failing={}, usages=r.resources.usages())
    (judgement,) = ResourceExhaustion().inspect(view)
    assert judgement.operation == "memory 1"
    assert "memory" in judgement.summary


def test_resource_that_stopped_reporting_is_forgotten(r):
    r.report(0.5, 0.95, 0.96, 0.97)
    r.second += 1200
    r.resources.learn(at(r.second), lambda *_: True)
    assert r.resources.usages() == []


def test_older_reading_does_not_overwrite_a_newer_one(r):
    r.report(0.5, 0.6)
    r.resources.observe([ResourceSample(service="db", instance="1", resource="memory", at=at(1), ratio=0.99, value=None)])
    assert [value for _, value in r.resources.usages()[0].values] == [0.5, 0.6]
