"""The two ways to the next OTLP endpoint: gRPC and HTTP."""

import http.client
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import SplitResult, urlsplit

import grpc
import orjson
from google.protobuf.message import DecodeError, EncodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from dslmodel.clock import SECOND, SystemClock
from dslmodel.errors import ConfigurationError
from dslmodel.ingest.forward import Answer, Forwarder, Sender, Verdict
from dslmodel.ingest.otlp_protobuf import to_protobuf
from dslmodel.records import Encoding, Signal
from dslmodel.settings import Forward

_GRPC_METHODS = {
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    Signal.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
_RETRYABLE_CODES = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
_RETRYABLE_STATUSES = frozenset({429, 502, 503, 504})
_CONTENT_TYPES = {Encoding.PROTOBUF: "application/x-protobuf", Encoding.JSON: "application/json"}
_HEADER = re.compile(r"[A-Za-z0-9_-]+:[ -~]*")
# An endpoint can't make us wait longer than this.
_LONGEST_WAIT_SECONDS = 120.0


def build_forwarder(settings: Forward) -> Forwarder | None:
    """The forwarder that the settings ask for; None without an endpoint.

    Raises:
        ConfigurationError: the endpoint is no http or https URL.
    """
    if settings.endpoint is None:
        return None
    url = urlsplit(settings.endpoint)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ConfigurationError(f"forward.endpoint={settings.endpoint!r}: must be a URL such as http://collector:4317 or https://…")
    for name, value in settings.headers.items():
        if not _HEADER.fullmatch(f"{name}:{value}"):
            raise ConfigurationError(
                f"forward.headers {name!r}: a header is a name of letters, digits, - and _ and a value of printable ASCII"
            )
    sender: Sender = GrpcSender(url, settings.headers) if settings.protocol == "grpc" else HttpSender(url, settings.headers)
    return Forwarder(sender, queue_bytes=settings.queue_bytes, timeout_seconds=settings.timeout_seconds)


class GrpcSender:
    """OTLP/gRPC. JSON requests are converted."""

    def __init__(self, url: SplitResult, headers: Mapping[str, str]) -> None:
        host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
        target = f"{host}:{url.port or 4317}"
        options = [("grpc.max_send_message_length", -1)]
        if url.scheme == "https":
            self._channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
        else:
            self._channel = grpc.insecure_channel(target, options)
        self._calls: dict[Signal, Any] = {signal: self._channel.unary_unary(method) for signal, method in _GRPC_METHODS.items()}
        self._metadata = tuple((name.lower(), value) for name, value in headers.items())

    def send(self, signal: Signal, encoding: Encoding, body: bytes, timeout_seconds: float) -> Verdict:
        """Send one request and wait for the answer."""
        if encoding is Encoding.JSON:
            message, _ = to_protobuf(orjson.loads(body), signal)
            try:
                body = message.SerializeToString()
            except EncodeError as error:
                return Verdict(Answer.REFUSED, None, f"can't be written as protobuf: {error}")
        try:
            self._calls[signal](body, timeout=timeout_seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            return _grpc_verdict(error)
        return Verdict(Answer.TAKEN)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def _grpc_verdict(error: Any) -> Verdict:
    code = error.code()
    text = f"{code.name}: {error.details()}"
    wait = _retry_info(error)
    # RESOURCE_EXHAUSTED without a time to wait means that it will never fit.
    if code in _RETRYABLE_CODES or (code is grpc.StatusCode.RESOURCE_EXHAUSTED and wait is not None):
        return Verdict(Answer.RETRY, wait, text)
    return Verdict(Answer.REFUSED, None, text)


def _retry_info(error: Any) -> float | None:
    for name, value in error.trailing_metadata() or ():
        if name != "grpc-status-details-bin":
            continue
        try:
            details = Status.FromString(value).details
        except DecodeError:
            return None
        for detail in details:
            info = RetryInfo()
            if detail.Is(RetryInfo.DESCRIPTOR) and detail.Unpack(info):
                return float(min(_LONGEST_WAIT_SECONDS, max(0, info.retry_delay.seconds + info.retry_delay.nanos / SECOND)))
    return None


class HttpSender:
    """OTLP/HTTP over one connection that is kept. Requests go on in the encoding they came in."""

    def __init__(self, url: SplitResult, headers: Mapping[str, str]) -> None:
        self._is_secure = url.scheme == "https"
        self._host, self._port = url.hostname or "", url.port or 4318
        self._path = url.path.rstrip("/")
        self._headers = dict(headers)
        self._connection: http.client.HTTPConnection | None = None

    def send(self, signal: Signal, encoding: Encoding, body: bytes, timeout_seconds: float) -> Verdict:
        """Send one request and wait for the answer."""
        is_reused = self._connection is not None
        try:
            try:
                response = self._exchange(signal, encoding, body, timeout_seconds)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                if not is_reused:
                    raise
                # The other side had closed the idle connection: that says nothing about its health.
                self.close()
                response = self._exchange(signal, encoding, body, timeout_seconds)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Verdict(Answer.RETRY, None, f"{self._host}:{self._port}: {error}")
        if 200 <= response.status < 300:
            return Verdict(Answer.TAKEN)
        text = f"{response.status} {response.reason}"
        if response.status in _RETRYABLE_STATUSES:
            return Verdict(Answer.RETRY, retry_after(response.getheader("retry-after")), text)
        return Verdict(Answer.REFUSED, None, text)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, signal: Signal, encoding: Encoding, body: bytes, timeout_seconds: float) -> http.client.HTTPResponse:
        connection = self._connect(timeout_seconds)
        headers = {**self._headers, "content-type": _CONTENT_TYPES[encoding]}
        connection.request("POST", f"{self._path}/v1/{signal.value}", body, headers)
        response = connection.getresponse()
        response.read()
        return response

    def _connect(self, timeout_seconds: float) -> http.client.HTTPConnection:
        if self._connection is None:
            make = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
            self._connection = make(self._host, self._port, timeout=timeout_seconds)
        self._connection.timeout = timeout_seconds
        if self._connection.sock is not None:
            self._connection.sock.settimeout(timeout_seconds)
        return self._connection


def retry_after(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After header (seconds or a date), at most two minutes; None when there is none that can be read."""
    if header is None:
        return None
    try:
        seconds = float(header) if header.strip().isdigit() else parsedate_to_datetime(header).timestamp() - SystemClock().now() / SECOND
    except ValueError:
        return None
    return min(_LONGEST_WAIT_SECONDS, max(0.0, seconds))
