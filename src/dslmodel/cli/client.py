"""Talks to the daemon of a coordination directory through its API."""

import http.client
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from dslmodel.engine import presence
from dslmodel.errors import ConfigurationError, DaemonUnreachable, DslModelError

_TIMEOUT_SECONDS = 15.0


def running_daemon(coord_dir: Path) -> "Client | None":
    """The daemon that runs on this directory; None when none does.

    Raises:
        DaemonUnreachable: Its files can't be read, or it runs without an API.
    """
    try:
        daemon = presence.read_document(presence.state_path(coord_dir, presence.DAEMON_FILE))
    except (OSError, ValueError) as error:
        raise DaemonUnreachable(f"can't tell whether a daemon runs on {coord_dir}: {error}") from error
    if daemon is None or not presence.is_running(daemon):
        return None
    if not daemon.get("api"):
        raise DaemonUnreachable(f"the daemon (pid {daemon.get('pid')}) has no API; see its log")
    return Client(str(daemon["api"]), _token(daemon))


class Client:
    """One daemon's API."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = urlsplit(url)
        self._token = token

    def get(self, path: str, query: Mapping[str, str | None] | None = None) -> Any:
        """Read."""
        return self._call("GET", path, query)

    def post(self, path: str, query: Mapping[str, str | None] | None = None) -> Any:
        """Change something."""
        return self._call("POST", path, query)

    def _call(self, method: str, path: str, query: Mapping[str, str | None] | None) -> Any:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = quote(path) + (f"?{urlencode(given)}" if given else "")
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        connection = self._connect()
        try:
            connection.request(method, target, headers=headers)
            response = connection.getresponse()
            status, body = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise DaemonUnreachable(f"the daemon at {self._url.geturl()} does not answer: {error}. See `dsl telemetry status`") from error
        finally:
            connection.close()
        try:
            document = json.loads(body)
        except ValueError as error:
            raise DaemonUnreachable(f"{self._url.geturl()} answers with status {status} and no JSON; is it a dslmodel daemon?") from error
        if status >= 400:
            raise DslModelError(str(document.get("error", f"status {status}")))
        return document

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        # A daemon that listens on all addresses is reached on this machine's own.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared with, not bound to
        if self._url.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_SECONDS, context=_unverified())
        return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)


def _unverified() -> ssl.SSLContext:
    """TLS to our own daemon, whose address comes from a file that only its user can write; its name is rarely in the certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _token(daemon: Mapping[str, Any]) -> str | None:
    """The daemon's token, when this user may read it."""
    from dslmodel.engine.state import read_token

    try:
        return read_token(Path(daemon["token_file"])) if daemon.get("token_file") else None
    except ConfigurationError:
        return None
