import base64
import math
from typing import Any

import orjson
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from dslmodel.ingest.otlp_json import REQUESTS, ROOT_KEYS, decode, to_json
from dslmodel.records import Signal

_INTEGERS = {
    FieldDescriptor.TYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.TYPE_SINT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.TYPE_UINT64: (0, (1 << 64) - 1),
    FieldDescriptor.TYPE_FIXED64: (0, (1 << 64) - 1),
    FieldDescriptor.TYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.TYPE_SINT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.TYPE_ENUM: (0, 30),
    FieldDescriptor.TYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.TYPE_FIXED32: (0, (1 << 32) - 1),
}


def _scalar(draw: Any, field: FieldDescriptor) -> Any:
    if field.type in _INTEGERS:
        low, high = _INTEGERS[field.type]
        return draw(st.integers(low, high))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return draw(st.binary(max_size=20))
    if field.type == FieldDescriptor.TYPE_STRING:
        return draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
    if field.type == FieldDescriptor.TYPE_BOOL:
        return draw(st.booleans())
    value: float = draw(st.floats())
    return value if not math.isnan(value) else math.nan  # JSON knows one nan


def _fill(draw: Any, message: Message, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None and depth == 0:
            continue
        if not draw(st.integers(0, 3 if depth < 5 else 1)):
            continue
        if field.is_repeated:
            target = getattr(message, field.name)
            for _ in range(draw(st.integers(1, 2))):
                if field.message_type is not None:
                    _fill(draw, target.add(), depth - 1)
                else:
                    target.append(_scalar(draw, field))
        elif field.message_type is not None:
            child = getattr(message, field.name)
            child.SetInParent()
            _fill(draw, child, depth - 1)
        else:
            setattr(message, field.name, _scalar(draw, field))


@st.composite
def requests(draw: Any, signal: Signal) -> Message:
    message = REQUESTS[signal]()
    _fill(draw, message, draw(st.integers(0, 6)))
    return message


def _ids_in_base64(node: Any) -> Any:
    """The reference decoder takes bytes in base64 only."""
    if isinstance(node, list):
        return [_ids_in_base64(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: base64.b64encode(bytes.fromhex(value)).decode() if key in {"traceId", "spanId", "parentSpanId"} else _ids_in_base64(value)
        for key, value in node.items()
    }


def _same(one: Message, other: Message) -> bool:
    # Text tells nan from nan, and -0.0 from 0.0, where == does not.
    return one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)


@pytest.mark.parametrize("signal", list(Signal))
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_request_reads_back_as_it_was(signal, data):
    message = data.draw(requests(signal))
    document = orjson.loads(orjson.dumps(to_json(message, signal)))
    assert [key for key in document if key in ROOT_KEYS] == [next(key for key, value in ROOT_KEYS.items() if value is signal)]
    assert _same(ParseDict(_ids_in_base64(document), REQUESTS[signal]()), message)


def test_doubles_that_json_has_no_word_for_are_named():
    request = REQUESTS[Signal.METRICS]()
    points = request.resource_metrics.add().scope_metrics.add().metrics.add().gauge.data_points
    for value in (math.nan, math.inf, -math.inf, 0.1, 0.0):
        points.add(as_double=value)
    document = to_json(request, Signal.METRICS)
    written = [point["asDouble"] for point in document["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["gauge"]["dataPoints"]]
    assert written == ["NaN", "Infinity", "-Infinity", 0.1, 0.0]


def test_ids_are_hex_wide_integers_are_text_and_enumerations_numbers():
    request = REQUESTS[Signal.TRACES]()
    request.resource_spans.add().scope_spans.add().spans.add(
        trace_id=b"\x01" * 16, span_id=b"\xab" * 8, kind=2, start_time_unix_nano=1 << 63, flags=7
    )
    span = to_json(request, Signal.TRACES)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert span == {"traceId": "01" * 16, "spanId": "ab" * 8, "kind": 2, "startTimeUnixNano": str(1 << 63), "flags": 7}


def test_a_body_decodes_to_the_request_it_was():
    request = REQUESTS[Signal.LOGS]()
    request.resource_logs.add().scope_logs.add().log_records.add(severity_number=17)
    assert decode(request.SerializeToString(), Signal.LOGS) == request
