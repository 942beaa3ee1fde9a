"""OTLP/JSON back to protobuf: nothing changes on the way there and back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dslmodel.ingest.otlp_json import REQUESTS, to_json
from dslmodel.ingest.otlp_protobuf import to_protobuf
from dslmodel.records import Encoding, Kind, Signal
from dslmodel.testing import at, gauges, logs, payload, span

_leaves = st.one_of(
    st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), st.floats(allow_nan=False), st.text(max_size=8), st.binary(max_size=8)
)
_values = st.recursive(
    _leaves, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3))
)


@given(st.dictionaries(st.text(max_size=8), _values, max_size=5), st.sampled_from(list(Kind)))
def test_any_span_survives_the_round_trip(attributes: dict[str, Any], kind: Kind) -> None:
    sent = payload([span("é", at(0), 1, kind=kind, attributes=attributes, events=[("e", attributes)], parent_id="ab" * 8)])
    message, skipped = to_protobuf(to_json(sent.message, Signal.TRACES), Signal.TRACES)
    assert skipped == 0
    assert message == sent.message


@pytest.mark.parametrize("sent", [gauges({"a": 1.5, "b": float("inf")}, at(0)), logs([1, 17], at(0))], ids=["metrics", "logs"])
def test_metrics_and_logs_survive_the_round_trip(sent: Any) -> None:
    message, skipped = to_protobuf(to_json(sent.message, sent.signal), sent.signal)
    assert (message, skipped) == (sent.message, 0)


def _span(**fields: Any) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": [fields]}]}]}


@pytest.mark.parametrize(
    ("fields", "name", "expected"),
    [
        ({"traceId": "AB" * 16}, "trace_id", b"\xab" * 16),
        ({"startTimeUnixNano": 5}, "start_time_unix_nano", 5),
        ({"startTimeUnixNano": "5"}, "start_time_unix_nano", 5),
        ({"startTimeUnixNano": 5.0}, "start_time_unix_nano", 5),
        ({"kind": 2}, "kind", 2),
        ({"kind": "SPAN_KIND_SERVER"}, "kind", 2),
        ({"kind": 99}, "kind", 99),
        ({"name": None}, "name", ""),
        ({"unknown": [1], "name": "a"}, "name", "a"),
        ({"start_time_unix_nano": 5}, "start_time_unix_nano", 0),
    ],
)
def test_fields_are_read_as_otlp_writes_them(fields: dict[str, Any], name: str, expected: Any) -> None:
    message, skipped = to_protobuf(_span(**fields), Signal.TRACES)
    read: Any = message
    assert getattr(read.resource_spans[0].scope_spans[0].spans[0], name) == expected
    assert skipped == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"traceId": "xyz"},
        {"traceId": 5},
        {"name": 5},
        {"kind": "NONE"},
        {"kind": []},
        {"startTimeUnixNano": "soon"},
        {"startTimeUnixNano": -1},
        {"startTimeUnixNano": 1 << 64},
        {"startTimeUnixNano": True},
        {"startTimeUnixNano": 1.5},
        {"attributes": {}},
        {"attributes": [5]},
        {"status": []},
        {"attributes": [{"value": {"boolValue": "yes"}}]},
        {"attributes": [{"value": {"bytesValue": "!"}}]},
        {"attributes": [{"value": {"doubleValue": "much"}}]},
    ],
)
def test_a_field_of_a_wrong_type_is_left_out_and_counted(fields: dict[str, Any]) -> None:
    message, skipped = to_protobuf(_span(flags=1, **fields), Signal.TRACES)
    read: Any = message
    assert skipped == 1
    assert read.resource_spans[0].scope_spans[0].spans[0].flags == 1


def test_absent_and_empty_values_stay_apart() -> None:
    sent = payload([span("a", at(0), 1, attributes={"empty": "", "zero": 0, "no": False})], encoding=Encoding.JSON)
    message, _ = to_protobuf(sent.message, Signal.TRACES)
    assert REQUESTS[Signal.TRACES].FromString(message.SerializeToString()) == message
    read: Any = message
    kinds = [pair.value.WhichOneof("value") for pair in read.resource_spans[0].scope_spans[0].spans[0].attributes]
    assert kinds == ["string_value", "int_value", "bool_value"]
