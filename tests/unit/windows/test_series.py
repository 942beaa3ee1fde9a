"""Which series a span is counted under, and that there is never more than was allowed."""

import pytest

from dslmodel.clock import SECOND
from dslmodel.windows.names import NameTemplates
from dslmodel.windows.series import OTHER, SeriesTable


@pytest.fixture
def table():
    return SeriesTable(max_series=40, max_operations=5)


def letters(number: int) -> str:
    return "".join(chr(97 + int(digit)) for digit in str(number))


def test_what_does_not_fit_of_many_versions_is_one_series(table):
    found = {table.key("web", letters(i), 2, f"build-{i}", SECOND) for i in range(1000)}
    assert {key for key in found if key.operation == OTHER} == {("web", OTHER, 2, "")}
    assert len(found) == 6


def test_services_that_come_when_the_table_is_full_are_counted_together():
    table = SeriesTable(max_series=40, max_operations=40)
    for i in range(40):
        table.key("web", letters(i), 2, "", SECOND)
    found = {table.key(f"s{letters(i)}", "a", 2, "", SECOND) for i in range(1000)}
    assert len(found) == 4, "a tenth of the series may be services, and the rest is one"
    assert (OTHER, OTHER, 2, "") in found


def test_a_table_that_was_full_is_empty_after_an_idle_hour(table):
    for i in range(1000):
        table.key(f"s{letters(i)}", letters(i), i % 6, "1", SECOND)
    table.forget_idle(3700 * SECOND)
    assert {table.key(f"t{i}", "a", 2, "", 3700 * SECOND).service for i in range(4)} == {"t0", "t1", "t2", "t3"}


def test_long_names_are_remembered_by_their_beginning():
    templates = NameTemplates()
    for i in range(100):
        assert templates.of("SELECT " + "x" * 300 + str(i)) == "SELECT " + "x" * 193
    assert max(map(len, templates._known)) <= 200
