"""The little of HTTP/1.1 that the demonstration's processes speak: requests with a Content-Length, kept-alive connections.

Here instead of a framework because a dozen of these processes have to start within a second or two on two cores.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

LOOPBACK = "127.0.0.1"
_BODY_LIMIT = 64 * 1024
_IDLE_LIMIT = 32


class WireError(Exception):
    """The other side can't be reached, hung up or does not speak HTTP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. Header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One answer."""

    status: int
    body: bytes = b""


Handler = Callable[[Request], Awaitable[Response]]


def answer(status: int, document: Mapping[str, Any]) -> Response:
    """Give an answer with a JSON body."""
    return Response(status=status, body=json.dumps(document).encode())


async def _read(reader: asyncio.StreamReader) -> tuple[list[str], dict[str, str], bytes]:
    """One message: the words of its first line, its headers, its body."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= _BODY_LIMIT:
        raise ValueError(f"body of {length} bytes, at most {_BODY_LIMIT} are taken")
    return first.split(" ", 2), headers, await reader.readexactly(length)


def _write(writer: asyncio.StreamWriter, first: str, headers: Mapping[str, str], body: bytes) -> None:
    lines = [first, *(f"{name}: {value}" for name, value in headers.items()), f"content-length: {len(body)}", "", ""]
    writer.write("\r\n".join(lines).encode("latin-1") + body)


async def serve(handler: Handler) -> tuple[asyncio.Server, int]:
    """Answer requests on a free port of the loopback interface; gives the server and its port."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (method, path, _), headers, body = await _read(reader)
                response = await handler(Request(method=method, path=path, headers=headers, body=body))
                phrase = HTTPStatus(response.status).phrase
                _write(writer, f"HTTP/1.1 {response.status} {phrase}", {"content-type": "application/json"}, response.body)
                await writer.drain()
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass  # the caller hung up, or is no HTTP client: there is nobody to answer
        except asyncio.CancelledError:
            pass  # the process ends; Python 3.11 would log it as an error of ours
        finally:
            writer.close()

    server = await asyncio.start_server(converse, LOOPBACK, 0)
    return server, server.sockets[0].getsockname()[1]


class Client:
    """Sends requests over kept-alive connections, one pool per port of the loopback interface."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._idle: dict[int, list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = defaultdict(list)

    async def send(self, port: int, request: Request) -> Response:
        """Send one request and wait for the answer.

        Raises:
            WireError: no connection, no answer in time, or the connection broke.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._send(port, request)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise WireError(f"{request.method} {request.path} on port {port}: {str(error) or type(error).__name__}") from error

    def close(self) -> None:
        """Hang up all connections."""
        for connections in self._idle.values():
            for _, writer in connections:
                writer.close()
        self._idle.clear()

    async def _send(self, port: int, request: Request) -> Response:
        while self._idle[port]:
            reader, writer = self._idle[port].pop()
            if not reader.at_eof():  # the server may have gone since the connection was put aside
                break
            writer.close()
        else:
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
        try:
            _write(writer, f"{request.method} {request.path} HTTP/1.1", request.headers, request.body)
            (_, status, *_), _, body = await _read(reader)
        except BaseException:
            writer.close()
            raise
        if len(self._idle[port]) < _IDLE_LIMIT:
            self._idle[port].append((reader, writer))
        else:
            writer.close()
        return Response(status=int(status), body=body)
