"""What was recorded means the same to the readers of payloads as what was received: else a replay would differ from the live run."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dslmodel.ingest.lines import read_document, write_document
from dslmodel.ingest.resources import log_counts, resource_samples
from dslmodel.ingest.spans import decode_spans
from dslmodel.records import Kind, Payload
from dslmodel.testing import SpanFactory, at, gauges, logs, payload

_values = st.one_of(
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.binary(max_size=4),
    st.lists(st.integers(0, 9), max_size=2),
)
_names = [
    "http.response.status_code",
    "http.status_code",
    "peer.service",
    "server.address",
    "server.port",
    "db.system",
    "exception.escaped",
    "x",
]
_attributes = st.dictionaries(st.sampled_from(_names), st.one_of(_values, st.sampled_from([200, 404, 500, 503])), max_size=4)
_spans = st.builds(
    dict,
    name=st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    start=st.integers(at(0), at(10)),
    duration_ms=st.floats(-1, 5000),
    kind=st.sampled_from(Kind),
    status=st.sampled_from(["unset", "ok", "error"]),
    trace_state=st.sampled_from(["", "ot=th:8", "ot=th:fffff;rv:0123456789abcd", "x=y,ot=th:c", "ot=th:nonsense"]),
    attributes=_attributes,
    events=st.lists(st.tuples(st.sampled_from(["exception", "log"]), _attributes), max_size=2),
)


def recorded(item: Payload) -> Payload:
    (back,) = read_document(orjson.loads(orjson.dumps(write_document(item))))
    assert isinstance(back, Payload)
    assert (back.signal, back.received_at) == (item.signal, item.received_at)
    return back


@given(st.lists(_spans, max_size=4), st.text(st.characters(exclude_categories=["Cs"]), max_size=6))
@settings(max_examples=40, deadline=None)
def test_spans_read_the_same_from_the_wire_and_from_a_recording(details, service):
    factory = SpanFactory()
    item = payload([factory.span(**detail) for detail in details], service=service, instance="1", version="2", received_at=at(60))
    received = [replace(resource, rows=tuple(resource.rows)) for resource in decode_spans(item)]
    assert [replace(resource, rows=tuple(resource.rows)) for resource in decode_spans(recorded(item))] == received


@pytest.mark.parametrize("value", [0.0, 0.93, 1.0, 1e12, float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "name", ["system.memory.utilization", "process.memory.usage", "container.memory.usage", "system.filesystem.utilization"]
)
def test_resource_use_reads_the_same(name, value):
    item = gauges({name: value}, at(1), service="cart", instance="1", attributes={"system.memory.state": "used", "state": "used"})
    assert resource_samples(recorded(item)) == resource_samples(item)


def test_log_errors_read_the_same():
    item = logs([0, 5, 9, 17, 21], at(1), service="cart")
    assert log_counts(recorded(item)) == log_counts(item)
    assert [count.errors for count in log_counts(item)] == [2]
