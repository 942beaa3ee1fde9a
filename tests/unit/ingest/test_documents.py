import io
import json
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode

from dslmodel.errors import IngestError
from dslmodel.ingest.documents import Batch
from dslmodel.ingest.otlp_shape import json_spans
from dslmodel.records import Encoding, Signal
from dslmodel.testing import at, gauges, logs, payload, span

SPAN = {"name": "work", "start_time": "2026-01-01T00:00:00Z"}


class Seen:
    def __init__(self):
        self.keys = set()

    def is_new(self, key):
        known = key in self.keys
        self.keys.add(key)
        return not known


def _requests(*documents, **options):
    batch = Batch(service="coordination", **options)
    for document in documents:
        batch.add(document)
    return batch.requests()


def _span(document):
    ((signal, request),) = _requests(document)
    assert signal is Signal.TRACES
    assert json_spans(request) == (1, 0)  # the receivers' own check: one span, a valid one
    return request["resourceSpans"][0]["scopeSpans"][0]["spans"][0]


def _service(document):
    ((_, request),) = _requests(document)
    attributes = request["resourceSpans"][0]["resource"]["attributes"]
    return {item["key"]: item["value"]["stringValue"] for item in attributes}["service.name"]


# ---------------------------------------------------------------- plain spans


def test_a_name_and_a_time_are_enough():
    span = _span(SPAN)
    assert (span["name"], span["kind"], span["status"]) == ("work", 1, {"code": 0})
    assert span["startTimeUnixNano"] == span["endTimeUnixNano"] == str(at(0))
    assert "parentSpanId" not in span


@pytest.mark.parametrize(
    "times",
    [
        {"start_time": at(0) / 1e9, "end_time": at(2) / 1e9},
        {"startTime": at(0) // 10**6, "duration_ms": 2000},
        {"started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:02Z"},
        {"timestamp": at(0) // 1000, "duration_s": 2.0},
        {"end_time": at(2), "duration": 2000},
        {"startTimeUnixNano": str(at(0)), "endTimeUnixNano": str(at(2))},
        {"start": datetime(2026, 1, 1, tzinfo=UTC), "duration_ns": 2_000_000_000},
    ],
)
def test_times_and_durations_are_told_by_name_and_size(times):
    span = _span({"name": "work"} | times)
    assert (int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])) == (at(0), at(2))


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ({"status": "ERROR"}, 2),
        ({"status": "StatusCode.ERROR"}, 2),
        ({"status": "STATUS_CODE_ERROR"}, 2),
        ({"status": "failed"}, 2),
        ({"status": False}, 2),
        ({"status": 2}, 2),
        ({"status": 503}, 2),
        ({"status": {"code": 2}}, 2),
        ({"status": {"status_code": "ERROR", "description": "x"}}, 2),
        ({"status_code": "ERROR"}, 2),
        ({"success": False}, 2),
        ({"error": "boom"}, 2),
        ({"tags": {"error": True}}, 2),
        ({"tags": [{"key": "otel.status_code", "type": "string", "value": "ERROR"}]}, 2),
        ({"status": "OK"}, 1),
        ({"status": True}, 1),
        ({"status": "completed"}, 1),
        ({"status": 200}, 0),
        ({"status": "running"}, 0),
        ({"status": None}, 0),
        ({"error": False}, 0),
        ({"error": "false"}, 0),
        ({"success": True}, 0),
        ({"status": "OK", "error": "handled"}, 1),
    ],
)
def test_a_status_is_understood_however_it_is_written(written, code):
    assert _span(SPAN | written)["status"]["code"] == code


@pytest.mark.parametrize("written", ["SERVER", "server", "SpanKind.SERVER", "SPAN_KIND_SERVER", 2])
def test_a_kind_is_understood_however_it_is_written(written):
    assert _span(SPAN | {"kind": written})["kind"] == 2


@pytest.mark.parametrize("written", ["nonsense", 17, None, True, [], {}])
def test_an_unknown_kind_is_internal(written):
    assert _span(SPAN | {"kind": written})["kind"] == 1


@pytest.mark.parametrize(
    "written",
    [
        {"service": "cart"},
        {"service": {"name": "cart"}},
        {"service_name": "cart"},
        {"resource": "cart"},
        {"resource": {"service.name": "cart"}},
        {"resource": {"attributes": {"service.name": "cart"}}},
        {"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "cart"}}]}},
        {"process": {"serviceName": "cart", "tags": []}},
        {"attributes": {"service.name": "cart"}},
    ],
)
def test_the_service_is_found_where_it_is_named(written):
    assert _service(SPAN | written) == "cart"


def test_a_span_that_names_no_service_gets_the_default():
    assert _service(SPAN) == "coordination"


def test_ids_are_kept_where_they_are_hex_and_stay_equal_where_they_are_not():
    given_ids = _span(SPAN | {"trace_id": "0x" + "AB" * 16, "span_id": "cd" * 8, "parent_id": "ef" * 8})
    assert (given_ids["traceId"], given_ids["spanId"], given_ids["parentSpanId"]) == ("ab" * 16, "cd" * 8, "ef" * 8)
    assert _span(SPAN | {"trace_id": "abc"})["traceId"] == "abc".rjust(32, "0")
    assert _span(SPAN | {"trace_id": "12345678-1234-5678-1234-567812345678"})["traceId"] == "12345678" + "1234567812345678" + "12345678"
    parent, child = _span(SPAN | {"span_id": "step-1"}), _span(SPAN | {"span_id": "step-2", "parent_id": "step-1"})
    assert child["parentSpanId"] == parent["spanId"]


def test_missing_ids_come_from_the_content():
    assert _span(SPAN) == _span(dict(reversed(SPAN.items())))
    assert _span(SPAN)["traceId"] != _span(SPAN | {"name": "other"})["traceId"]


def test_equal_spans_of_one_document_are_different_spans():
    ((_, request),) = _requests([SPAN, SPAN])
    one, other = request["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert one["spanId"] != other["spanId"]


def test_values_of_every_kind_become_attributes():
    attributes = {
        "a": True,
        "b": 7,
        "c": 0.5,
        "d": "x",
        "e": [1, "y"],
        "f": {"g": 1},
        "h": None,
        "i": 1 << 70,
        "j": datetime(2026, 1, 1, tzinfo=UTC),
    }
    assert _span(SPAN | {"attributes": attributes})["attributes"] == [
        {"key": "a", "value": {"boolValue": True}},
        {"key": "b", "value": {"intValue": "7"}},
        {"key": "c", "value": {"doubleValue": 0.5}},
        {"key": "d", "value": {"stringValue": "x"}},
        {"key": "e", "value": {"arrayValue": {"values": [{"intValue": "1"}, {"stringValue": "y"}]}}},
        {"key": "f", "value": {"kvlistValue": {"values": [{"key": "g", "value": {"intValue": "1"}}]}}},
        {"key": "i", "value": {"stringValue": str(1 << 70)}},
        {"key": "j", "value": {"stringValue": "2026-01-01 00:00:00+00:00"}},
    ]


def test_text_that_utf_8_cannot_hold_is_mended():
    span = _span(SPAN | {"name": "a\ud800", "attributes": {"b\ud800": "c\ud800"}})
    assert (span["name"], span["attributes"]) == ("a?", [{"key": "b?", "value": {"stringValue": "c?"}}])


def test_what_the_sdk_prints_is_understood():
    out = io.StringIO()
    provider = TracerProvider(resource=Resource({"service.name": "cart", "service.instance.id": "cart-1"}))
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=out, formatter=lambda item: item.to_json(indent=None) + "\n")))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("parent", kind=SpanKind.SERVER), tracer.start_as_current_span("child") as child:
        child.set_status(Status(StatusCode.ERROR, "broken"))
        child.record_exception(ValueError("broken"))
    provider.shutdown()
    ((_, request),) = _requests(*[json.loads(line) for line in out.getvalue().splitlines()])
    (resource,) = request["resourceSpans"]
    inner, outer = resource["scopeSpans"][0]["spans"]
    assert {"key": "service.instance.id", "value": {"stringValue": "cart-1"}} in resource["resource"]["attributes"]
    assert (outer["name"], outer["kind"], outer["status"]["code"]) == ("parent", 2, 0)
    assert (inner["traceId"], inner["parentSpanId"]) == (outer["traceId"], outer["spanId"])
    assert inner["status"] == {"code": 2, "message": "broken"}
    assert inner["events"][0]["name"] == "exception"
    assert json_spans(request) == (2, 0)


# ---------------------------------------------------------------- Jaeger

ROW = {
    "traceID": "abcdef",
    "spanID": "0000000000000002",
    "operationName": "GET /",
    "references": [{"refType": "CHILD_OF", "traceID": "abcdef", "spanID": "0000000000000001"}],
    "startTime": at(0) // 1000,
    "duration": 1500,
    "tags": [{"key": "span.kind", "type": "string", "value": "client"}, {"key": "error", "type": "bool", "value": True}],
}


def test_a_jaeger_row_counts_in_microseconds_and_its_tags_say_kind_and_error():
    span = _span(ROW | {"process": {"serviceName": "web"}})
    assert (span["traceId"], span["spanId"], span["parentSpanId"]) == ("abcdef".rjust(32, "0"), "2".rjust(16, "0"), "1".rjust(16, "0"))
    assert int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"]) == 1_500_000
    assert (span["kind"], span["status"]["code"]) == (3, 2)


def test_a_jaeger_export_gives_each_row_its_process():
    trace = {"traceID": "abcdef", "spans": [ROW | {"processID": "p1"}], "processes": {"p1": {"serviceName": "web", "tags": []}}}
    assert _service({"data": [trace]}) == "web"
    assert _service(trace) == "web"


# ---------------------------------------------------------------- metrics and OTLP


def test_metrics_become_gauges_at_their_time():
    document = {"id": "t1", "timestamp": at(5) / 1e9, "service": "cart", "metrics": {"cpu": {"percent": 12.5}, "jobs": 3, "name": "x"}}
    ((signal, request),) = _requests(document)
    assert signal is Signal.METRICS
    metrics = request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
    named = {metric["name"]: metric["gauge"]["dataPoints"][0] for metric in metrics}
    assert set(named) == {"cpu.percent", "jobs"}
    assert (named["cpu.percent"]["asDouble"], named["jobs"]["asInt"]) == (12.5, "3")
    assert named["jobs"]["timeUnixNano"] == str(at(5))


def test_otlp_requests_go_through_as_they_are():
    items = [payload([span("a", at(0), 1)], encoding=Encoding.JSON), gauges({"x": 1.0}, at(0), encoding=Encoding.JSON)]
    items.append(logs([17], at(0), encoding=Encoding.JSON))
    assert _requests(*[item.message for item in items]) == [(item.signal, item.message) for item in items]


def test_small_otlp_requests_are_put_together():
    documents = [payload([span(name, at(0), 1)], encoding=Encoding.JSON).message for name in "abc"]
    ((_, request),) = _requests(*documents)
    assert request == {"resourceSpans": [resource for document in documents for resource in document["resourceSpans"]]}


def test_spans_of_several_services_share_one_request():
    ((_, request),) = _requests(SPAN | {"service": "a"}, SPAN | {"service": "b"}, SPAN | {"service": "a", "name": "more"})
    assert [len(resource["scopeSpans"][0]["spans"]) for resource in request["resourceSpans"]] == [2, 1]


# ---------------------------------------------------------------- history, repetition, refusal


def test_history_is_left_out_and_counted():
    batch = Batch(service="s", not_before=at(10))
    batch.add([SPAN, SPAN | {"start_time": at(11)}, {"timestamp": at(1), "metrics": {"x": 1}}])
    batch.add(payload([span("a", at(1), 1)], encoding=Encoding.JSON).message)
    assert (batch.history, batch.taken) == (3, 1)


def test_a_document_that_is_written_anew_with_more_in_it_counts_once():
    seen = Seen()
    spans = [span("a", at(0), 1), span("b", at(0), 1)]
    documents = [[SPAN], {"timestamp": at(1), "metrics": {"x": 1}}, payload(spans[:1], encoding=Encoding.JSON).message]
    first, second = Batch(service="s", novelty=seen), Batch(service="s", novelty=seen)
    for document in documents:
        first.add(document)
    documents = [[SPAN, SPAN | {"name": "more"}], documents[1], payload(spans, encoding=Encoding.JSON).message]
    for document in documents:
        second.add(document)
    assert (first.taken, first.repeated) == (3, 0)
    assert (second.taken, second.repeated) == (2, 3)
    assert sum(json_spans(request)[0] for signal, request in second.requests() if signal is Signal.TRACES) == 2


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("text", "expected a JSON object, found 'text'"),
        (None, "expected a JSON object"),
        ([7], "expected a JSON object, found 7"),
        ({}, "no known shape: it has no keys"),
        ({"a": 1, "b": 2}, "no known shape: it has a, b; expected OTLP/JSON"),
        ({"name": "work"}, "no known shape"),
        ({"name": "work", "start_time": "noon"}, "start_time: 'noon' is not a time"),
        (SPAN | {"end_time": "2025-01-01T00:00:00Z"}, "must not end before it starts"),
        (SPAN | {"duration_ms": -1}, "duration_ms: -1, must be a number, not negative"),
        (SPAN | {"duration_ms": "1"}, "duration_ms: '1', must be a number"),
        ({"metrics": {"x": 1}}, "timestamp: None is not a time"),
        ({"timestamp": at(0), "metrics": {"x": "much"}}, "none of the values is a number"),
        ({"resourceSpans": {"a": 1}}, "resourceSpans: expected an array"),
        ({"spans": [7], "processes": {}}, "expected a JSON object, found 7"),
    ],
)
def test_what_cannot_be_used_is_said(document, says):
    with pytest.raises(IngestError, match=says):
        _requests(document)


def test_of_a_document_with_bad_parts_the_good_ones_are_taken():
    batch = Batch(service="s")
    rows = {"spans": [ROW, 7, ROW | {"startTime": "noon"}, ROW | {"spanID": "3"}], "processes": {}}
    complaints = batch.add_usable([SPAN, 7, SPAN | {"name": ""}, rows])
    assert batch.taken == 3
    assert len(complaints) == 4
    assert "'noon' is not a time" in complaints[3]


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_fields = [
    *("name", "trace_id", "traceID", "span_id", "id", "parent_id", "parent", "start_time", "end_time", "timestamp", "duration_ms"),
    *("duration", "status", "error", "success", "kind", "attributes", "tags", "events", "logs", "resource", "service", "process"),
    *("references", "context", "metrics", "spans", "data", "resourceSpans", "resourceMetrics", "resourceLogs"),
]


@given(st.dictionaries(st.sampled_from(_fields), _json, max_size=6), st.booleans())
def test_no_document_is_worse_than_an_ingest_error(document, is_span):
    batch = Batch(service="s", novelty=Seen())
    try:
        batch.add(SPAN | document if is_span else document)
    except IngestError:
        return
    for _, request in batch.requests():
        orjson.dumps(request)
