"""The receivers on real sockets: the stock OpenTelemetry exporters, raw sockets, stalls, floods, TLS."""

import gzip
import json
import socket
import ssl
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from dslmodel.api import otlp_http
from dslmodel.api.otlp import OtlpApp, Tls
from dslmodel.api.otlp_grpc import GrpcReceiver, serve_grpc
from dslmodel.api.otlp_http import HttpReceiver, serve_http
from dslmodel.errors import ConfigurationError
from dslmodel.ingest.buffer import Buffer
from dslmodel.ingest.reception import Count, ReceiverStats, Reception, Transport
from dslmodel.ingest.spans import decode_spans
from dslmodel.records import Encoding, Payload, Signal
from dslmodel.settings import Limits
from dslmodel.testing import at, gauges, logs, payload, span

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}


class Receivers:
    """Both receivers over one buffer that nobody drains."""

    def __init__(
        self, *, limits: Limits | None = None, items: int = 1000, token: str | None = None, seconds: float = 10.0, tls: Tls | None = None
    ) -> None:
        limits = limits or Limits(body_bytes=1 << 20, inflated_bytes=4 << 20)
        self.buffer = Buffer(items=items, size=limits.queue_bytes)
        self.stats = ReceiverStats()
        reception = Reception(buffer=self.buffer, limits=limits, stats=self.stats)
        app = OtlpApp(reception, token=token, body_seconds=seconds)
        self.http: HttpReceiver = serve_http(app, port=0, tls=tls)
        self.grpc: GrpcReceiver = serve_grpc(reception, port=0, token=token, tls=tls, body_seconds=seconds)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.http.port}"
        self.target = f"127.0.0.1:{self.grpc.port}"

    def post(self, path: str, body: bytes, **headers: str) -> httpx.Response:
        return httpx.post(self.url + path, content=body, headers={k.replace("_", "-"): v for k, v in headers.items()}, timeout=20)

    def call(self, body: bytes, *, method: str = TRACES, **options: Any) -> bytes:
        with grpc.insecure_channel(self.target, options=[("grpc.max_send_message_length", -1)]) as channel:
            answer: bytes = channel.unary_unary(method)(body, timeout=20, **options)
            return answer

    def payloads(self) -> list[Payload]:
        return [item for item in self.buffer.drain(time.time_ns() + 1) if isinstance(item, Payload)]

    def names(self) -> set[str]:
        return {row.name for item in self.payloads() for resource in decode_spans(item) for row in resource.rows}

    def stop(self) -> None:
        self.http.stop()
        self.grpc.stop()


@contextmanager
def running(**options: Any) -> Iterator[Receivers]:
    receivers = Receivers(**options)
    try:
        yield receivers
    finally:
        receivers.stop()


@pytest.fixture
def receivers() -> Iterator[Receivers]:
    with running() as started:
        yield started


def export(exporter: SpanExporter, name: str) -> None:
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span(name):
        pass
    assert provider.force_flush(10_000)
    provider.shutdown()


def body(count: int = 1) -> bytes:
    return payload([span(f"op {i}", at(i), 5) for i in range(count)]).body


# ---------------------------------------------------------------- stock exporters


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip, Compression.Deflate])
def test_stock_http_exporter_delivers_spans(receivers: Receivers, compression: Compression) -> None:
    export(HttpSpanExporter(f"{receivers.url}/v1/traces", compression=compression), "over http")
    assert receivers.names() == {"over http"}
    assert receivers.stats.total(Count.ITEMS, transport=Transport.HTTP, signal=Signal.TRACES) == 1


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
def test_stock_grpc_exporter_delivers_spans(receivers: Receivers, compression: Any) -> None:
    export(GrpcSpanExporter(receivers.target, insecure=True, compression=compression), "over grpc")
    assert receivers.names() == {"over grpc"}
    assert receivers.stats.total(Count.ITEMS, transport=Transport.GRPC, signal=Signal.TRACES) == 1


def test_stock_metric_exporter_delivers_points(receivers: Receivers) -> None:
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{receivers.url}/v1/metrics"))
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("test").create_counter("orders").add(3)
    assert provider.force_flush()
    provider.shutdown()
    assert {item.signal for item in receivers.payloads()} == {Signal.METRICS}


def test_stock_log_exporter_endpoint_answers_success(receivers: Receivers) -> None:
    assert OTLPLogExporter(f"{receivers.url}/v1/logs").export([]).name == "SUCCESS"


@pytest.mark.parametrize("name", ["metrics", "logs"])
def test_grpc_takes_metrics_and_logs(receivers: Receivers, name: str) -> None:
    sent = gauges({"system.memory.utilization": 0.5}, at(0)) if name == "metrics" else logs([17], at(0))
    method = f"/opentelemetry.proto.collector.{name}.v1.{name.title()}Service/Export"
    assert receivers.call(sent.body, method=method) == b""
    assert [item.body for item in receivers.payloads()] == [sent.body]


# ---------------------------------------------------------------- answers on the wire


def test_keep_alive_survives_every_kind_of_refusal(receivers: Receivers) -> None:
    """One connection: what was refused must not leave bytes behind that break the next request."""
    with httpx.Client(base_url=receivers.url, timeout=20) as client:
        good = body()
        assert client.post("/v1/traces", content=b"\xff" * (3 << 20), headers=PROTOBUF).status_code == 413
        assert client.post("/v1/traces", content=good, headers=PROTOBUF).status_code == 200
        assert client.post("/v1/traces", content=b"\xff", headers=PROTOBUF).status_code == 400
        assert client.post("/v1/traces", content=b"a" * 100_000, headers={"content-type": "text/plain"}).status_code == 415
        assert client.post("/v1/nothing", content=b"a" * 100_000, headers=PROTOBUF).status_code == 404
        assert client.get("/v1/traces").status_code == 405
        assert client.post("/v1/traces", content=iter([good[:5], good[5:]]), headers=PROTOBUF).status_code == 200
    assert len(receivers.payloads()) == 2


def test_chunked_body_over_the_limit_is_413(receivers: Receivers) -> None:
    chunks = (b"\0" * 65536 for _ in range(40))
    assert httpx.post(f"{receivers.url}/v1/traces", content=chunks, headers=PROTOBUF, timeout=20).status_code == 413


def test_zip_bomb_is_413_and_costs_no_memory(receivers: Receivers) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(500)) + packer.flush()
    assert receivers.post("/v1/traces", bomb, content_type="application/x-protobuf", content_encoding="gzip").status_code == 413
    with pytest.raises(grpc.RpcError) as caught:
        receivers.call(bytes(64 << 20), compression=grpc.Compression.Gzip)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert receivers.stats.total(Count.TOO_LARGE) + receivers.stats.total(Count.ABORTED, transport=Transport.GRPC) == 2


def test_grpc_message_over_the_limit_is_not_to_be_retried(receivers: Receivers) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        receivers.call(bytes(3 << 19))
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"]).details
    assert receivers.stats.total(Count.TOO_LARGE, transport=Transport.GRPC) == 1


def test_full_queue_is_503_with_retry_after_and_resource_exhausted_with_retry_info() -> None:
    with running(items=1) as receivers:
        assert receivers.call(body()) == b""
        for encoding, content_type in ((Encoding.PROTOBUF, "application/x-protobuf"), (Encoding.JSON, "application/json")):
            sent = payload([span("op", at(0), 1)], encoding=encoding)
            response = receivers.post("/v1/traces", sent.body, content_type=content_type)
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) >= 1
            assert response.headers["content-type"] == content_type
        with pytest.raises(grpc.RpcError) as caught:
            receivers.call(body(3))
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
        wait = RetryInfo()
        assert status.code == 8
        assert status.details[0].Unpack(wait)
        assert wait.retry_delay.seconds >= 1
        assert receivers.stats.total(Count.QUEUE_FULL) == 3
        assert receivers.stats.total(Count.QUEUE_FULL_ITEMS) == 5
        assert receivers.buffer.stats().dropped == {"traces": 3}


def test_stock_grpc_exporter_waits_and_retries_when_the_queue_is_full() -> None:
    with running(items=1) as receivers:
        receivers.call(body())
        timer = threading.Timer(0.5, receivers.payloads)
        timer.start()
        export(GrpcSpanExporter(receivers.target, insecure=True, timeout=10), "second try")
        timer.join()
        assert receivers.names() == {"second try"}


def test_partial_success_names_what_was_rejected(receivers: Receivers) -> None:
    sent = payload([span("good", at(0), 5), span("bad", at(0), 5, trace_id="0" * 32)]).body
    for answer in (receivers.call(sent), receivers.post("/v1/traces", sent, **{"content-type": "application/x-protobuf"}).content):
        response = ExportTraceServiceResponse.FromString(answer)
        assert response.partial_success.rejected_spans == 1
        assert "1 of 2 spans" in response.partial_success.error_message
    assert receivers.names() == {"good"}


def test_grpc_rubbish_is_invalid_argument_and_unknown_method_unimplemented(receivers: Receivers) -> None:
    for sent, method, code in (
        (b"\xff\xff\xff", TRACES, grpc.StatusCode.INVALID_ARGUMENT),
        (b"", "/opentelemetry.proto.collector.trace.v1.TraceService/Other", grpc.StatusCode.UNIMPLEMENTED),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            receivers.call(sent, method=method)
        assert caught.value.code() is code
    assert receivers.stats.total(Count.UNDECODABLE, transport=Transport.GRPC) == 1


def test_empty_requests_are_success(receivers: Receivers) -> None:
    assert receivers.call(b"") == b""
    assert receivers.post("/v1/traces", b"", content_type="application/x-protobuf").status_code == 200
    assert receivers.post("/v1/logs", b"{}", content_type="application/json").content == b"{}"


def test_token_is_asked_for_by_both() -> None:
    with running(token="secret") as receivers:
        response = receivers.post("/v1/traces", body(), content_type="application/x-protobuf", authorization="Bearer wrong")
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Bearer")
        with pytest.raises(grpc.RpcError) as caught:
            receivers.call(body())
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert receivers.stats.total(Count.UNAUTHENTICATED) == 2
        export(HttpSpanExporter(f"{receivers.url}/v1/traces", headers={"authorization": "Bearer secret"}), "http")
        export(GrpcSpanExporter(receivers.target, insecure=True, headers={"authorization": "Bearer secret"}), "grpc")
        assert receivers.names() == {"http", "grpc"}


# ---------------------------------------------------------------- raw sockets


def talk(port: int, *parts: bytes, shut: bool = False, timeout: float = 20) -> bytes:
    """Send the parts and read until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        for part in parts:
            connection.sendall(part)
        if shut:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while data := connection.recv(65536):
            received += data
        return received


HEAD = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01 rubbish\r\n\r\n", b"400"),
        (b"POST\r\n\r\n", b"400"),
        (HEAD + b"content-length: -5\r\n\r\n", b"400"),
        (HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", b"400"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (HEAD + b"content-length: 100\r\n\r\nshort", b"400"),
        (HEAD[:30], b"400"),
        (HEAD + b"content-length: 0\r\n\r\n", b"200"),
        (HEAD + b"content-length: 99999999999\r\nconnection: close\r\n\r\n", b"413"),
    ],
)
def test_every_broken_request_gets_an_answer(receivers: Receivers, sent: bytes, status: bytes) -> None:
    assert talk(receivers.http.port, sent, shut=True).startswith(b"HTTP/1.1 " + status)


def test_pipelined_requests_are_answered_in_order(receivers: Receivers) -> None:
    one = body()
    request = HEAD + b"content-length: %d\r\n\r\n" % len(one) + one
    received = talk(receivers.http.port, request * 3, shut=True)
    assert received.count(b"HTTP/1.1 200") == 3


def test_slow_body_gets_408_and_grpc_stall_is_ended() -> None:
    with running(seconds=0.5) as receivers:
        received = talk(receivers.http.port, HEAD + b"content-length: 10\r\n\r\n", b"12345")
        assert received.startswith(b"HTTP/1.1 408")
        with grpc.insecure_channel(receivers.target) as channel:
            stalled = threading.Event()

            def never() -> Iterator[bytes]:
                stalled.wait(20)
                yield b""

            with pytest.raises(grpc.RpcError) as caught:
                channel.stream_unary(TRACES)(never(), timeout=20)
            stalled.set()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert receivers.stats.total(Count.TIMED_OUT) == 2


def test_slow_head_gets_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_http, "HEAD_SECONDS", 0.4)
    with running() as receivers:
        assert talk(receivers.http.port, HEAD).startswith(b"HTTP/1.1 408")
        assert talk(receivers.http.port).startswith(b"HTTP/1.1 408")


def test_too_many_connections_get_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_http, "MAX_CONNECTIONS", 2)
    with running() as receivers:
        idle = [socket.create_connection(("127.0.0.1", receivers.http.port)) for _ in range(2)]
        try:
            time.sleep(0.2)
            received = talk(receivers.http.port)
            assert received.startswith(b"HTTP/1.1 503")
            json.loads(received.partition(b"\r\n\r\n")[2])
        finally:
            for connection in idle:
                connection.close()


def test_many_slow_uploads_are_bounded_by_a_budget() -> None:
    with running(limits=Limits(body_bytes=100_000), seconds=3) as receivers:
        statuses: list[bytes] = []

        def upload() -> None:
            received = talk(receivers.http.port, HEAD + b"content-length: 100000\r\n\r\n", bytes(90_000))
            statuses.append(received[9:12])

        threads = [threading.Thread(target=upload) for _ in range(8)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 10
        while receivers.stats.total(Count.OVERLOADED) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        for thread in threads:
            thread.join()
        assert statuses.count(b"503") == 4
        assert statuses.count(b"408") == 4
        assert receivers.post("/v1/traces", body(), content_type="application/x-protobuf").status_code == 200


def test_sender_that_goes_away_is_counted(receivers: Receivers) -> None:
    with socket.create_connection(("127.0.0.1", receivers.http.port)) as connection:
        connection.sendall(HEAD + b"content-length: 10\r\n\r\n12345")
        time.sleep(0.1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    deadline = time.monotonic() + 5
    while not receivers.stats.total(Count.ABORTED) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert receivers.stats.total(Count.ABORTED) == 1


# ---------------------------------------------------------------- ports and TLS


def test_taken_ports_raise_oserror(receivers: Receivers) -> None:
    reception = Reception(buffer=receivers.buffer, limits=Limits(), stats=ReceiverStats())
    with pytest.raises(OSError, match=r"in use|listen"):
        serve_http(OtlpApp(reception), port=receivers.http.port)
    with pytest.raises(OSError, match="listen"):
        serve_grpc(reception, port=receivers.grpc.port)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    folder: Path = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *subject], check=True, capture_output=True)
    return Tls(certificate=str(certificate), key=str(key))


def test_both_speak_tls(tls: Tls) -> None:
    with running(tls=tls) as receivers:
        context = ssl.create_default_context(cafile=tls.certificate)
        response = httpx.post(
            f"{receivers.url}/v1/traces", content=gzip.compress(body()), headers={**PROTOBUF, "content-encoding": "gzip"}, verify=context
        )
        assert response.status_code == 200
        credentials = grpc.ssl_channel_credentials(Path(tls.certificate).read_bytes())
        with grpc.secure_channel(f"localhost:{receivers.grpc.port}", credentials) as channel:
            assert channel.unary_unary(TRACES)(body(), timeout=20) == b""
        assert len(receivers.payloads()) == 2


def test_unreadable_certificate_is_a_configuration_error(receivers: Receivers, tmp_path: Path) -> None:
    reception = Reception(buffer=receivers.buffer, limits=Limits(), stats=ReceiverStats())
    missing = Tls(certificate=str(tmp_path / "no.pem"), key=str(tmp_path / "no.key"))
    with pytest.raises(ConfigurationError):
        serve_http(OtlpApp(reception), port=0, tls=missing)
    with pytest.raises(ConfigurationError):
        serve_grpc(reception, port=0, tls=missing)
