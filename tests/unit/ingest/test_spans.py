"""Payloads to rows: the same from protobuf and JSON, errors and targets as the conventions have them, rubbish left out."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dslmodel.ingest.spans import AttributeLimits, adjusted_count, decode_spans
from dslmodel.records import Encoding, Kind, Payload, Signal
from dslmodel.testing import SpanFactory, at, payload

make = SpanFactory(5).span


def decoded(spans, encoding=Encoding.PROTOBUF, **resource):
    (found,) = decode_spans(payload(spans, encoding=encoding, **resource))
    return found


def from_json(document) -> list:
    item = Payload(signal=Signal.TRACES, encoding=Encoding.JSON, body=b"", message=document, received_at=at(0), source="test")
    return [row for resource in decode_spans(item) for row in resource.rows]


def document(**span) -> dict:
    fields = {"traceId": "ab" * 16, "spanId": "cd" * 8, "startTimeUnixNano": "5", "endTimeUnixNano": "9", **span}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [{key: value for key, value in fields.items() if value is not None}]}]}]}


ENCODINGS = pytest.mark.parametrize("encoding", list(Encoding))


@ENCODINGS
def test_row_holds_what_the_span_says(encoding):
    root = make("GET /", at(1), 20, kind=Kind.SERVER, trace_state="ot=th:8")
    call = make("GET", at(1.001), 10, kind=Kind.CLIENT, parent=root, attributes={"server.address": "db", "server.port": 5432})
    found = decoded([root, call], encoding, service="web", instance="web-1", version="3")
    assert (found.service, found.instance, found.version, found.is_own) == ("web", "web-1", "3", False)
    one, other = found.rows
    assert (one.trace_id.hex(), one.span_id.hex(), one.parent_id) == (root.trace_id, root.span_id, b"")
    assert (one.name, one.kind, one.started_at, one.ended_at, one.weight) == ("GET /", 2, at(1), at(1.02), 2.0)
    assert other.parent_id.hex() == root.span_id
    assert other.target == "db:5432"


# ---------------------------------------------------------------- errors

ERRORS = {
    "unset": ({}, False),
    "ok": ({"status": "ok"}, False),
    "status error": ({"status": "error"}, True),
    "server 500": ({"kind": Kind.SERVER, "attributes": {"http.response.status_code": 500}}, True),
    "server 503, old name, as text": ({"kind": Kind.SERVER, "attributes": {"http.status_code": "503"}}, True),
    "server 404": ({"kind": Kind.SERVER, "attributes": {"http.response.status_code": 404}}, False),
    "client 500 says nothing about the client": ({"kind": Kind.CLIENT, "attributes": {"http.response.status_code": 500}}, False),
    "handled exception": ({"events": [("exception", {"exception.type": "E"})]}, False),
    "escaped exception": ({"events": [("exception", {"exception.escaped": True})]}, True),
    "escaped exception, as text": ({"events": [("exception", {"exception.escaped": "true"})]}, True),
    "other event": ({"events": [("retry", {"exception.escaped": True})]}, False),
}


@ENCODINGS
@pytest.mark.parametrize("name", sorted(ERRORS))
def test_error_is_status_server_5xx_or_an_escaped_exception(name, encoding):
    details, is_error = ERRORS[name]
    assert decoded([make("a", at(1), 5, **details)], encoding).rows[0].is_error is is_error


# ---------------------------------------------------------------- targets


@ENCODINGS
@pytest.mark.parametrize(
    ("attributes", "target"),
    [
        ({"peer.service": "db", "server.address": "10.0.0.1"}, "db"),
        ({"server.address": "10.0.0.1", "server.port": 80}, "10.0.0.1:80"),
        ({"net.peer.name": "db"}, "db"),
        ({"db.system": "postgresql"}, "postgresql"),
        ({"messaging.system": "kafka"}, "kafka"),
        ({"server.address": ""}, ""),
        ({}, ""),
        ({"server.address": "x" * 5000}, "x" * 200),
    ],
)
def test_target_is_the_best_name_that_a_call_has(attributes, target, encoding):
    assert decoded([make("a", at(1), 5, kind=Kind.CLIENT, attributes=attributes)], encoding).rows[0].target == target


def test_only_calls_have_a_target():
    assert decoded([make("a", at(1), 5, kind=Kind.SERVER, attributes={"server.address": "me"})]).rows[0].target == ""


# ---------------------------------------------------------------- resources


@ENCODINGS
def test_service_without_a_name_is_unknown(encoding):
    assert decoded([make("a", at(1), 5)], encoding, service="").service == "unknown_service"


@ENCODINGS
def test_own_spans_are_marked_by_their_resource(encoding):
    item = payload([make("a", at(1), 5)], encoding=encoding)
    if encoding is Encoding.JSON:
        item.message["resourceSpans"][0]["resource"]["attributes"].append({"key": "dslmodel.own", "value": {"boolValue": True}})
    else:
        item.message.resource_spans[0].resource.attributes.add(key="dslmodel.own").value.bool_value = True
    (found,) = decode_spans(item)
    assert found.is_own


# ---------------------------------------------------------------- sampling


@pytest.mark.parametrize(
    ("tracestate", "count"),
    [
        ("", 1.0),
        ("ot=th:0", 1.0),
        ("ot=th:8", 2.0),
        ("ot=th:c", 4.0),
        ("ot=th:e6666666666668", pytest.approx(10.0)),
        ("vendor=1, ot=rv:abc;th:8 ,x=y", 2.0),
        ("ot=th:xyz", 1.0),
        ("ot=th:", 1.0),
        ("ot=th:123456789abcdef", 1.0),  # longer than 56 bits
        ("ot=th:-8", 1.0),
        ("ot=th:+8", 1.0),
        ("ot=th:1_8", 1.0),
        ("ot=th: 8", 1.0),
        ("th:8", 1.0),
        ("=;:,", 1.0),
    ],
)
def test_adjusted_count_is_the_threshold_s(tracestate, count):
    assert adjusted_count(tracestate) == count


@given(st.text(alphabet="oth=:;,0123456789abcdefx -+_", max_size=40))
def test_adjusted_count_of_anything_is_a_finite_number_of_at_least_one(text):
    count = adjusted_count(text)
    assert math.isfinite(count)
    assert count >= 1.0


# ---------------------------------------------------------------- rubbish

REJECTED = {
    "no trace id": {"traceId": None},
    "zero trace id": {"traceId": "0" * 32},
    "short trace id": {"traceId": "ab"},
    "trace id that is no hex": {"traceId": "zz" * 16},
    "zero span id": {"spanId": "0" * 16},
    "span id of another type": {"spanId": 7},
    "end before start": {"endTimeUnixNano": "4"},
    "start before the epoch": {"startTimeUnixNano": "-1"},
}


@pytest.mark.parametrize("name", sorted(REJECTED))
def test_invalid_span_is_left_out(name):
    assert from_json(document(**REJECTED[name])) == []


TOLERATED = {
    "times as numbers": {"startTimeUnixNano": 5, "endTimeUnixNano": 9},
    "kind as a name": {"kind": "SPAN_KIND_SERVER"},
    "kind that nobody knows": {"kind": 77},
    "kind of another type": {"kind": [2]},
    "status of another type": {"status": "ERROR"},
    "attributes of another type": {"kind": 3, "attributes": {"a": 1}},
    "attribute without a value": {"kind": 3, "attributes": [{"key": "server.address"}, 5, {"value": {}}]},
    "events of another type": {"events": "exception"},
    "name of another type": {"name": 5},
    "parent of another type": {"parentSpanId": 5},
    "tracestate of another type": {"traceState": 5},
    "numbers that are none": {"kind": 2, "attributes": [{"key": "http.response.status_code", "value": {"doubleValue": float("nan")}}]},
}


@pytest.mark.parametrize("name", sorted(TOLERATED))
def test_span_with_one_odd_field_is_taken(name):
    (row,) = from_json(document(**TOLERATED[name]))
    assert (row.started_at, row.ended_at) == (5, 9)
    assert not row.is_error


def test_status_by_name_is_an_error():
    (row,) = from_json(document(status={"code": "STATUS_CODE_ERROR"}))
    assert row.is_error


@pytest.mark.parametrize("whole", [{}, {"resourceSpans": None}, {"resourceSpans": [5]}, {"resourceSpans": [{"scopeSpans": {"a": 1}}]}])
def test_document_without_spans_gives_none(whole):
    assert from_json(whole) == []


def test_protobuf_and_json_of_the_same_spans_give_the_same_rows():
    spans = [make("a", at(i), i, kind=kind, status=status) for i, kind in enumerate(Kind) for status in ("unset", "ok", "error")]
    assert decoded(spans, Encoding.PROTOBUF).rows == decoded(spans, Encoding.JSON).rows


@pytest.mark.parametrize("encoding", list(Encoding))
def test_attributes_over_the_limit_are_not_read_and_counted(encoding):
    many = {f"a{i}": "x" for i in range(9)}
    call = make("call", 0, 1, kind=Kind.CLIENT, attributes={**many, "server.address": "db"})
    item = payload([call, make("plain", 0, 1)], encoding=encoding)
    (found,) = decode_spans(item, AttributeLimits(most=9))
    assert (found.rows[0].target, found.attributes_left_out) == ("", 1)
    (found,) = decode_spans(item, AttributeLimits(most=10))
    assert (found.rows[0].target, found.attributes_left_out) == ("db", 0)


@pytest.mark.parametrize("encoding", list(Encoding))
def test_a_value_over_the_limit_is_not_read(encoding):
    item = payload([make("call", 0, 1, kind=Kind.CLIENT, attributes={"server.address": "d" * 11})], encoding=encoding)
    assert [found.rows[0].target for found in decode_spans(item, AttributeLimits(longest=10))] == [""]
    assert [found.rows[0].target for found in decode_spans(item, AttributeLimits(longest=11))] == ["d" * 11]


@pytest.mark.parametrize("times", [{"endTimeUnixNano": "soon"}, {"startTimeUnixNano": -1}, {"traceId": "ab " * 10 + "ab"}])
def test_span_that_the_receiver_rejects_is_left_out(times):
    assert from_json(document(**times)) == []


def test_rejected_spans_are_counted_with_their_resource():
    item = document()
    spans = item["resourceSpans"][0]["scopeSpans"][0]["spans"]
    spans.append({**spans[0], "spanId": "0" * 16})
    message = Payload(signal=Signal.TRACES, encoding=Encoding.JSON, body=b"", message=item, received_at=at(0), source="test")
    (found,) = decode_spans(message)
    assert (len(found.rows), found.rejected) == (1, 1)
