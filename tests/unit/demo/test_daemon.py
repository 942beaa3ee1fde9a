import pytest

from dslmodel.api.shapes import instant
from dslmodel.demo.daemon import nanoseconds


@pytest.mark.parametrize("at", [0, 1, 999_999_999, 1_700_000_000_000_000_000, 1_700_000_000_123_456_789])
def test_instants_are_read_back_exactly(at):
    assert nanoseconds(instant(at)) == at
