"""The daemon under demonstration: the ordinary `dsl telemetry start-processing`, and what it says through its API."""

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dslmodel.clock import SECOND
from dslmodel.demo.child import Child
from dslmodel.demo.wire import LOOPBACK
from dslmodel.engine.presence import DAEMON_FILE, read_document, state_path
from dslmodel.errors import DslModelError

_READY_SECONDS = 30.0
_STOP_SECONDS = 15.0
_ANSWER_SECONDS = 5.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A finding as the daemon reports it. Times are nanoseconds since the epoch."""

    id: str
    at: int
    pattern: str
    service: str
    operation: str | None
    score: float
    started_at: int
    resolved_at: int | None
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenIncident:
    """An incident as the daemon reports it: its findings' ids, and suspects with the likeliest first."""

    findings: Sequence[str]
    root_causes: Sequence[str]
    resolved_at: int | None


class Daemon:
    """Runs the daemon on free ports with its baselines learnt in seconds, and reads its API."""

    def __init__(self, *, directory: Path, coordination: Path, environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._coordination = coordination
        self._environment = environment
        self._child: Child | None = None
        self._presence: Mapping[str, Any] = {}

    def start(self, *, min_seconds: float, min_spans: int, record: Path | None) -> Self:
        """Start it and wait until its receivers and its API answer."""
        self._coordination.mkdir(parents=True, exist_ok=True)
        arguments = ["dslmodel.demo.leash", "dslmodel.cli.main", "telemetry", "start-processing"]
        arguments += ["--coord-dir", str(self._coordination), *(["--record", str(record)] if record else [])]
        settings = {
            "DSLMODEL_API_PORT": "0",
            "DSLMODEL_OTLP_GRPC_PORT": "0",
            "DSLMODEL_OTLP_HTTP_PORT": "0",
            "DSLMODEL_DETECTION_MIN_SECONDS": f"{min_seconds:g}",
            "DSLMODEL_DETECTION_MIN_SPANS": str(min_spans),
            "DSLMODEL_LIMITS_SETTLE_SECONDS": "2",  # the services export twice a second
            "DSLMODEL_FORWARD_ENDPOINT": "",
            "XDG_CONFIG_HOME": str(self._directory),  # the user's own settings are for the user's own daemon
        }
        environment = {**self._environment, **settings}
        self._child = Child("daemon", arguments, directory=self._directory, environment=environment, announces=False)
        try:
            self._wait_ready(self._child)
        except BaseException:
            self.close()
            raise
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> int:
        """Stop it as an operator would (SIGTERM); gives its exit code."""
        child, self._child = self._child, None
        return 0 if child is None else child.stop(_STOP_SECONDS)

    @property
    def otlp(self) -> str:
        """Address of the OTLP/HTTP receiver."""
        return _address(self._presence["otlp_http"])

    @property
    def otlp_grpc(self) -> str:
        """Address of the OTLP/gRPC receiver."""
        return _address(self._presence["otlp_grpc"])

    def status(self) -> Mapping[str, Any]:
        """The telemetry part of the status."""
        telemetry: Mapping[str, Any] = self._get("/api/v1/status")["telemetry"]
        return telemetry

    def findings(self) -> list[Seen]:
        """Everything found so far, oldest first."""
        return [
            Seen(
                id=row["id"],
                at=nanoseconds(row["at"]),
                pattern=row["pattern"],
                service=row["service"],
                operation=row["operation"],
                score=row["score"],
                started_at=nanoseconds(row["started_at"]),
                resolved_at=nanoseconds(row["resolved_at"]) if row["resolved_at"] else None,
                summary=row["summary"],
            )
            for row in self._get("/api/v1/findings")["findings"]
        ]

    def incidents(self) -> list[SeenIncident]:
        """All incidents so far, oldest first."""
        return [
            SeenIncident(
                findings=row["findings"],
                root_causes=[cause["service"] for cause in row["root_causes"]],
                resolved_at=nanoseconds(row["resolved_at"]) if row["resolved_at"] else None,
            )
            for row in self._get("/api/v1/incidents")["incidents"]
        ]

    def _wait_ready(self, child: Child) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            if not child.is_alive:
                raise child.failure("could not start")
            document = read_document(state_path(self._coordination, DAEMON_FILE))
            if document and document.get("pid") == child.pid and document.get("api"):
                self._presence = document
                if self._answers():
                    return
            time.sleep(_POLL_SECONDS)
        raise child.failure(f"was not ready within {_READY_SECONDS:g} s")

    def _answers(self) -> bool:
        try:
            self._get("/readyz")
        except DslModelError:
            return False
        return True

    def _get(self, path: str) -> Any:
        """Read one path of the API; the content of the envelope where there is one."""
        connection = http.client.HTTPConnection(_address(self._presence["api"]).removeprefix("http://"), timeout=_ANSWER_SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unavailable(path, str(error)) from error
        finally:
            connection.close()
        if response.status != 200:
            raise self._unavailable(path, f"status {response.status}: {body.decode(errors='replace')[:200]}")
        document = json.loads(body) if path.startswith("/api/") else {}
        return document.get("data", document)

    def _unavailable(self, path: str, why: str) -> DslModelError:
        if self._child is None:
            return DslModelError(f"GET {path}: {why}; the daemon has been stopped")
        return self._child.failure(f"did not answer GET {path}: {why}")


def nanoseconds(instant: str) -> int:
    """RFC 3339 in UTC as nanoseconds since the epoch, exactly."""
    whole, _, fraction = instant.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * SECOND + int(fraction.ljust(9, "0")[:9] or "0")


def _address(value: str) -> str:
    """An address as `http://host:port`, whether or not it was written with the scheme."""
    return value.rstrip("/") if "://" in value else f"http://{value}" if ":" in value else f"http://{LOOPBACK}:{value}"
