"""Ports: who listens where, and what happens when a port is taken."""

import asyncio
import errno
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import psutil
import uvicorn

from dslmodel.api.access import App
from dslmodel.api.events import Hub
from dslmodel.api.otlp import OtlpApp, Tls
from dslmodel.api.otlp_grpc import serve_grpc
from dslmodel.api.otlp_http import serve_http
from dslmodel.errors import ConfigurationError, DslModelError
from dslmodel.ingest.reception import Reception
from dslmodel.settings import Server

_START_SECONDS = 10.0


class Receiver(Protocol):
    """Something that listens in threads of its own."""

    @property
    def port(self) -> int:
        """The port that it got."""
        ...

    def stop(self) -> None:
        """Finish what is being served and close."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A port that we listen on, or would like to."""

    name: str
    address: str  # host:port, as asked for when it is not bound
    url: str | None = None  # None when it is not bound
    problem: str | None = None
    receiver: Receiver | None = None

    @property
    def is_bound(self) -> bool:
        """It listens."""
        return self.receiver is not None

    def stop(self) -> None:
        """Stop listening."""
        if self.receiver is not None:
            self.receiver.stop()


class ApiServer:
    """The API in an event loop and thread of its own."""

    def __init__(self, app: App, hub: Hub, server: Server, port: int) -> None:
        family = socket.AF_INET6 if ":" in server.bind else socket.AF_INET
        self._socket = socket.create_server((server.bind, port), family=family, backlog=128)
        self.port: int = self._socket.getsockname()[1]
        self._hub = hub
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
            limit_concurrency=256,
            ssl_certfile=server.tls_certificate,
            ssl_keyfile=server.tls_key,
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            self._socket.close()
            raise ConfigurationError(f"TLS certificate {server.tls_certificate} with its key can't be used: {error}") from error
        self._server = uvicorn.Server(config)
        self._started = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),), name="api", daemon=True)
        self._thread.start()
        self._started.wait(_START_SECONDS)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._hub.attach(self._loop)
        self._started.set()
        await self._server.serve(sockets=[self._socket])

    def stop(self) -> None:
        """End event streams, finish what is being served, close."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._hub.close(), self._loop)
            self._server.should_exit = True
            self._thread.join(_START_SECONDS)
        self._socket.close()


class Ports:
    """Opens listeners by the settings' rules.

    A port that somebody set and that is taken stops the start. A default port that is taken does not: the daemon goes on with
    what it has, says so, and shows the receiver as not bound.
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    def open_receivers(self, reception: Reception, token: str | None) -> list[Listener]:
        """OTLP over gRPC and HTTP.

        Raises:
            DslModelError: A port that was set is taken.
        """
        server = self._server
        has_tls = server.tls_certificate is not None and server.tls_key is not None
        tls = Tls(certificate=str(server.tls_certificate), key=str(server.tls_key)) if has_tls else None
        plans: Sequence[tuple[str, int, Callable[[int], Receiver]]] = (
            ("otlp_grpc", server.otlp_grpc_port, lambda port: serve_grpc(reception, bind=server.bind, port=port, token=token, tls=tls)),
            (
                "otlp_http",
                server.otlp_http_port,
                lambda port: serve_http(OtlpApp(reception, token=token), bind=server.bind, port=port, tls=tls),
            ),
        )
        opened: list[Listener] = []
        try:
            for name, port, start in plans:
                opened.append(self._open(name, port, start))
        except BaseException:
            close_all(opened)
            raise
        return opened

    def open_api(self, app: App, hub: Hub) -> Listener:
        """The API. When its default port is taken it takes any free one: the command line finds it through `daemon.json`."""
        listener = self._open("api", self._server.api_port, lambda port: ApiServer(app, hub, self._server, port))
        if listener.is_bound:
            return listener
        free = self._open("api", 0, lambda port: ApiServer(app, hub, self._server, port))
        problem = f"{listener.problem}; the API takes {free.address} instead"
        return Listener(name="api", address=free.address, url=free.url, problem=problem, receiver=free.receiver)

    def _open(self, name: str, port: int, start: Callable[[int], Receiver]) -> Listener:
        host = f"[{self._server.bind}]" if ":" in self._server.bind else self._server.bind
        try:
            receiver = start(port)
        except OSError as error:
            reason = f"{name} can't listen on {host}:{port}: {_why(error, port)}"
            if f"{name}_port" in self._server.explicit_ports or error.errno != errno.EADDRINUSE:
                variable = f"DSLMODEL_{name.upper()}_PORT"
                raise DslModelError(f"{reason}. End that program, or set another port ({variable}; 0 takes any free one)") from error
            return Listener(name=name, address=f"{host}:{port}", problem=reason)
        address = f"{host}:{receiver.port}"
        scheme = "https" if self._server.tls_certificate else "http"
        return Listener(name=name, address=address, url=f"{scheme}://{address}", receiver=receiver)


def close_all(listeners: Sequence[Listener]) -> None:
    """Stop all of them."""
    for listener in listeners:
        listener.stop()


def _why(error: OSError, port: int) -> str:
    if error.errno != errno.EADDRINUSE:
        return error.strerror or str(error)
    holder = _holder(port)
    return f"the port is taken by {holder}" if holder else "the port is taken by another program"


def _holder(port: int) -> str | None:
    """Which process listens on a port, when the system lets us see it."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port and connection.pid:
                process = psutil.Process(connection.pid)
                ours = any("dslmodel" in part or part.endswith("/dsl") for part in process.cmdline())
                return f"{'another dslmodel' if ours else process.name()} (pid {connection.pid})"
    except (psutil.Error, OSError):
        return None
    return None
