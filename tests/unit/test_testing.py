import pytest

from dslmodel.ingest.otlp import check
from dslmodel.records import Encoding, Kind, Signal
from dslmodel.settings import Settings
from dslmodel.testing import START, SpanFactory, at, clock_at, gauges, logs, payload, span


def test_built_spans_are_what_the_receivers_accept():
    spans = [span("a", at(0), 5, status="error", events=[("exception", {"exception.escaped": True})])]
    for encoding in Encoding:
        item = payload(spans, encoding=encoding)
        checked = check(item.body, signal=Signal.TRACES, encoding=encoding, limits=Settings().limits)
        assert (checked.items, checked.rejected) == (1, 0)
        assert checked.message == item.message


def test_ids_depend_on_the_seed_and_the_place_only():
    one, other = SpanFactory(seed=3), SpanFactory(seed=3)
    assert [one.span("a", at(0), 1) for _ in range(3)] == [other.span("a", at(0), 1) for _ in range(3)]
    assert SpanFactory(seed=3).span("a", at(0), 1).span_id != SpanFactory(seed=4).span("a", at(0), 1).span_id


def test_a_child_is_in_its_parents_trace():
    parent = span("a", at(0), 5, kind=Kind.SERVER)
    child = span("b", at(0), 5, parent=parent)
    assert (child.trace_id, child.parent_id) == (parent.trace_id, parent.span_id)
    assert child.span_id != parent.span_id


def test_receipt_is_the_newest_end_unless_it_is_given():
    spans = [span("a", at(0), 5000), span("b", at(0), 1000)]
    assert payload(spans).received_at == at(5)
    assert payload(spans, received_at=at(9)).received_at == at(9)
    assert payload([]).received_at == START
    assert clock_at(5).now() == gauges({"x": 1.0}, at(5)).received_at == logs([9], at(5)).received_at


def test_mistakes_in_a_test_are_said():
    with pytest.raises(ValueError, match="status='bad': must be one of unset, ok, error"):
        span("a", at(0), 1, status="bad")
    with pytest.raises(TypeError, match="can't be an attribute's value"):
        payload([span("a", at(0), 1, attributes={"x": object()})])
