"""The log-bucket histogram: exact bounds, bounded error, convertible to OpenTelemetry's exponential histogram."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dslmodel.windows.sketch import BOUNDS, MAX_BUCKET, SCALE, bucket_of, middle_ms, quantiles_ms

LONGEST = 1 << 46
durations = st.integers(1, LONGEST)


def exponential(histogram: dict[int, float]) -> tuple[int, int, list[float]]:
    """(scale, offset, counts) of OTLP's ExponentialHistogramDataPoint.Buckets; its bucket i is (base^(offset+i), base^(offset+i+1)]."""
    first, last = min(histogram), max(histogram)
    return SCALE, first - 1, [histogram.get(bucket, 0.0) for bucket in range(first, last + 1)]


def is_in(duration: int, index: int) -> bool:
    """base^index < duration <= base^(index+1) with base = 2^(1/64), by exact integers: raise all to the 64th power."""
    power = Fraction(duration) ** (1 << SCALE)
    return Fraction(2) ** index < power <= Fraction(2) ** (index + 1)


@given(durations)
def test_bucket_is_the_one_that_opentelemetry_defines(duration):
    assert is_in(duration, bucket_of(duration) - 1)


@given(st.lists(durations, min_size=1, max_size=10))
@hypothesis_settings(max_examples=30)
def test_histogram_converts_to_an_exponential_histogram(values):
    histogram: dict[int, float] = {}
    for value in values:
        histogram[bucket_of(value)] = histogram.get(bucket_of(value), 0.0) + 1.0
    scale, offset, counts = exponential(histogram)
    assert scale == 6
    assert sum(counts) == len(values)
    for i in [i for i, count in enumerate(counts) if count]:
        assert counts[i] == sum(is_in(value, offset + i) for value in values)


@given(st.integers(100, LONGEST))
def test_a_bucket_stands_for_its_durations_within_one_percent(duration):
    assert middle_ms(bucket_of(duration)) * 1e6 == pytest.approx(duration, rel=0.01)


@pytest.mark.parametrize("index", [64 * i + j for i in range(0, 46, 5) for j in (0, 1, 31, 63)])
def test_bounds_are_exact(index):
    bound = BOUNDS[index]
    assert bound**64 <= 1 << index < (bound + 1) ** 64


def test_bounds_are_ascending():
    assert sorted(BOUNDS) == BOUNDS
    assert len(BOUNDS) == MAX_BUCKET


@pytest.mark.parametrize(("duration", "bucket"), [(-5, 0), (0, 0), (1, 0), (2, 64), (4, 128), (1 << 46, MAX_BUCKET), (1 << 62, MAX_BUCKET)])
def test_powers_of_two_end_their_bucket(duration, bucket):
    assert bucket_of(duration) == bucket


@given(st.lists(st.integers(1000, 10**12), min_size=1, max_size=200), st.sampled_from([0.01, 0.5, 0.9, 0.95, 0.99, 1.0]))
def test_quantiles_are_within_one_percent_of_an_actual_value_at_that_rank(values, probability):
    histogram: dict[int, float] = {}
    for value in values:
        histogram[bucket_of(value)] = histogram.get(bucket_of(value), 0.0) + 1.0
    ordered = sorted(values)
    rank = min(len(ordered) - 1, max(0, -(-round(probability * len(ordered) * 1e6) // 10**6) - 1))
    (found,) = quantiles_ms(histogram, (probability,))
    assert found * 1e6 == pytest.approx(ordered[rank], rel=0.01)


def test_quantiles_count_weights():
    histogram = {bucket_of(1_000_000): 98.0, bucket_of(900_000_000): 2.0}
    p50, p99 = quantiles_ms(histogram, (0.5, 0.99))
    assert p50 == pytest.approx(1, rel=0.01)
    assert p99 == pytest.approx(900, rel=0.01)
