"""OTLP/HTTP on a port of its own: uvicorn in a thread, with bounds that it lacks (connections, time for a request's head)."""

import asyncio
import socket
import ssl
import threading
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dslmodel.api.otlp import OtlpApp, Tls
from dslmodel.errors import ConfigurationError

MAX_CONNECTIONS = 512
HEAD_SECONDS = 10.0
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n"
    b"content-type: application/json\r\ncontent-length: 48\r\n\r\n"
    b'{"code":14,"message":"too many connections here"}'
)


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with three rules more.

    A head that is not complete after HEAD_SECONDS gets 408 (also ends the draining of a body that was refused); connections over
    MAX_CONNECTIONS get 503; a sender that closes its side in the middle of a request gets 400, after a whole one its answer.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _has_ended = False  # the sender closed its side; what it asked for is still answered

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does it only for sockets that were made with IPPROTO_TCP; without it each answer waits 40 ms for an ACK.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.write(_BUSY)
            transport.close()
            return
        self._start_head_timer()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._is_between_requests() and self.timeout_keep_alive_task is None:
            self._start_head_timer()

    def on_headers_complete(self) -> None:
        self._stop_head_timer()
        super().on_headers_complete()

    def eof_received(self) -> bool:  # type: ignore[override]
        if self._is_between_requests():
            if self._head_timer is not None:
                self.send_400_response("The request ended before it was complete.")
            return False
        if self.cycle.more_body:
            self.send_400_response("The request ended before its body was complete.")
            return False
        self._has_ended = True
        return True

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._has_ended and self._is_between_requests():
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def _is_between_requests(self) -> bool:
        cycle: Any = self.cycle  # None before the first request, whatever its annotation says
        return cycle is None or bool(cycle.response_complete)

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_too_slow)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_too_slow(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            cycle: Any = self.cycle
            if cycle is None:
                self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self.transport.close()


class HttpReceiver:
    """A running OTLP/HTTP server."""

    def __init__(self, server: uvicorn.Server, listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        self._server = server
        self._listener = listener
        self._thread = threading.Thread(target=server.run, args=([listener],), name="otlp-http", daemon=True)
        self._thread.start()

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Take no more requests, finish those that are being served, and return."""
        self._server.should_exit = True
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            self._server.force_exit = True
            self._thread.join(1.0)
        self._listener.close()


def serve_http(app: OtlpApp, *, bind: str = "127.0.0.1", port: int = 4318, tls: Tls | None = None) -> HttpReceiver:
    """Serve `app` in a thread. Port 0 takes any free one.

    Raises:
        OSError: the address is taken or not ours.
        ConfigurationError: the certificate or key can't be used.
    """
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    listener = socket.create_server((bind, port), family=family, backlog=512)
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=3,
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None else tls.key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        listener.close()
        raise ConfigurationError(f"{tls} can't be used: {error}") from error
    return HttpReceiver(uvicorn.Server(config), listener)
