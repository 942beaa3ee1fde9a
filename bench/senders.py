"""Exporters that keep sending a request until it is acknowledged, as OTLP says: both transports, one connection each."""

import http.client
import time
from types import TracebackType
from typing import Any, Protocol, Self

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_TIMEOUT_SECONDS = 60.0
_DETAILS = "grpc-status-details-bin"
_BUSY_STATUSES = {429, 502, 503, 504}


class Sender(Protocol):
    """One exporter."""

    refused: int
    """Times that a request was not taken and had to be sent again."""

    def send(self, body: bytes) -> bytes:
        """Send until it is acknowledged; gives the answer's body. Raises for answers that must not be tried again."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class GrpcSender:
    """OTLP/gRPC to `host:port`."""

    def __init__(self, address: str) -> None:
        self.refused = 0
        self._channel = grpc.insecure_channel(address)
        self._export: Any = self._channel.unary_unary(EXPORT)

    def send(self, body: bytes) -> bytes:
        """Send until it is acknowledged. Raises grpc.RpcError for all but RESOURCE_EXHAUSTED with RetryInfo."""
        while True:
            try:
                answer: bytes = self._export(body, timeout=_TIMEOUT_SECONDS)
            except grpc.RpcError as error:
                pause = _retry_after(error)
                if pause is None:
                    raise
                self.refused += 1
                time.sleep(pause)
            else:
                return answer

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


class HttpSender:
    """OTLP/HTTP with protobuf to `host:port`, over one kept connection."""

    def __init__(self, address: str) -> None:
        self.refused = 0
        self._connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_SECONDS)

    def send(self, body: bytes) -> bytes:
        """Send until it is acknowledged. Raises ConnectionError for all but 200 and the statuses that ask to come back."""
        while True:
            self._connection.request("POST", "/v1/traces", body, {"content-type": "application/x-protobuf"})
            response = self._connection.getresponse()
            answer = response.read()
            if response.status == 200:
                return answer
            if response.status not in _BUSY_STATUSES:
                raise ConnectionError(f"HTTP {response.status}: {answer[:200]!r}")
            self.refused += 1
            time.sleep(float(response.headers.get("retry-after", "1")))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _retry_after(error: Any) -> float | None:
    """Seconds that the answer asks to wait; None when the request must not be sent again."""
    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        return None
    details = next((value for name, value in error.trailing_metadata() or () if name == _DETAILS), b"")
    for detail in Status.FromString(details).details:
        info = RetryInfo()
        if detail.Unpack(info):
            return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    return None


class Closing:
    """Closes senders at the end of a block."""

    def __init__(self, *senders: Sender) -> None:
        self.senders = senders

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for sender in self.senders:
            sender.close()
