from dataclasses import replace

import orjson
import pytest

from dslmodel.errors import IngestError
from dslmodel.ingest.lines import Header, known_at, newest_time, read_document, read_header_document, write_document, write_header
from dslmodel.records import Change, Command, CoordinationEvent, Encoding, MeasuredEdge, MeasuredWindow, Payload, Signal
from dslmodel.testing import at, gauges, logs, payload, span

WINDOW = {"start": "2026-01-01T00:00:00Z", "width_seconds": 60, "service": "cart"}
EDGE = {"start": "2026-01-01T00:00:00Z", "width_seconds": 300, "client": "web", "server": "cart"}


def _through_a_line(item):
    (back,) = read_document(orjson.loads(orjson.dumps(write_document(item))))
    return back


def test_a_line_of_spans_is_received_at_its_newest_span_end():
    item = payload([span("a", at(0), 5000), span("b", at(1), 1000)], encoding=Encoding.JSON)
    (read,) = read_document(item.message)
    assert isinstance(read, Payload)
    assert (read.signal, read.encoding, read.received_at, read.source) == (Signal.TRACES, Encoding.JSON, at(5), "replay")


@pytest.mark.parametrize("item", [gauges({"x": 1.0}, at(3), encoding=Encoding.JSON), logs([9], at(3), encoding=Encoding.JSON)])
def test_metrics_and_logs_are_received_at_their_newest_time(item):
    assert newest_time(item.message, item.signal) == at(3)
    assert known_at(read_document(item.message)[0]) == at(3)


def test_a_log_record_without_its_own_time_has_the_time_it_was_observed():
    document = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": "0", "observedTimeUnixNano": str(at(9))}]}]}]}
    assert newest_time(document, Signal.LOGS) == at(9)


def test_the_receipt_that_was_recorded_wins_over_the_times_of_the_data():
    item = payload([span("a", at(0), 5000)], encoding=Encoding.JSON)
    (read,) = read_document({"receivedAtUnixNano": str(at(77)), **item.message})
    assert known_at(read) == at(77)


def test_time_does_not_run_back_within_a_recording():
    item = payload([span("a", at(0), 5000)], encoding=Encoding.JSON)
    (read,) = read_document(item.message, not_before=at(60))
    assert known_at(read) == at(60)


def test_a_line_without_any_time_is_received_with_the_one_before():
    (read,) = read_document({"resourceSpans": []}, not_before=at(60))
    assert known_at(read) == at(60)


def test_a_line_may_carry_several_signals():
    document = payload([span("a", at(0), 1)], encoding=Encoding.JSON).message | gauges({"x": 1.0}, at(3), encoding=Encoding.JSON).message
    assert [item.signal for item in read_document(document)] == [Signal.TRACES, Signal.METRICS]


def test_a_window_row_is_known_at_its_end_and_nulls_are_not_measured():
    row = WINDOW | {"instance": None, "count": None, "error_ratio": 0.25, "latency_ms": {"p50": 3, "p99": None}}
    (window,) = read_document(row)
    assert window == MeasuredWindow(
        started_at=at(0),
        width_seconds=60,
        service="cart",
        instance=None,
        operation=None,
        count=None,
        error_ratio=0.25,
        latency_ms={"p50": 3.0},
        client_latency_ms={},
    )
    assert known_at(window) == at(60)


def test_an_edge_row_needs_no_numbers():
    (edge,) = read_document(EDGE)
    assert edge == MeasuredEdge(
        started_at=at(0), width_seconds=300, client="web", server="cart", client_latency_ms={}, server_latency_ms={}
    )
    assert known_at(edge) == at(300)


@pytest.mark.parametrize(
    "item",
    [
        CoordinationEvent(
            kind="work",
            name="work_7.json",
            change=Change.WRITTEN,
            document={"id": "7", "n": 0.1, "deep": [{"a": None}]},
            modified_at=at(1),
            received_at=at(2),
        ),
        CoordinationEvent(kind="agent", name="agent_7.json", change=Change.DELETED, document={}, modified_at=at(1), received_at=at(2)),
        Command(name="baseline_reset", arguments={"service": None}, received_at=at(2)),
        MeasuredWindow(
            started_at=at(0.123456789),
            width_seconds=0.5,
            service="cart",
            instance="cart-1",
            operation="GET /",
            count=3.5,
            error_ratio=0.1,
            latency_ms={"p50": 1 / 3},
            client_latency_ms={"p99": 2.0},
        ),
        MeasuredEdge(started_at=at(0), width_seconds=60, client="web", server="cart", client_latency_ms={"p50": 0.1}, server_latency_ms={}),
        payload([span("a", at(0), 5)], encoding=Encoding.JSON),
        gauges({"x": 0.1}, at(1), encoding=Encoding.JSON),
        logs([17], at(1), encoding=Encoding.JSON),
    ],
)
def test_what_is_written_reads_back_the_same(item):
    back = _through_a_line(item)
    if isinstance(item, Payload):
        assert {key: value for key, value in back.message.items() if key != "receivedAtUnixNano"} == item.message
        item, back = replace(item, message=None, body=b"", source=""), replace(back, message=None, body=b"", source="")
    assert back == item


def test_a_protobuf_payload_is_written_as_the_same_spans_in_json():
    spans = [span("a", at(0), 5, attributes={"http.status": 200, "ok": True})]
    written = write_document(payload(spans, received_at=at(9)))
    assert written == {"receivedAtUnixNano": str(at(9)), **payload(spans, encoding=Encoding.JSON).message}


def test_a_payload_that_is_only_bytes_is_decoded_to_be_written():
    spans = [span("a", at(0), 5)]
    for item in (payload(spans), payload(spans, encoding=Encoding.JSON)):
        assert write_document(replace(item, message=None)) == write_document(item)


def test_an_empty_json_request_still_tells_its_signal():
    item = replace(logs([], at(0), encoding=Encoding.JSON), message={}, body=b"{}")
    assert _through_a_line(item).signal is Signal.LOGS


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "expected a JSON object"),
        ({"a": 1}, "no known shape: it has a; expected resourceSpans"),
        ({}, "it has no keys"),
        ({"resourceSpans": {}}, "resourceSpans: expected an array"),
        ({"resourceSpans": [7]}, r"resourceSpans\[0\]: expected an object"),
        ({"resourceSpans": [], "receivedAtUnixNano": "soon"}, "receivedAtUnixNano: 'soon', must be nanoseconds"),
        ({"resourceSpans": [], "receivedAtUnixNano": True}, "receivedAtUnixNano: True"),
        (WINDOW | {"start": "noon"}, "start: 'noon' is not a time"),
        (WINDOW | {"width_seconds": 0}, "width_seconds: 0, must be a positive number"),
        (WINDOW | {"service": ""}, "service: expected text"),
        (WINDOW | {"error_ratio": 1.5}, "error_ratio: 1.5, must be within 0..1"),
        (WINDOW | {"count": -1}, "count: -1, must not be negative"),
        (WINDOW | {"count": "many"}, "count: expected a number or null, found 'many'"),
        (WINDOW | {"latency_ms": [1]}, "latency_ms: expected an object"),
        (WINDOW | {"latency_ms": {"p50": "x"}}, "p50: expected a number"),
        ({key: value for key, value in EDGE.items() if key != "server"}, "server: expected text, found None"),
        ({"coordination": {"change": "eaten"}}, "coordination.change: 'eaten', must be one of written, deleted"),
        ({"coordination": []}, "coordination: expected an object"),
        ({"command": {"name": "ack", "arguments": {"id": 7}}}, "command.arguments.id: expected text or null, found 7"),
    ],
)
def test_what_cannot_be_used_is_said_with_its_place_and_value(document, says):
    with pytest.raises(IngestError, match=says):
        read_document(document)


def test_a_header_reads_back_as_written():
    header = Header(version="1.2", settings={"window_seconds": 60.0}, baselines=b"\x00\xff", started_at=at(0))
    assert read_header_document(orjson.loads(orjson.dumps(write_header(header)))) == header
    assert read_header_document(write_header(Header(ended_at=at(5)))) == Header(ended_at=at(5))
    assert read_header_document({"resourceSpans": []}) is None


def test_a_header_with_broken_baselines_is_refused():
    with pytest.raises(IngestError, match=r"dslmodel\.baselines: not base64"):
        read_header_document({"dslmodel": {"baselines": "%%%"}})
