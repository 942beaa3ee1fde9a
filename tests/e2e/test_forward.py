"""What one receiver accepts arrives at the next, by gRPC and HTTP, in protobuf and JSON."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import httpx
import orjson
import pytest

from dslmodel.api.otlp import OtlpApp
from dslmodel.api.otlp_grpc import serve_grpc
from dslmodel.api.otlp_http import serve_http
from dslmodel.ingest.buffer import Buffer
from dslmodel.ingest.forward import Forwarder
from dslmodel.ingest.forward_senders import build_forwarder
from dslmodel.ingest.reception import Count, ReceiverStats, Reception
from dslmodel.ingest.spans import decode_spans
from dslmodel.records import Encoding, Payload, Signal
from dslmodel.settings import Forward, Limits
from dslmodel.testing import at, logs, payload, span

TYPES = {Encoding.PROTOBUF: "application/x-protobuf", Encoding.JSON: "application/json"}


class Node:
    """Both receivers, maybe in front of another."""

    def __init__(self, *, forward: Forwarder | None = None, items: int = 100, token: str | None = None) -> None:
        self.forward = forward
        self.stats = ReceiverStats()
        self.buffer = Buffer(items=items, size=1 << 26)
        reception = Reception(buffer=self.buffer, limits=Limits(), stats=self.stats, forward=forward)
        self.http = serve_http(OtlpApp(reception, token=token), port=0)
        self.grpc = serve_grpc(reception, port=0, token=token)

    def post(self, item: Payload) -> int:
        url = f"http://127.0.0.1:{self.http.port}/v1/{item.signal}"
        return httpx.post(url, content=item.body, headers={"content-type": TYPES[item.encoding]}).status_code

    def payloads(self) -> list[Payload]:
        return [item for item in self.buffer.drain(time.time_ns() + 1) if isinstance(item, Payload)]

    def stop(self) -> None:
        if self.forward is not None:
            self.forward.stop()
        self.http.stop()
        self.grpc.stop()


@contextmanager
def chain(protocol: str, *, items: int = 100) -> Iterator[tuple[Node, Node]]:
    last = Node(items=items, token="secret")
    port = last.grpc.port if protocol == "grpc" else last.http.port
    settings = Forward(endpoint=f"http://127.0.0.1:{port}", protocol=protocol, headers={"Authorization": "Bearer secret"})
    first = Node(forward=build_forwarder(settings))
    try:
        yield first, last
    finally:
        first.stop()
        last.stop()


def until_counted(node: Node, count: Count, number: int) -> None:
    deadline = time.monotonic() + 10
    while node.stats.total(count) < number:
        assert time.monotonic() < deadline, f"{count}: {node.stats.total(count)} of {number}"
        time.sleep(0.02)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_both_encodings_and_other_signals_arrive_unchanged(protocol: str) -> None:
    with chain(protocol) as (first, last):
        attributes = {"text": "é", "list": [1, 2.5, True], "bytes": b"\x00\xff", "map": {"a": "b"}}
        sent = [
            payload([span(f"by {encoding}", at(0), 5, attributes=attributes)], service="shop", encoding=encoding) for encoding in Encoding
        ]
        assert [first.post(item) for item in (*sent, logs([17], at(0)))] == [200, 200, 200]
        until_counted(last, Count.REQUESTS, 3)
        arrived = last.payloads()
        rows = [row for item in arrived if item.signal is Signal.TRACES for resource in decode_spans(item) for row in resource.rows]
        expected = [row for item in sent for resource in decode_spans(item) for row in resource.rows]
        assert rows == expected
        if protocol == "grpc":
            assert {item.encoding for item in arrived} == {Encoding.PROTOBUF}
        else:
            assert orjson.loads(arrived[1].body) == sent[1].message
        assert first.forward is not None
        first.forward.stop()
        assert first.forward.stats().sent == {"traces": 2, "logs": 1}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_full_endpoint_is_tried_again_after_the_time_it_names(protocol: str) -> None:
    with chain(protocol, items=1) as (first, last):
        for name in ("one", "two"):
            assert first.post(payload([span(name, at(0), 1)])) == 200
        until_counted(last, Count.QUEUE_FULL, 1)
        names = [row.name for item in last.payloads() for resource in decode_spans(item) for row in resource.rows]
        until_counted(last, Count.REQUESTS, 2)
        names += [row.name for item in last.payloads() for resource in decode_spans(item) for row in resource.rows]
        assert names == ["one", "two"]


def test_an_idle_connection_that_was_closed_is_opened_again_without_a_retry() -> None:
    with chain("http/protobuf") as (first, last):
        assert first.post(payload([span("one", at(0), 1)])) == 200
        until_counted(last, Count.REQUESTS, 1)
        time.sleep(5.5)
        assert first.post(payload([span("two", at(0), 1)])) == 200
        until_counted(last, Count.REQUESTS, 2)
        assert first.forward is not None
        assert first.forward.stats().retries == 0


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_dead_endpoint_slows_nobody_and_the_stop_is_prompt(protocol: str) -> None:
    settings = Forward(endpoint="http://127.0.0.1:9", protocol=protocol, timeout_seconds=1)
    node = Node(forward=build_forwarder(settings))
    started = time.monotonic()
    assert [node.post(payload([span("op", at(0), 1)])) for _ in range(20)] == [200] * 20
    with grpc.insecure_channel(f"127.0.0.1:{node.grpc.port}") as channel:
        call = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        assert call(payload([span("op", at(0), 1)]).body, timeout=10) == b""
    assert time.monotonic() - started < 3
    assert node.forward is not None
    node.forward.stop(0.5)
    assert node.forward.stats().dropped_late == {"traces": 21}
    node.stop()
    assert time.monotonic() - started < 10


def test_what_the_endpoint_refuses_for_good_is_not_sent_again() -> None:
    last = Node(token="secret")
    node = Node(forward=build_forwarder(Forward(endpoint=f"http://127.0.0.1:{last.grpc.port}")))
    assert node.post(payload([span("op", at(0), 1)])) == 200
    until_counted(last, Count.UNAUTHENTICATED, 1)
    node.stop()
    assert node.forward is not None
    assert node.forward.stats().dropped_refused == {"traces": 1}
    assert "UNAUTHENTICATED" in node.forward.stats().last_error
    last.stop()
