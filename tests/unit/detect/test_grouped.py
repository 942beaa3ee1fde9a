"""Readings of several windows become one judgement: the newest that holds enough tells whether it goes on."""

import pytest

from dslmodel.detect.base import View
from dslmodel.detect.error_spike import ErrorSpike
from dslmodel.detect.latency_increase import LatencyIncrease
from dslmodel.detect.throughput_drop import ThroughputDrop
from tests.unit.detect.build import at, reading


def judge(*readings, detector=None):
    view = View(now=at(100), readings=readings, callers={}, failing={})
    return {j.service: j for j in (detector or ErrorSpike()).inspect(view)}


@pytest.mark.parametrize(
    ("z", "shift", "fires", "holds"),
    [
        (20.0, 0.5, True, True),
        (6.4, 0.02, True, True),
        (6.3, 0.5, False, True),
        (20.0, 0.019, False, True),
        (3.2, 0.5, False, True),
        (3.1, 0.5, False, False),
        (50.0, 0.009, False, False),
        (None, 0.5, False, False),
    ],
)
def test_deviation_and_shift_must_both_be_enough_and_half_of_them_holds(z, shift, fires, holds):
    judgement = judge(reading("web", z=z, shift=shift))["web"]
    assert (judgement.fires, judgement.holds) == (fires, holds)


def test_long_window_that_is_bad_while_the_short_one_is_good_again_is_over():
    over = judge(reading("web", window_seconds=60), reading("web", window_seconds=10, z=0.0, shift=0.0, value=0.0))["web"]
    assert (over.fires, over.holds) == (False, False)


def test_short_window_with_few_requests_says_nothing_about_it():
    sparse = judge(reading("web", window_seconds=60), reading("web", window_seconds=10, z=0.0, shift=0.0, value=0.0, count=1.0))["web"]
    assert (sparse.fires, sparse.holds) == (True, True)


def test_one_operation_that_fails_is_enough_and_is_named():
    judgement = judge(reading("web", z=1.0, shift=0.01), reading("web", operation="POST /order"))["web"]
    assert judgement.fires
    assert judgement.operation == "POST /order"
    assert "POST /order" in judgement.summary


def test_call_that_fails_is_told_of_the_callee_with_its_caller():
    judgement = judge(reading("db", client="web"))["db"]
    assert judgement.operation == "web → db"


def test_what_a_service_reports_itself_goes_before_what_its_callers_saw():
    judgement = judge(reading("db", client="web", z=90.0), reading("db"))["db"]
    assert judgement.operation is None


def test_trouble_began_no_earlier_than_the_shortest_window_that_shows_it():
    judgement = judge(reading("web", window_seconds=60), reading("web", window_seconds=10))["web"]
    assert judgement.started_at == at(90)
    known = judge(reading("web", window_seconds=10, started_at=at(97)))["web"]
    assert known.started_at == at(97)


def test_detectors_look_only_at_their_own_signals():
    errors, slow, less = reading("a"), reading("b", "latency_shift", z=20.0, limit=9.0), reading("c", "throughput", shift=0.9)
    assert set(judge(errors, slow, less)) == {"a"}
    assert set(judge(errors, slow, less, detector=LatencyIncrease())) == {"b"}
    assert set(judge(errors, slow, less, detector=ThroughputDrop())) == {"c"}


def test_clauses_tell_the_values_and_the_rules():
    clauses = judge(reading("web"))["web"].clauses
    assert {clause.name for clause in clauses} >= {"error_ratio deviation", "error_ratio shift", "error_ratio value", "samples"}
    assert all(clause.holds for clause in clauses)
