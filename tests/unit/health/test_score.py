"""The health score's formula, and the tiers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dslmodel.health.score import Measures, score
from dslmodel.health.state import state_of
from dslmodel.records import HealthState

WEIGHTS = {"error": 0.4, "latency": 0.3, "throughput": 0.2, "pattern": 0.1}
ratios = st.none() | st.floats(0, 1)


def measured(**known) -> Measures:
    return Measures(**{"has_data": True, "error_ratio": 0.0, "latency_ratio": 1.0, "throughput_ratio": 1.0, **known})


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, 1.0),
        ({"error_ratio": 0.1}, 0.4 * 0.5 + 0.6),
        ({"error_ratio": 0.2}, 0.6),
        ({"error_ratio": 1.0}, 0.6),
        ({"latency_ratio": 0.5}, 0.85),
        ({"throughput_ratio": 0.0}, 0.8),
        ({"finding_scores": [1.0]}, 0.95),
        ({"finding_scores": [0.8, 0.5]}, 0.9 + 0.1 * 0.6 * 0.75),
        ({"error_ratio": 1.0, "latency_ratio": 0.0, "throughput_ratio": 0.0, "finding_scores": [1.0]}, 0.05),
    ],
)
def test_score_is_the_weighted_mean_of_its_components(known, expected):
    assert score(measured(**known), WEIGHTS).score == pytest.approx(expected, abs=1e-4)


def test_what_is_not_known_has_no_part_in_it():
    health = score(measured(error_ratio=0.2, latency_ratio=None, throughput_ratio=None), WEIGHTS)
    assert health.score == pytest.approx((0.4 * 0 + 0.1 * 1) / 0.5)
    assert health.components == {"error": 0.0, "latency": None, "throughput": None, "pattern": 1.0}


def test_nothing_came_so_nothing_is_known():
    health = score(measured(has_data=False, finding_scores=[1.0]), WEIGHTS)
    assert health.score is None
    assert health.state is HealthState.UNKNOWN
    assert set(health.components) == set(WEIGHTS)
    assert set(health.components.values()) == {None}


def test_component_without_weight_is_shown_and_not_counted():
    health = score(measured(error_ratio=0.2), {"error": 0.0, "latency": 1.0, "throughput": 0.0, "pattern": 0.0})
    assert health.score == 1.0
    assert health.components["error"] == 0.0


def test_no_known_component_has_weight_so_the_score_is_not_known():
    health = score(measured(latency_ratio=None), {"error": 0.0, "latency": 1.0, "throughput": 0.0, "pattern": 0.0})
    assert health.score is None
    assert health.state is HealthState.UNKNOWN


@given(ratios, ratios, ratios, st.lists(st.floats(0, 1), max_size=5))
def test_score_is_within_its_bounds_and_its_state_fits(error, latency, throughput, findings):
    health = score(
        Measures(has_data=True, error_ratio=error, latency_ratio=latency, throughput_ratio=throughput, finding_scores=findings), WEIGHTS
    )
    assert health.score is not None
    assert 0.0 <= health.score <= 1.0
    assert health.state is state_of(health.score)


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_errors_are_never_healthier(a, b):
    low, high = sorted((a, b))
    one, other = (score(measured(error_ratio=ratio), WEIGHTS).score for ratio in (low, high))
    assert one is not None
    assert other is not None
    assert other <= one


@pytest.mark.parametrize(
    ("value", "state"),
    [
        (0.0, HealthState.CRITICAL),
        (0.2999, HealthState.CRITICAL),
        (0.3, HealthState.DEGRADED),
        (0.5999, HealthState.DEGRADED),
        (0.6, HealthState.HEALTHY),
        (0.8999, HealthState.HEALTHY),
        (0.9, HealthState.OPTIMAL),
        (1.0, HealthState.OPTIMAL),
        (None, HealthState.UNKNOWN),
    ],
)
def test_tiers_are_half_open(value, state):
    assert state_of(value) is state
