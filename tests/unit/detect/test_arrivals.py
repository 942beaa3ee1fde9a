"""What is known of the telemetry itself: export habits, silence, skew, loss."""

import pytest

from dslmodel.detect.arrivals import Arrivals
from dslmodel.records import Tally, Watermark
from tests.unit.detect.build import SECOND, at

NOTHING = Tally(accepted=0, rejected=0, windowed=0, late=0, own=0, overflowed=0, joins_missed=0)


def mark(second: float, service: str = "web", instance: str = "1", *, age: float = 0.1) -> Watermark:
    return Watermark(service=service, instance=instance, version="", ended_at=at(second - age), received_at=at(second))


def tally(accepted: int, late: int = 0) -> Tally:
    return Tally(accepted=accepted, rejected=0, windowed=accepted - late, late=late, own=0, overflowed=0, joins_missed=0)


def exporting(every: int, seconds: int, *, service: str = "web") -> Arrivals:
    arrivals = Arrivals()
    for second in range(1, seconds + 1):
        arrivals.observe([mark(second, service)] if second % every == 0 else [], NOTHING, at(second))
    return arrivals


def test_nothing_yet_is_unknown():
    health = Arrivals().health(at(100))
    assert health.state == "unknown"
    assert health.problems


@pytest.mark.parametrize("every", [1, 5, 10])
def test_export_interval_is_learnt_from_receipts(every):
    interval, lag = exporting(every, 120).delays()["web"]
    assert interval == pytest.approx(every, abs=1.0)
    assert lag >= every


def test_the_slowest_instance_tells_when_a_service_is_complete():
    arrivals = Arrivals()
    for second in range(1, 61):
        marks = [mark(second, instance="fast")] + ([mark(second, instance="slow")] if second % 10 == 0 else [])
        arrivals.observe(marks, NOTHING, at(second))
    assert arrivals.delays()["web"][1] >= 10


def test_steady_telemetry_is_good():
    assert exporting(5, 60).health(at(61)).state == "good"


def test_silence_of_everything_is_bad_and_says_for_how_long():
    arrivals = exporting(1, 60)
    assert not arrivals.is_silent(at(70))
    assert arrivals.is_silent(at(90))
    health = arrivals.health(at(90))
    assert health.state == "bad"
    assert "30 s" in health.problems[0]


def test_a_service_that_is_silent_alone_is_its_own_trouble():
    arrivals = exporting(1, 60)
    for second in range(61, 100):
        arrivals.observe([mark(second, "db")], NOTHING, at(second))
    assert not arrivals.is_silent(at(100))
    assert arrivals.others_alive("web", at(100))
    assert not arrivals.others_alive("db", at(100))


def test_data_after_a_silence_begin_a_new_life():
    arrivals = exporting(1, 60)
    first = arrivals.alive_since
    for second in range(61, 120):
        arrivals.observe([], NOTHING, at(second))
    arrivals.observe([mark(120)], NOTHING, at(120))
    assert arrivals.alive_since == at(120) // SECOND > first


def test_a_short_pause_does_not():
    arrivals = exporting(5, 60)
    first = arrivals.alive_since
    for second in range(61, 72):
        arrivals.observe([], NOTHING, at(second))
    arrivals.observe([mark(72)], NOTHING, at(72))
    assert arrivals.alive_since == first


@pytest.mark.parametrize("age", [-300, 300])
def test_clock_that_is_minutes_off_is_told_by_name(age):
    arrivals = exporting(1, 10)
    arrivals.observe([mark(11, "lost", age=age)], NOTHING, at(11))
    health = arrivals.health(at(12))
    assert health.state == "bad"
    assert any("lost" in problem for problem in health.problems)


def test_spans_that_come_too_late_are_told():
    arrivals = exporting(1, 10)
    arrivals.observe([mark(11)], tally(100, late=20), at(11))
    arrivals.observe([mark(12)], tally(200, late=40), at(12))
    assert any("too late" in problem for problem in arrivals.health(at(12)).problems)


def test_a_few_late_spans_are_no_problem():
    arrivals = exporting(1, 10)
    arrivals.observe([mark(11)], tally(1000, late=20), at(11))
    assert arrivals.health(at(12)).state == "good"


def test_old_trouble_is_forgotten():
    arrivals = exporting(1, 10)
    arrivals.observe([mark(11)], tally(100, late=50), at(11))
    for second in range(12, 100):
        arrivals.observe([mark(second)], tally(100 + second, late=50), at(second))
    assert arrivals.health(at(100)).state == "good"


def test_instances_long_gone_are_forgotten():
    arrivals = Arrivals()
    for i in range(500):
        arrivals.observe([mark(1, instance=str(i))], NOTHING, at(1))
    arrivals.observe([mark(1200)], NOTHING, at(1200))
    assert len(arrivals._instances) == 1
