"""OTLP/HTTP as an ASGI app: POST /v1/traces, /v1/metrics and /v1/logs, protobuf and JSON, gzip and deflate."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from dslmodel.api.otlp_answer import export_response, http_error
from dslmodel.errors import IngestError
from dslmodel.ingest.otlp import inflate
from dslmodel.ingest.reception import Busy, Count, Reception, Transport
from dslmodel.records import Encoding, Signal

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

_PATHS = {"/v1/traces": Signal.TRACES, "/v1/metrics": Signal.METRICS, "/v1/logs": Signal.LOGS}
_TYPES = {b"application/x-protobuf": Encoding.PROTOBUF, b"application/json": Encoding.JSON}
_CONTENT_TYPES = {encoding: name for name, encoding in _TYPES.items()}
# From here on decoding takes milliseconds: it goes to a thread, so that the other connections are served.
_LARGE = 256 * 1024
_LARGE_COMPRESSED = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Paths of PEM files."""

    certificate: str
    key: str


class _Aborted(Exception):
    """The sender went away before the body was complete. There is nobody to answer."""


class OtlpApp:
    """Answers OTLP/HTTP requests. Runs under any ASGI server; `otlp_http.serve_http` is the one it is made for.

    All bodies that are being received share `body_budget_bytes`, so that many slow uploads can't fill the memory: what is over
    gets 503. A body must be complete within `body_seconds`. At most two large bodies are decoded at a time.
    """

    def __init__(
        self, reception: Reception, *, token: str | None = None, body_seconds: float = 30.0, body_budget_bytes: int | None = None
    ) -> None:
        self._reception = reception
        self._token = None if token is None else token.encode()
        self._body_seconds = body_seconds
        self._budget_bytes = body_budget_bytes or 4 * reception.limits.body_bytes
        self._held_bytes = 0  # touched by the event loop alone
        self._decoders = asyncio.Semaphore(2)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (or the lifespan protocol)."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        headers = _first_headers(scope["headers"])
        encoding = _TYPES.get(_media_type(headers))
        answer_as = encoding or Encoding.JSON
        signal = _PATHS.get(scope["path"])
        if signal is None:
            text = f"no such path: {scope['path'][:200]!r}; POST to {', '.join(_PATHS)}"
            await _answer(send, 404, http_error(404, text, answer_as), answer_as)
            return
        if scope["method"] != "POST":
            body = http_error(405, f"method {scope['method'][:20]} is not allowed: POST", answer_as)
            await _answer(send, 405, body, answer_as, (b"allow", b"POST"))
            return
        try:
            checked = await self._take(headers, encoding, signal, receive)
        except _Aborted:
            self._reception.stats.add(Transport.HTTP, signal, Count.ABORTED)
        except IngestError as error:
            self._reception.refused(error, signal=signal, transport=Transport.HTTP)
            await _answer(send, error.status, http_error(error.status, str(error), answer_as), answer_as, *_extra_headers(error))
        else:
            await _answer(send, 200, checked, answer_as)

    async def _take(self, headers: dict[bytes, bytes], encoding: Encoding | None, signal: Signal, receive: Receive) -> bytes:
        """Receive, decode and queue; the body of the success answer."""
        self._authenticate(headers)
        if encoding is None:
            name = headers.get(b"content-type", b"").decode("latin-1")[:100]
            raise IngestError(f"content type {name!r} is not supported: send application/x-protobuf or application/json", status=415)
        coding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
        if coding not in {"", "identity", "gzip", "x-gzip", "deflate"}:
            raise IngestError(f"content encoding {coding[:40]!r} is not supported: send gzip, deflate or identity", status=415)
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._reception.limits.body_bytes:
            raise self._too_large()
        held = 0
        try:
            body = bytearray()
            async with asyncio.timeout(self._body_seconds):
                async for chunk in _chunks(receive):
                    self._held_bytes += len(chunk)
                    held += len(chunk)
                    if held > self._reception.limits.body_bytes:
                        raise self._too_large()
                    if self._held_bytes > self._budget_bytes:
                        raise self._overloaded()
                    body += chunk
            return await self._decode(bytes(body), coding, encoding, signal)
        except TimeoutError as error:
            raise IngestError(f"the body was not complete after {self._body_seconds:g} s", status=408) from error
        finally:
            self._held_bytes -= held

    async def _decode(self, body: bytes, coding: str, encoding: Encoding, signal: Signal) -> bytes:
        if len(body) < (_LARGE if coding in {"", "identity"} else _LARGE_COMPRESSED):
            return self._decode_now(body, coding, encoding, signal)
        async with self._decoders:
            return await asyncio.to_thread(self._decode_now, body, coding, encoding, signal)

    def _decode_now(self, body: bytes, coding: str, encoding: Encoding, signal: Signal) -> bytes:
        plain = inflate(body, coding=coding, limit=self._reception.limits.inflated_bytes)
        checked = self._reception.receive(plain, signal=signal, encoding=encoding, transport=Transport.HTTP, wire_bytes=len(body))
        return export_response(signal, encoding, rejected=checked.rejected, reason=checked.reason)

    def _authenticate(self, headers: dict[bytes, bytes]) -> None:
        if self._token is not None and not is_bearer(headers.get(b"authorization", b""), self._token):
            raise IngestError("a bearer token is needed: set the header `authorization: Bearer <token>`", status=401)

    def _overloaded(self) -> Busy:
        return Busy(
            "too much is being received at once: send it again later",
            retry_after_seconds=self._reception.retry_after_seconds(),
            counted_as=Count.OVERLOADED,
        )

    def _too_large(self) -> IngestError:
        return IngestError(f"body is larger than {self._reception.limits.body_bytes} bytes: send smaller batches", status=413)


def is_bearer(header: bytes, token: bytes) -> bool:
    """Does an `authorization` header bear this token? Takes the same time wherever it differs."""
    scheme, _, value = header.strip().partition(b" ")
    return hmac.compare_digest(value.strip(), token) and scheme.lower() == b"bearer"


def _first_headers(headers: Iterable[Header]) -> dict[bytes, bytes]:
    first: dict[bytes, bytes] = {}
    for name, value in headers:
        first.setdefault(name, value)
    return first


def _media_type(headers: dict[bytes, bytes]) -> bytes:
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


async def _chunks(receive: Receive) -> Any:
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise _Aborted
        yield event.get("body", b"")
        if not event.get("more_body", False):
            return


def _extra_headers(error: IngestError) -> tuple[Header, ...]:
    if isinstance(error, Busy):
        return ((b"retry-after", b"%d" % error.retry_after_seconds),)
    if error.status == 401:
        return ((b"www-authenticate", b'Bearer realm="dslmodel"'),)
    if error.status == 408:
        return ((b"connection", b"close"),)
    return ()


async def _answer(send: Send, status: int, body: bytes, encoding: Encoding, *headers: Header) -> None:
    fixed = [(b"content-type", _CONTENT_TYPES[encoding]), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return
