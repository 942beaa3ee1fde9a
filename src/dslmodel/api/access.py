"""Who may call: Host and Origin against DNS rebinding and foreign pages, a bearer token for what changes something."""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from starlette.responses import JSONResponse, Response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Probes come with any Host (a kubelet uses the pod's address) and learn nothing but yes or no.
_OPEN_PATHS = frozenset({"/livez", "/readyz"})
_SAFE_METHODS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """`token` is needed for changing calls, and for all calls when `reads_need_token` (others than this machine can reach us)."""

    token: str
    reads_need_token: bool = False
    hosts: frozenset[str] = frozenset()  # further names we are called by, besides loopback's


class Guard:
    """ASGI middleware; answers refused calls itself, with what to do."""

    def __init__(self, app: App, policy: Policy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on or refuse it."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        if scope["path"] in _OPEN_PATHS:
            return None
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if not self._is_ours(host):
            return _refuse(403, f"Host {host[:100]!r} is not a name of this server. Call it as localhost or by its bind address")
        origin = headers.get(b"origin")
        if origin is not None and not self._is_same_origin(origin, host):
            return _refuse(403, f"Origin {origin[:100]!r} may not call this API")
        if (self._policy.reads_need_token or scope["method"] not in _SAFE_METHODS) and not self._has_token(headers):
            return _refuse(401, "This call needs `Authorization: Bearer TOKEN`; the token is in the daemon's token file")
        return None

    def _is_ours(self, host: str) -> bool:
        name = _without_port(host)
        if name in self._policy.hosts or name == "localhost":
            return True
        if self._policy.reads_need_token:
            return bool(name)  # a page that rebinds its name to us has no token
        try:
            return ip_address(name).is_loopback
        except ValueError:
            return False

    def _is_same_origin(self, origin: str, host: str) -> bool:
        scheme, separator, rest = origin.partition("://")
        return bool(separator) and scheme in {"http", "https"} and rest == host

    def _has_token(self, headers: dict[bytes, str]) -> bool:
        scheme, _, given = headers.get(b"authorization", "").partition(" ")
        expected = self._policy.token.encode()
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("utf-8", "replace"), expected)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if host.count(":") == 1 else host.lower()


def _refuse(status: int, reason: str) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": reason}, status_code=status, headers=headers)
