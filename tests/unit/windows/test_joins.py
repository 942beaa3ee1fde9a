"""The cache that joins parents and children."""

from dslmodel.records import SeriesKey, SpanRow
from dslmodel.windows.joins import Joined, Joins

SECOND = 1_000_000_000
KEY = SeriesKey("batch", "step", 1, "")


def span(number: int, parent: int) -> Joined:
    row = SpanRow(b"t" * 16, number.to_bytes(8, "big"), parent.to_bytes(8, "big"), "step", 1, 0, 1, False, 1.0, "")
    return Joined(row, KEY, 0)


def test_many_children_of_a_parent_that_is_late_are_all_forgotten_and_the_newest_still_joined():
    joins = Joins(capacity=500, settle_seconds=1, keep_seconds=2)
    for number in range(1, 1001):
        joins.link(span(number, parent=5000), SECOND)
    assert len(list(joins.settle(SECOND))) == 500, "what is over the capacity is settled at once"
    assert joins.missed == 500
    parent = span(5000, parent=6000)
    pairs = joins.link(parent, SECOND)
    assert [int.from_bytes(child.id[16:], "big") for _, child in pairs] == list(range(501, 1001))
    list(joins.settle(10 * SECOND))
    assert (joins.missed, len(joins._waiting), len(joins._spans)) == (501, 0, 0)
