"""Laws of every detector: pure, deterministic, bounded, at ease with nothing, with huge values and with what it never heard of."""

import copy
import math

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dslmodel.clock import SECOND
from dslmodel.detect import DETECTORS
from dslmodel.detect.base import Reading, Subject, View
from dslmodel.detect.fleet import Agent
from dslmodel.detect.resources import Usage
from dslmodel.records import Clause, Pattern

NOW = 1_800_000_000 * SECOND
SIGNALS = (
    *("error_ratio", "latency_shift", "latency_tail", "call_latency_shift", "call_latency_tail", "gap_shift", "throughput", "follows"),
    *(f"{name}_p{q}" for name in ("latency", "client_latency", "call", "served", "gap") for q in (50, 99)),
    "a signal that nobody knows",
)
names = st.sampled_from(("web", "cart", "db", "", "ünïcode", "other"))
numbers = st.floats(0, 1e15, allow_nan=False)

readings = st.builds(
    Reading,
    subject=st.builds(Subject, names, st.sampled_from(("", "web", "nobody")), st.sampled_from(("", "GET /", "→ db"))),
    signal=st.sampled_from(SIGNALS),
    value=numbers,
    normal=numbers,
    shift=st.floats(-1e9, 1e9),
    z=st.none() | st.floats(-1e9, 1e9),
    limit=st.sampled_from((5.0, 6.4, 9.0)),
    count=numbers,
    at=st.integers(NOW - 120 * SECOND, NOW),
    window_seconds=st.sampled_from((10, 30, 60, 600.0)),
)
agents = st.builds(
    Agent, id=names, status=st.sampled_from(("active", "idle")), heartbeat_at=st.integers(0, NOW + 10**12), is_expected=st.booleans()
)
usages = st.builds(
    Usage,
    service=names,
    instance=names,
    resource=st.sampled_from(("memory", "cpu", "disk", "what")),
    is_ratio=st.booleans(),
    values=st.lists(numbers, min_size=1, max_size=8).map(lambda vs: tuple((NOW - (8 - i) * 10 * SECOND, v) for i, v in enumerate(vs))),
    normal=numbers,
    deviation=st.none() | st.floats(-1e6, 1e6),
)
views = st.builds(
    View,
    now=st.just(NOW),
    readings=st.lists(readings, max_size=20),
    callers=st.dictionaries(names, st.frozensets(names, max_size=4), max_size=5),
    failing=st.dictionaries(names, st.integers(0, NOW), max_size=4),
    open=st.frozensets(st.tuples(st.sampled_from(list(Pattern)), names), max_size=4),
    agents=st.lists(agents, max_size=6),
    usages=st.lists(usages, max_size=6),
)
EMPTY = View(now=NOW, readings=(), callers={}, failing={})


@pytest.fixture(params=DETECTORS, ids=lambda d: d.pattern.value)
def detector(request):
    return request.param


def test_every_pattern_has_one_detector():
    assert sorted(d.pattern for d in DETECTORS) == sorted(Pattern)


def test_nothing_to_see_gives_no_opinion(detector):
    assert list(detector.inspect(EMPTY)) == []


@given(view=views)
@hypothesis_settings(max_examples=60)
def test_same_view_gives_the_same_judgements_and_is_left_as_it_was(view):
    before = copy.deepcopy(view)
    for detector in DETECTORS:
        assert list(detector.inspect(view)) == list(detector.inspect(view))
    assert view == before


@given(view=views)
@hypothesis_settings(max_examples=60)
def test_judgements_are_well_formed(view):
    for detector in DETECTORS:
        judgements = list(detector.inspect(view))
        assert len({j.service for j in judgements}) == len(judgements), "at most one opinion a service"
        for judgement in judgements:
            assert judgement.pattern is detector.pattern
            assert 0.0 <= judgement.score <= 1.0
            assert isinstance(judgement.score, float)
            assert judgement.holds or not judgement.fires
            assert judgement.summary
            assert 0 < judgement.started_at <= NOW or judgement.pattern in {Pattern.CASCADE_FAILURE, Pattern.UNHEALTHY_AGENTS}
            assert len(judgement.clauses) <= 20
            for clause in judgement.clauses:
                assert isinstance(clause, Clause)
                assert clause.value is None or isinstance(clause.value, str) or math.isfinite(clause.value)


@given(view=views)
@hypothesis_settings(max_examples=40)
def test_order_of_what_is_seen_does_not_matter(view):
    backwards = View(
        now=view.now,
        readings=view.readings[::-1],
        callers=dict(reversed(list(view.callers.items()))),
        failing=dict(reversed(list(view.failing.items()))),
        open=view.open,
        agents=view.agents[::-1],
        usages=view.usages,
    )
    for detector in DETECTORS:
        for one, other in zip(detector.inspect(view), detector.inspect(backwards), strict=True):
            assert (one.service, one.fires, one.holds, one.score) == (other.service, other.fires, other.holds, other.score)


def test_output_is_bounded_by_what_reports(detector):
    flood = [
        Reading(
            subject=Subject(f"s{i % 50}", f"c{i}", ""),
            signal=signal,
            value=1.0,
            normal=0.0,
            shift=10.0,
            z=50.0,
            limit=6.0,
            count=100,
            at=NOW,
            window_seconds=10,
        )
        for i in range(500)
        for signal in SIGNALS
    ]
    found = list(detector.inspect(View(now=NOW, readings=flood, callers={}, failing={})))
    assert len(found) <= 50
    assert all(len(judgement.clauses) <= 20 for judgement in found)


def test_learning_readings_raise_nothing(detector):
    learning = [
        Reading(
            subject=Subject("web"), signal=signal, value=1.0, normal=0.0, shift=9.0, z=None, limit=6.0, count=99, at=NOW, window_seconds=10
        )
        for signal in SIGNALS
    ]
    assert not any(j.fires or j.holds for j in detector.inspect(View(now=NOW, readings=learning, callers={}, failing={})))


def test_an_improvement_raises_nothing(detector):
    better = [
        Reading(
            subject=Subject("web"),
            signal=signal,
            value=0.1,
            normal=1.0,
            shift=-3.0,
            z=-40.0,
            limit=6.0,
            count=99,
            at=NOW,
            window_seconds=10,
        )
        for signal in SIGNALS
    ]
    assert not any(j.fires or j.holds for j in detector.inspect(View(now=NOW, readings=better, callers={}, failing={})))


def test_cascade_survives_calls_in_a_circle():
    (cascade,) = (d for d in DETECTORS if d.pattern is Pattern.CASCADE_FAILURE)
    ring = {"a": frozenset({"b"}), "b": frozenset({"c"}), "c": frozenset({"a"})}
    view = View(now=NOW, readings=(), callers=ring, failing={"a": 1, "b": 2, "c": 3})
    assert len(list(cascade.inspect(view))) <= 3
