import pytest
from hypothesis import given
from hypothesis import strategies as st

from dslmodel.ingest.times import format_time, parse_time

HALF_PAST = 1_767_225_600_500_000_000


@pytest.mark.parametrize(
    "written",
    [
        "2026-01-01T00:00:00.5Z",
        "2026-01-01T00:00:00.500000000Z",
        "2026-01-01 00:00:00.5",
        "2026-01-01T01:00:00.5+01:00",
        " 2026-01-01T00:00:00,5Z ",
        "1767225600.5",
        "1767225600500",
        1_767_225_600.5,
        1_767_225_600_500,
        1_767_225_600_500_000,
        1_767_225_600_500_000_000,
        "1767225600500000000",
    ],
)
def test_a_time_is_told_by_its_form_and_magnitude(written):
    assert parse_time(written) == HALF_PAST


def test_nine_digits_of_a_second_are_kept():
    assert parse_time("2026-01-01T00:00:00.123456789Z") == 1_767_225_600_123_456_789


@pytest.mark.parametrize(
    "written", ["", "soon", "0", 12, -5, True, None, [], {}, float("nan"), float("inf"), 1e30, "1969-01-01", "9999-01-01"]
)
def test_what_is_no_time_is_refused_with_its_value(written):
    with pytest.raises(ValueError, match="is not a time") as error:
        parse_time(written)
    assert str(written) in str(error.value)


@given(st.integers(0, (1 << 63) - 1))
def test_a_formatted_time_reads_back(time):
    assert parse_time(format_time(time)) == time
