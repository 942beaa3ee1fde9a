"""Findings open at once, close when it has been quiet, flap, are acknowledged, rejected and forgotten."""

import pytest

from dslmodel.detect.tracker import ACCEPTED_SECONDS, CLEAR_SECONDS, Tracker, finding_id
from dslmodel.records import Pattern
from tests.unit.detect.build import at, judgement

KEEP_HOURS = 1.0


class Tracked:
    def __init__(self, **bounds) -> None:
        self.tracker = Tracker(**{"retention_hours": KEEP_HOURS, "max_findings": 100, **bounds})
        self.second = 0
        self.changes: list = []

    def see(self, *judgements, seconds: int = 1):
        """The same judgements for some ticks; gives what changed."""
        changed = []
        for _ in range(seconds):
            self.second += 1
            changed += self.tracker.update(judgements, {"web": ("t1",)}, at(self.second))
        self.changes += changed
        return changed

    @property
    def opened(self) -> int:
        return len(self.tracker.all())


@pytest.fixture
def t() -> Tracked:
    return Tracked()


GOOD = judgement(fires=False)
LINGERING = judgement(fires=False, holds=True)
BAD = judgement()


def test_finding_opens_in_the_tick_that_fires(t):
    (found,) = t.see(BAD)
    assert (found.at, found.started_at, found.resolved_at, found.updated_at) == (at(1), at(0), None, at(1))
    assert (found.pattern, found.service, found.score) == (Pattern.ERROR_SPIKE, "web", 0.7)
    assert found.exemplars == ("t1",)
    assert t.tracker.open() == [found]


def test_what_only_holds_does_not_open(t):
    assert t.see(LINGERING, seconds=10) == []


def test_it_stays_open_while_it_holds_though_it_no_longer_fires(t):
    t.see(BAD)
    assert t.see(LINGERING, seconds=100) == []
    assert len(t.tracker.open()) == 1


def test_it_closes_after_it_has_been_quiet_for_long_enough(t):
    t.see(BAD)
    assert t.see(GOOD, seconds=CLEAR_SECONDS - 1) == []
    (closed,) = t.see(GOOD)
    assert closed.resolved_at == at(1 + CLEAR_SECONDS)
    assert t.tracker.open() == []
    assert t.tracker.all() == [closed]


def test_quiet_that_is_interrupted_starts_anew(t):
    t.see(BAD)
    t.see(GOOD, seconds=CLEAR_SECONDS - 1)
    t.see(LINGERING)
    assert t.see(GOOD, seconds=CLEAR_SECONDS - 1) == []
    assert len(t.see(GOOD)) == 1


def test_silence_does_not_close_at_once_but_not_never(t):
    t.see(BAD)
    assert t.see(seconds=200) == []
    assert len(t.see(seconds=200)) == 1


def test_one_finding_a_pattern_and_service_at_a_time(t):
    t.see(BAD, judgement(pattern=Pattern.LATENCY_INCREASE), judgement("db"), seconds=50)
    assert sorted((f.pattern, f.service) for f in t.tracker.open()) == [
        (Pattern.ERROR_SPIKE, "db"),
        (Pattern.ERROR_SPIKE, "web"),
        (Pattern.LATENCY_INCREASE, "web"),
    ]
    assert t.opened == 3


def test_it_is_told_again_only_when_it_got_clearly_worse(t):
    t.see(BAD)
    assert t.see(judgement(score=0.72)) == []
    (worse,) = t.see(judgement(score=0.9, summary="worse"))
    assert (worse.score, worse.summary) == (0.9, "worse")
    assert worse.at == at(1)
    assert t.see(judgement(score=0.5)) == []


def test_what_opens_again_and_again_is_flapping_and_held_longer(t):
    for _ in range(3):
        t.see(judgement(started_at=at(t.second)))
        t.see(GOOD, seconds=CLEAR_SECONDS)
    flags = [f.is_flapping for f in t.tracker.all()]
    assert flags == [False, False, True]
    assert len(t.tracker.open()) == 1  # the third is held
    t.see(GOOD, seconds=CLEAR_SECONDS)
    assert t.tracker.open() == []


def test_holding_of_what_flaps_is_bounded(t):
    for _ in range(12):
        t.see(judgement(started_at=at(t.second)))
        t.see(GOOD, seconds=CLEAR_SECONDS)
    t.see(GOOD, seconds=600)
    assert t.tracker.open() == []


def test_id_follows_from_what_it_is_about():
    one = finding_id(Pattern.ERROR_SPIKE, "web", None, 5)
    assert one == finding_id(Pattern.ERROR_SPIKE, "web", None, 5)
    others = {
        finding_id(Pattern.LATENCY_INCREASE, "web", None, 5),
        finding_id(Pattern.ERROR_SPIKE, "db", None, 5),
        finding_id(Pattern.ERROR_SPIKE, "web", "GET /", 5),
        finding_id(Pattern.ERROR_SPIKE, "web", None, 6),
    }
    assert one not in others
    assert len(others) == 4


def test_it_does_not_begin_after_it_was_found(t):
    (found,) = t.see(judgement(started_at=at(500)))
    assert found.started_at == found.at


# ---------------------------------------------------------------- what people say


def test_acknowledged_finding_stays_open(t):
    (found,) = t.see(BAD)
    marked = t.tracker.acknowledge(found.id, at(5))
    assert marked is not None
    assert marked.acknowledged_at == at(5)
    assert t.tracker.open() == [marked]
    t.see(GOOD, seconds=CLEAR_SECONDS)
    assert t.tracker.all()[0].acknowledged_at == at(5)
    assert t.tracker.all()[0].resolved_at is not None


def test_rejected_finding_closes_and_does_not_open_again_for_a_while(t):
    (found,) = t.see(BAD)
    marked = t.tracker.reject(found.id, at(2))
    assert marked is not None
    assert (marked.false_positive_at, marked.resolved_at) == (at(2), at(2))
    assert t.see(BAD, seconds=300) == []
    t.second = 2 + ACCEPTED_SECONDS - 1
    (again,) = t.see(BAD)
    assert again.id != found.id or again.at != found.at


def test_rejection_of_one_pattern_leaves_others_alone(t):
    (found,) = t.see(BAD)
    t.tracker.reject(found.id, at(2))
    assert len(t.see(judgement(pattern=Pattern.LATENCY_INCREASE), judgement("db"))) == 2


def test_finding_that_was_over_can_still_be_rejected(t):
    (found,) = t.see(BAD)
    t.see(GOOD, seconds=CLEAR_SECONDS)
    marked = t.tracker.reject(found.id, at(60))
    assert marked is not None
    assert marked.resolved_at == at(1 + CLEAR_SECONDS)
    assert t.see(BAD, seconds=5) == []


@pytest.mark.parametrize("act", ["acknowledge", "reject"])
def test_unknown_finding_can_not_be_marked(t, act):
    assert getattr(t.tracker, act)("f-unknown", at(1)) is None


# ---------------------------------------------------------------- what is kept


def test_resolved_findings_are_kept_as_long_as_was_set(t):
    t.see(BAD)
    t.see(GOOD, seconds=CLEAR_SECONDS)
    t.second = 3600 - 1
    t.see(GOOD)
    assert t.opened == 1
    t.second = 3600 + 120 - 1
    t.see(GOOD)
    assert t.opened == 0


def test_open_finding_is_kept_however_old(t):
    t.see(BAD)
    for hour in range(1, 6):
        t.second = hour * 3600 - 1
        t.see(BAD)
    assert t.opened == 1


def test_number_of_findings_is_bounded_and_the_oldest_go():
    t = Tracked(max_findings=5)
    services = [f"s{i}" for i in range(20)]
    for service in services:
        t.see(judgement(service))
    t.see(*(judgement(service, fires=False) for service in services), seconds=60)
    assert [f.service for f in t.tracker.all()] == services[-5:]


def test_states_of_services_long_quiet_are_forgotten(t):
    for i in range(50):
        t.see(judgement(f"s{i}"), *(judgement(f"s{j}", fires=False) for j in range(i)))
    t.second = 2 * 3600 - 1
    t.see()
    t.second = 4 * 3600 - 1
    t.see()
    assert len(t.tracker._states) == 0


def test_what_opens_again_begins_after_the_last_end_and_has_an_id_of_its_own(t):
    (first,) = t.see(BAD)
    (closed,) = t.see(GOOD, seconds=CLEAR_SECONDS)
    (second,) = t.see(BAD)
    assert second.started_at >= closed.resolved_at
    assert second.id != first.id
    assert t.opened == 2
