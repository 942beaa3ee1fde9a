"""Bodies -> checked messages: every way to be wrong has its status."""

import gzip
import zlib
from typing import Any

import orjson
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from dslmodel.errors import IngestError
from dslmodel.ingest.otlp import check, inflate
from dslmodel.ingest.otlp_shape import is_id, unix_nano
from dslmodel.ingest.spans import decode_spans
from dslmodel.records import Encoding, Payload, Signal
from dslmodel.settings import Limits
from dslmodel.testing import at, gauges, logs, payload, span

LIMITS = Limits(body_bytes=1 << 20, inflated_bytes=1 << 20, queue_bytes=8 << 20)
BOTH = list(Encoding)


def status_of(body: bytes, *, signal: Signal = Signal.TRACES, encoding: Encoding = Encoding.JSON, limits: Limits = LIMITS) -> int:
    try:
        check(body, signal=signal, encoding=encoding, limits=limits)
    except IngestError as error:
        return error.status
    return 200


def spans_json(*spans: Any) -> bytes:
    return orjson.dumps({"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]})


# ---------------------------------------------------------------- decompression


@pytest.mark.parametrize(
    ("packed", "coding"),
    [
        (b"text", ""),
        (b"text", "identity"),
        (gzip.compress(b"text"), "gzip"),
        (gzip.compress(b"te") + gzip.compress(b"xt"), "gzip"),
        (gzip.compress(b"text") + bytes(100), "gzip"),
        (zlib.compress(b"text"), "deflate"),
        (zlib.compress(b"text")[2:-4], "deflate"),
    ],
)
def test_inflate_reads_what_senders_write(packed: bytes, coding: str) -> None:
    assert inflate(packed, coding=coding, limit=100) == b"text"


@pytest.mark.parametrize(
    ("packed", "coding", "status"),
    [
        (b"text", "br", 415),
        (b"text", "gzip", 400),
        (b"", "gzip", 400),
        (gzip.compress(b"text")[:-5], "gzip", 400),
        (gzip.compress(b"text") + b"rubbish", "gzip", 400),
        (gzip.compress(bytes(1001)), "gzip", 413),
        (gzip.compress(bytes(600)) * 2, "gzip", 413),
        (gzip.compress(b"") * 20, "gzip", 400),
    ],
)
def test_inflate_refuses_with_the_right_status(packed: bytes, coding: str, status: int) -> None:
    with pytest.raises(IngestError) as caught:
        inflate(packed, coding=coding, limit=1000)
    assert caught.value.status == status


def test_inflate_takes_exactly_the_limit() -> None:
    assert len(inflate(gzip.compress(bytes(1000)), coding="gzip", limit=1000)) == 1000


# ---------------------------------------------------------------- accepted


@pytest.mark.parametrize("encoding", BOTH)
def test_items_of_every_signal_are_counted(encoding: Encoding) -> None:
    traces = payload([span("a", at(0), 1), span("b", at(0), 1)], encoding=encoding)
    metrics = gauges({"a": 1.0, "b": 2.0, "c": 3.0}, at(0), encoding=encoding)
    records = logs([1, 2, 3, 4], at(0), encoding=encoding)
    counts = [check(item.body, signal=item.signal, encoding=encoding, limits=LIMITS).items for item in (traces, metrics, records)]
    assert counts == [2, 3, 4]


@pytest.mark.parametrize(
    ("body", "encoding"), [(b"", Encoding.PROTOBUF), (b"{}", Encoding.JSON), (b'{"resourceSpans":null}', Encoding.JSON)]
)
@pytest.mark.parametrize("signal", list(Signal))
def test_empty_requests_are_accepted(body: bytes, encoding: Encoding, signal: Signal) -> None:
    assert check(body, signal=signal, encoding=encoding, limits=LIMITS).items == 0


@pytest.mark.parametrize("encoding", BOTH)
def test_invalid_spans_are_counted_and_skipped_by_the_decoder_alike(encoding: Encoding) -> None:
    spans = [
        span("good", at(0), 5),
        span("no trace id", at(0), 5, trace_id=""),
        span("short span id", at(0), 5, span_id="abcd"),
        span("zero trace id", at(0), 5, trace_id="0" * 32),
        span("zero span id", at(0), 5, span_id="0" * 16),
        span("backwards", at(0), -5),
        span("instant", at(0), 0),
    ]
    sent = payload(spans, encoding=encoding)
    checked = check(sent.body, signal=Signal.TRACES, encoding=encoding, limits=LIMITS)
    assert (checked.items, checked.rejected) == (7, 5)
    assert checked.reason.startswith("5 of 7 spans")
    queued = Payload(signal=Signal.TRACES, encoding=encoding, body=sent.body, message=checked.message, received_at=0, source="test")
    assert [row.name for resource in decode_spans(queued) for row in resource.rows] == ["good", "instant"]


@pytest.mark.parametrize(
    "change",
    [
        {"traceId": "g" * 32},
        {"traceId": 5},
        {"traceId": "ab " * 10 + "ab"},
        {"spanId": None},
        {"startTimeUnixNano": "soon"},
        {"startTimeUnixNano": True},
        {"startTimeUnixNano": 1.5},
        {"startTimeUnixNano": -1},
        {"endTimeUnixNano": str(1 << 64)},
        {"endTimeUnixNano": []},
    ],
)
def test_json_spans_with_unusable_ids_or_times_are_rejected(change: dict[str, Any]) -> None:
    good = {"traceId": "AB" * 16, "spanId": "cd" * 8, "startTimeUnixNano": "1", "endTimeUnixNano": 2, "unknown": {"a": 1}}
    checked = check(spans_json(good, good | change), signal=Signal.TRACES, encoding=Encoding.JSON, limits=LIMITS)
    assert (checked.items, checked.rejected) == (2, 1)


@pytest.mark.parametrize(
    ("value", "expected"), [("7", 7), (7, 7), (7.0, 7), (None, 0), ("", None), ("٣", None), (1e300, None), ("1" * 5000, None)]
)
def test_unix_nano_reads_text_and_numbers(value: Any, expected: int | None) -> None:
    assert unix_nano(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [("aB" * 8, True), ("0" * 16, False), ("a" * 15, False), ("a" * 15 + "\n", False), (1, False)]
)
def test_ids_are_hex_in_either_case(value: Any, expected: bool) -> None:
    assert is_id(value, 16) is expected


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b"null",
        b"{'a':1}",
        b'{"resourceSpans":5}',
        b'{"resourceSpans":[5]}',
        b'{"resourceSpans":[null]}',
        b'{"resourceSpans":[{"resource":[]}]}',
        b'{"resourceSpans":[{"resource":{"attributes":{}}}]}',
        b'{"resourceSpans":[{"scopeSpans":{}}]}',
        b'{"resourceSpans":[{"scopeSpans":["a"]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":true}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[NaN]}]}]}',
        b'{"resourceSpans":"\xff"}',
        b"[" * 50_000,
    ],
)
def test_json_rubbish_is_400(body: bytes) -> None:
    assert status_of(body) == 400


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x05abc", b"\x0a\xff\xff\xff\xff\x0f", b"plain text", b"\x00\x01"])
def test_protobuf_rubbish_is_400(body: bytes) -> None:
    assert status_of(body, encoding=Encoding.PROTOBUF) == 400


def test_metrics_with_wrong_containers_are_400() -> None:
    for inner in ({"gauge": []}, {"sum": {"dataPoints": {}}}, {"histogram": {"dataPoints": [1]}}):
        body = orjson.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [inner]}]}]})
        assert status_of(body, signal=Signal.METRICS) == 400


def test_the_place_of_a_wrong_type_is_named() -> None:
    with pytest.raises(IngestError, match=r"resourceSpans\[0\].scopeSpans\[0\].spans\[1\]: expected an object, got text"):
        check(spans_json({}, "x"), signal=Signal.TRACES, encoding=Encoding.JSON, limits=LIMITS)


@pytest.mark.parametrize("key", ["arrayValue", "kvlistValue", "\\u0061rrayValue"])
@pytest.mark.parametrize(("depth", "status"), [(64, 200), (65, 400), (200, 400)])
def test_nesting_of_json_values_is_limited(key: str, depth: int, status: int) -> None:
    value = f'{{"{key}":{{"values":[' * depth + "{}" + "]}}" * depth
    body = f'{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"attributes":[{{"key":"k","value":{value}}}]}}]}}]}}]}}'.encode()
    assert status_of(body) == status


@pytest.mark.parametrize("encoding", BOTH)
def test_more_than_the_inflated_limit_is_413(encoding: Encoding) -> None:
    assert status_of(bytes((1 << 20) + 1), encoding=encoding) == 413


def test_a_flood_of_tiny_messages_is_413_before_it_is_decoded() -> None:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for _ in range(100_000):
        spans.add()
    flood = request.SerializeToString()
    assert len(flood) < 250_000
    assert status_of(flood, encoding=Encoding.PROTOBUF) == 413
    assert status_of(b'{"resourceSpans":[' + b"{}," * 100_000 + b"{}]}") == 413


@pytest.mark.parametrize("encoding", BOTH)
def test_ordinary_batches_are_estimated_within_reason(encoding: Encoding) -> None:
    """A batch of 500 spans with 15 attributes must not be taken for a flood."""
    attributes = {f"http.attribute.{i}": f"value {i}" for i in range(12)} | {"a": True, "b": 1, "c": 200}
    sent = payload([span(f"op {i}", at(i), 5, attributes=attributes) for i in range(500)], encoding=encoding)
    checked = check(sent.body, signal=Signal.TRACES, encoding=encoding, limits=LIMITS)
    assert 3 * len(sent.body) < checked.size < 16 * len(sent.body)
