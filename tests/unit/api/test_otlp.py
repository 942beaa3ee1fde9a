"""OTLP/HTTP answers, one request at a time, without a server."""

import asyncio
import gzip
import json
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from dslmodel.api.otlp import OtlpApp, is_bearer
from dslmodel.api.otlp_answer import export_response, http_error
from dslmodel.ingest.buffer import Buffer
from dslmodel.ingest.reception import Count, CountKey, ReceiverStats, Reception, Transport
from dslmodel.records import Encoding, Signal
from dslmodel.settings import Limits
from dslmodel.testing import at, payload, span

PROTOBUF, JSON = "application/x-protobuf", "application/json"


@dataclass
class Kept:
    """A forwarder that keeps what it is offered."""

    offers: list[tuple[Signal, Encoding, bytes]] = field(default_factory=list)

    def offer(self, signal: Signal, encoding: Encoding, body: bytes) -> None:
        self.offers.append((signal, encoding, body))


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """Calls the app as a server would."""

    def __init__(self, *, items: int = 10, token: str | None = None, seconds: float = 5.0, limits: Limits | None = None) -> None:
        limits = limits or Limits(body_bytes=10_000, inflated_bytes=100_000)
        self.buffer = Buffer(items=items, size=limits.queue_bytes)
        self.stats = ReceiverStats()
        self.kept = Kept()
        reception = Reception(buffer=self.buffer, limits=limits, stats=self.stats, forward=self.kept)
        self.app = OtlpApp(reception, token=token, body_seconds=seconds)

    def send(self, *chunks: bytes, path: str = "/v1/traces", method: str = "POST", ends: bool = True, **headers: str) -> Answer | None:
        events: list[dict[str, Any]] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
        events.append({"type": "http.request", "more_body": False} if ends else {"type": "http.disconnect"})
        return asyncio.run(self._send(events, path, method, headers))

    async def _send(self, events: list[dict[str, Any]], path: str, method: str, headers: dict[str, str]) -> Answer | None:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if events[0]["type"] == "http.stall":
                await asyncio.sleep(60)
            return events.pop(0)

        async def send(event: Any) -> None:
            sent.append(event)

        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        await self.app({"type": "http", "path": path, "method": method, "headers": raw}, receive, send)
        if not sent:
            return None
        return Answer(sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}, sent[1]["body"])

    def count(self, count: Count) -> int:
        return self.stats.total(count, transport=Transport.HTTP)


def body(encoding: Encoding = Encoding.PROTOBUF) -> bytes:
    return payload([span("op", at(0), 1)], encoding=encoding).body


def status_message(answer: Answer) -> str:
    """The text of a google.rpc.Status in the encoding that the answer says."""
    if answer.headers["content-type"] == JSON:
        return str(json.loads(answer.body)["message"])
    return Status.FromString(answer.body).message


@pytest.mark.parametrize(("encoding", "content_type", "expected"), [(Encoding.PROTOBUF, PROTOBUF, b""), (Encoding.JSON, JSON, b"{}")])
def test_success_answers_in_the_request_encoding(encoding: Encoding, content_type: str, expected: bytes) -> None:
    client = Client()
    answer = client.send(body(encoding), content_type=f"{content_type.upper()}; charset=utf-8")
    assert answer is not None
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, content_type, expected)
    assert client.count(Count.ITEMS) == 1
    assert client.buffer.stats().accepted == {"traces": 1}


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"path": "/v1/trace"}, 404),
        ({"path": "/v1/traces/"}, 404),
        ({"path": "/"}, 404),
        ({"method": "GET"}, 405),
        ({"method": "PUT"}, 405),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": ""}, 415),
        ({"content_encoding": "br"}, 415),
        ({"content_encoding": "gzip"}, 400),
        ({"content_length": "10001"}, 413),
    ],
)
@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
def test_refusals_carry_a_status_message(how: dict[str, Any], expected: int, content_type: str) -> None:
    client = Client()
    answer = client.send(body(), **{"content_type": content_type, **how})
    assert answer is not None
    assert answer.status == expected
    assert answer.headers["content-type"] == (content_type if how.get("content_type") is None else JSON)
    assert status_message(answer)
    assert ("allow" in answer.headers) == (expected == 405)
    assert client.buffer.stats().items == 0


def test_rubbish_is_400_with_a_bad_request_detail() -> None:
    client = Client()
    answer = client.send(b"\xff\xff", content_type=PROTOBUF)
    assert answer is not None
    status, detail = Status.FromString(answer.body), BadRequest()
    assert (answer.status, status.code) == (400, 3)
    assert status.details[0].Unpack(detail)
    answer = client.send(b"[]", content_type=JSON)
    assert answer is not None
    assert json.loads(answer.body)["details"][0]["fieldViolations"][0]["description"] == "body: expected a JSON object, got an array"
    assert client.count(Count.UNDECODABLE) == 2


def test_body_over_the_limit_is_413_as_it_arrives_and_inflated() -> None:
    client = Client()
    for sent in ([bytes(6000), bytes(6000)], [gzip.compress(bytes(100_001))]):
        answer = client.send(*sent, content_type=PROTOBUF, content_encoding="gzip")
        assert answer is not None
        assert answer.status == 413
    assert client.count(Count.TOO_LARGE) == 2


@pytest.mark.parametrize(("encoding", "content_type"), [(Encoding.PROTOBUF, PROTOBUF), (Encoding.JSON, JSON)])
def test_full_queue_is_503_with_retry_after(encoding: Encoding, content_type: str) -> None:
    client = Client(items=1)
    client.send(body(), content_type=PROTOBUF)
    answer = client.send(body(encoding), content_type=content_type)
    assert answer is not None
    assert (answer.status, int(answer.headers["retry-after"]) >= 1) == (503, True)
    assert status_message(answer).startswith("the queue is full")
    assert (client.count(Count.QUEUE_FULL), client.count(Count.QUEUE_FULL_ITEMS)) == (1, 1)
    assert len(client.kept.offers) == 1


def test_partial_success_in_both_encodings() -> None:
    client = Client()
    spans = [span("good", at(0), 1), span("bad", at(0), -1)]
    answer = client.send(payload(spans).body, content_type=PROTOBUF)
    assert answer is not None
    assert ExportTraceServiceResponse.FromString(answer.body).partial_success.rejected_spans == 1
    answer = client.send(payload(spans, encoding=Encoding.JSON).body, content_type=JSON)
    assert answer is not None
    assert (answer.status, json.loads(answer.body)["partialSuccess"]["rejectedSpans"]) == (200, "1")
    assert (client.count(Count.ITEMS), client.count(Count.REJECTED_ITEMS)) == (2, 2)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "Basic secret", "secret", "Bearer secret2"])
def test_wrong_token_is_401_before_the_body_is_looked_at(header: str) -> None:
    client = Client(token="secret")
    answer = client.send(b"\xff", content_type=PROTOBUF, authorization=header)
    assert answer is not None
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert client.count(Count.UNAUTHENTICATED) == 1
    assert client.count(Count.UNDECODABLE) == 0


@pytest.mark.parametrize("header", ["Bearer secret", "bearer  secret ", "BEARER secret"])
def test_right_token_is_accepted(header: str) -> None:
    assert is_bearer(header.encode(), b"secret")


def test_sender_that_goes_away_gets_no_answer_and_is_counted() -> None:
    client = Client()
    assert client.send(b"\x0a", content_type=PROTOBUF, ends=False) is None
    assert client.count(Count.ABORTED) == 1


def test_body_that_takes_too_long_is_408() -> None:
    client = Client(seconds=0.01)
    events = [{"type": "http.request", "body": b"a", "more_body": True}, {"type": "http.stall"}]
    answer = asyncio.run(client._send(events, "/v1/logs", "POST", {"content_type": PROTOBUF}))
    assert answer is not None
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert client.stats.snapshot() == {CountKey(Transport.HTTP, Signal.LOGS, Count.TIMED_OUT): 1}


def test_forwarder_is_offered_what_was_accepted_uncompressed_and_as_it_came() -> None:
    client = Client()
    sent = body(Encoding.JSON)
    client.send(gzip.compress(sent), content_type=JSON, content_encoding="gzip")
    client.send(b"\xff", content_type=PROTOBUF)
    assert client.kept.offers == [(Signal.TRACES, Encoding.JSON, sent)]
    assert client.count(Count.BYTES) == len(gzip.compress(sent))


def test_budget_is_given_back_after_every_end() -> None:
    client = Client(limits=Limits(body_bytes=1024, inflated_bytes=2048))
    for _ in range(20):
        client.send(bytes(1000), content_type=PROTOBUF)
        client.send(bytes(1000), content_type=PROTOBUF, ends=False)
        client.send(bytes(1000), bytes(1000), content_type=PROTOBUF)
    assert client.count(Count.OVERLOADED) == 0


def test_lifespan_is_answered() -> None:
    async def run() -> list[str]:
        events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        sent: list[str] = []

        async def receive() -> dict[str, str]:
            return events.pop(0)

        async def send(event: Any) -> None:
            sent.append(event["type"])

        await Client().app({"type": "lifespan"}, receive, send)
        return sent

    assert asyncio.run(run()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


# ---------------------------------------------------------------- the bytes of answers


@pytest.mark.parametrize(
    ("signal", "message", "name", "json_name"),
    [
        (Signal.TRACES, ExportTraceServiceResponse, "rejected_spans", "rejectedSpans"),
        (Signal.METRICS, ExportMetricsServiceResponse, "rejected_data_points", "rejectedDataPoints"),
        (Signal.LOGS, ExportLogsServiceResponse, "rejected_log_records", "rejectedLogRecords"),
    ],
)
def test_partial_success_uses_the_field_of_its_signal(signal: Signal, message: Any, name: str, json_name: str) -> None:
    partial = message.FromString(export_response(signal, Encoding.PROTOBUF, rejected=3, reason="why")).partial_success
    assert (getattr(partial, name), partial.error_message) == (3, "why")
    assert orjson.loads(export_response(signal, Encoding.JSON, rejected=3, reason="why")) == {
        "partialSuccess": {json_name: "3", "errorMessage": "why"}
    }


@pytest.mark.parametrize("status", [400, 401, 404, 405, 408, 413, 415, 503])
def test_errors_say_the_same_in_both_encodings(status: int) -> None:
    protobuf = Status.FromString(http_error(status, "text", Encoding.PROTOBUF))
    document = json.loads(http_error(status, "text", Encoding.JSON))
    assert (protobuf.code, protobuf.message) == (document["code"], document["message"])
