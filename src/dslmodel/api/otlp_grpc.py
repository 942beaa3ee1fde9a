"""OTLP/gRPC: the three Export services as one generic handler that takes raw bytes."""

import asyncio
import errno
import threading
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from dslmodel.api.otlp import Tls, is_bearer
from dslmodel.api.otlp_answer import INVALID_ARGUMENT, RESOURCE_EXHAUSTED, export_response, status_bytes
from dslmodel.errors import ConfigurationError, IngestError
from dslmodel.ingest.reception import Busy, Count, Reception, Transport
from dslmodel.records import Encoding, Signal

_METHODS = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": Signal.TRACES,
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": Signal.METRICS,
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": Signal.LOGS,
}
_DETAILS = "grpc-status-details-bin"
# Calls beyond this get RESOURCE_EXHAUSTED from gRPC itself. A waiting call holds no more than its flow control window.
_MAX_CALLS = 256
# Messages being received at the same time: slow or malicious senders can make us hold this many times twice `body_bytes`.
_MAX_READS = 8


class _ExportHandler(grpc.GenericRpcHandler):
    """Reads the one message of a call itself, so that a sender that stalls is timed out instead of holding the call for ever."""

    def __init__(self, reception: Reception, token: str | None, body_seconds: float) -> None:
        self._reception = reception
        self._token = None if token is None else token.encode()
        self._body_seconds = body_seconds
        self._reads = asyncio.Semaphore(_MAX_READS)
        self._handlers: dict[str, Any] = {
            method: grpc.stream_unary_rpc_method_handler(self._handler_of(signal)) for method, signal in _METHODS.items()
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of a method; None makes gRPC answer UNIMPLEMENTED."""
        return self._handlers.get(handler_call_details.method)

    def _handler_of(self, signal: Signal) -> Any:
        async def export(_: object, context: Any) -> bytes:
            return await self._export(signal, context)

        return export

    async def _export(self, signal: Signal, context: Any) -> bytes:
        stats = self._reception.stats
        if self._token is not None:
            header = next((value for name, value in context.invocation_metadata() or () if name == "authorization"), "")
            if not is_bearer(header.encode() if isinstance(header, str) else header, self._token):
                stats.add(Transport.GRPC, signal, Count.UNAUTHENTICATED)
                text = "a bearer token is needed: set the metadata `authorization: Bearer <token>`"
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, text, (("www-authenticate", 'Bearer realm="dslmodel"'),))
        body = await self._read(signal, context)
        try:
            checked = self._reception.receive(body, signal=signal, encoding=Encoding.PROTOBUF, transport=Transport.GRPC)
        except IngestError as error:
            self._reception.refused(error, signal=signal, transport=Transport.GRPC)
            await _abort(context, error)
            raise
        return export_response(signal, Encoding.PROTOBUF, rejected=checked.rejected, reason=checked.reason)

    async def _read(self, signal: Signal, context: Any) -> bytes:
        stats = self._reception.stats
        try:
            async with self._reads, asyncio.timeout(self._body_seconds):
                message = await context.read()
        except TimeoutError:
            stats.add(Transport.GRPC, signal, Count.TIMED_OUT)
            text = f"the message was not complete after {self._body_seconds:g} s"
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, text)
            raise
        except asyncio.CancelledError:
            # The sender went away. gRPC ends calls with messages over twice the limit in this way too, sometimes.
            stats.add(Transport.GRPC, signal, Count.ABORTED)
            raise
        if isinstance(message, bytes):
            return message
        # gRPC ended the call: the message is larger than twice the limit (as it arrived or inflated), broken, or never came.
        stats.add(Transport.GRPC, signal, Count.TOO_LARGE)
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no message was received")
        return b""


async def _abort(context: Any, error: IngestError) -> None:
    if isinstance(error, Busy) or error.status == 413:
        code, number = grpc.StatusCode.RESOURCE_EXHAUSTED, RESOURCE_EXHAUSTED
    else:
        code, number = grpc.StatusCode.INVALID_ARGUMENT, INVALID_ARGUMENT
    # RESOURCE_EXHAUSTED is retried only when it carries RetryInfo: a message that is too large must not be.
    wait = error.retry_after_seconds if isinstance(error, Busy) else None
    details = status_bytes(number, str(error), retry_after_seconds=wait)
    await context.abort(code, str(error), ((_DETAILS, details),))


class GrpcReceiver:
    """A running OTLP/gRPC server with an event loop and thread of its own."""

    def __init__(self, start: Any) -> None:
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="otlp-grpc", daemon=True)
        self._thread.start()
        try:
            self._server, self.port = self._run(start())
        except BaseException:
            self._close_loop()
            raise

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Take no more calls, finish those that are being served, and return."""
        if not self._loop.is_closed():
            self._run(self._server.stop(timeout_seconds))
            self._close_loop()

    def _run(self, work: Awaitable[Any]) -> Any:
        async def wait() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result()

    def _close_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def serve_grpc(
    reception: Reception,
    *,
    bind: str = "127.0.0.1",
    port: int = 4317,
    token: str | None = None,
    tls: Tls | None = None,
    body_seconds: float = 30.0,
) -> GrpcReceiver:
    """Serve OTLP/gRPC in a thread. Port 0 takes any free one.

    Raises:
        OSError: the address is taken or not ours.
        ConfigurationError: the certificate or key can't be read or used.
    """
    credentials = None
    if tls is not None:
        try:
            pair = (Path(tls.key).read_bytes(), Path(tls.certificate).read_bytes())
        except OSError as error:
            raise ConfigurationError(f"TLS certificate {tls.certificate!r} with key {tls.key!r} can't be read: {error}") from error
        credentials = grpc.ssl_server_credentials([pair])
    address = f"[{bind}]:{port}" if ":" in bind else f"{bind}:{port}"
    options = [
        # Holds after decompression too. Twice the limit, so that what is a little over gets our own answer and count.
        ("grpc.max_receive_message_length", 2 * reception.limits.body_bytes),
        ("grpc.so_reuseport", 0),
        # Connections whose other end is gone are found and closed; senders may ping more often than gRPC's 5 minutes.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.max_concurrent_streams", _MAX_CALLS),
    ]

    async def start() -> tuple[Any, int]:
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=_MAX_CALLS)
        server.add_generic_rpc_handlers((_ExportHandler(reception, token, body_seconds),))
        try:
            bound = server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(errno.EADDRINUSE, f"can't listen on {address} for OTLP/gRPC: {error}") from error
        await server.start()
        return server, bound

    return GrpcReceiver(start)
