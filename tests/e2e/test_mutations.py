"""Broken payloads against both receivers, in a process of their own: no crash, no hang, the right answers, memory flat."""

import http.client
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.status_pb2 import Status

from dslmodel.records import Encoding, Signal
from tests.e2e.mutations import Case, cases

MIB = 1 << 20
CONTENT_TYPES = {Encoding.PROTOBUF: "application/x-protobuf", Encoding.JSON: "application/json"}
METHODS = {
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    Signal.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
# RESOURCE_EXHAUSTED stands for too large (413) here: the queue is drained all the time.
CODES = {grpc.StatusCode.OK: 200, grpc.StatusCode.INVALID_ARGUMENT: 400, grpc.StatusCode.RESOURCE_EXHAUSTED: 413}
# Where a request can end; each one ends in exactly one of them.
ENDS = {"requests", "undecodable", "too_large", "unsupported", "aborted", "timed_out", "overloaded", "queue_full", "unauthenticated"}
LONG = 50_000


class Server:
    """The receivers' process."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("receiver_process.py")
        self.process = subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ports = self._line()
        self.http_port, self.target = ports["http"], f"127.0.0.1:{ports['grpc']}"

    def state(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        return self._line()

    def stop(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(20)

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    if started.process.poll() is None:
        started.stop()


def send_http(connection: http.client.HTTPConnection, case: Case) -> int:
    """Send over one kept connection; checks that the answer is what OTLP says."""
    headers = {"content-type": CONTENT_TYPES[case.encoding], **({"content-encoding": case.coding} if case.coding else {})}
    connection.request("POST", f"/v1/{case.signal}", case.body, headers)
    response = connection.getresponse()
    body = response.read()
    assert response.getheader("content-type") == CONTENT_TYPES[case.encoding]
    if case.encoding is Encoding.JSON:
        assert isinstance(json.loads(body), dict)
    elif response.status != 200:
        assert Status.FromString(body).message
    return response.status


def send_grpc(calls: dict[Signal, Any], case: Case) -> int:
    try:
        calls[case.signal](case.body, timeout=20)
    except grpc.RpcError as error:
        return CODES[error.code()]
    return 200


def run(server: Server, count: int, seed: int) -> dict[str, Any]:
    """Half of the cases that have a choice go over each receiver. Returns figures."""
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=20)
    channel = grpc.insecure_channel(server.target)
    calls = {signal: channel.unary_unary(method) for signal, method in METHODS.items()}
    wrong: list[str] = []
    statuses: Counter[str] = Counter()
    memory: list[int] = []
    slowest = 0.0
    for i, case in enumerate(cases(count, seed)):
        is_grpc = case.encoding is Encoding.PROTOBUF and not case.coding and i % 4 != 0
        started = time.monotonic()
        status = send_grpc(calls, case) if is_grpc else send_http(connection, case)
        slowest = max(slowest, time.monotonic() - started)
        statuses[f"{'grpc' if is_grpc else 'http'} {status}"] += 1
        if status not in case.expected | {503}:
            wrong.append(f"{i} {case.how} {case.signal} {case.encoding} {case.coding}: {status}, right: {sorted(case.expected)}")
        if i % max(1, count // 20) == 0:
            memory.append(server.state()["rss"] // MIB)
    connection.close()
    channel.close()
    return {
        "wrong": wrong,
        "statuses": dict(sorted(statuses.items())),
        "memory_mib": memory,
        "slowest_seconds": round(slowest, 3),
        **server.state(),
    }


def check(server: Server, count: int, seed: int) -> None:
    figures = run(server, count, seed)
    print(json.dumps({key: value for key, value in figures.items() if key != "wrong"}))
    assert figures["wrong"] == []
    assert figures["failures"] == []
    assert figures["slowest_seconds"] < 5
    memory = figures["memory_mib"]
    assert max(memory) < 400
    if count >= LONG:  # once caches and malloc's arenas have filled, memory stays where it is
        assert max(memory[len(memory) // 2 :]) < max(memory[: len(memory) // 2]) + 30
    counted = sum(n for key, n in figures["counts"].items() if key.rpartition(" ")[2] in ENDS)
    assert counted == sum(figures["statuses"].values()) == count, "each request is counted exactly once"
    # The largest requests fill the small queue for a moment; that answer must stay the exception.
    assert figures["statuses"].get("http 503", 0) <= count // 1000
    assert server.stop() == 0


def test_three_thousand_broken_payloads(server: Server) -> None:
    check(server, 3_000, seed=1)


@pytest.mark.long
def test_a_hundred_thousand_broken_payloads(server: Server) -> None:
    check(server, 100_000, seed=2)
