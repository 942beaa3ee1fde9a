"""Real programs under test: the daemon as a user starts it, and any other process; all end with the test."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult

T = TypeVar("T")

DSL = Path(sys.executable).with_name("dsl")
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.05


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without anyone's DSLMODEL_*, OTEL_* and LOGURU_* settings, the tools of this Python first on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DSLMODEL_", "OTEL_", "LOGURU_"))}
    return {**kept, "PATH": f"{DSL.parent}{os.pathsep}{os.environ['PATH']}", **changes}


def wait_until(ask: Callable[[], T], *, seconds: float, what: str) -> T:
    """Ask again and again until the answer is true; fail with `what` when the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}; last answer: {answer!r}")
        time.sleep(_POLL_SECONDS)


def free_port() -> int:
    """A loopback port that nobody listened on a moment ago, for programs that can't tell which one they took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(command: list[str], *, log: Path, cwd: Path, env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program with its output in `log`; stop it with SIGTERM at the end, and its whole group if that doesn't help."""
    with log.open("wb") as output:
        started = subprocess.Popen(
            command, cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait(_STOP_SECONDS)


class Daemon:
    """A running `dsl telemetry start-processing` on free ports."""

    def __init__(self, *, directory: Path, coord_dir: Path, presence: Mapping[str, Any], started: subprocess.Popen[bytes]) -> None:
        self.directory = directory
        self.coord_dir = coord_dir
        self.process = started
        self.api = _address(presence["api"])
        self.otlp_grpc = _address(presence["otlp_grpc"])
        self.otlp_http = _address(presence["otlp_http"])

    def dsl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a `dsl` command in the daemon's directory, as a user beside it would."""
        return subprocess.run(
            [str(DSL), *arguments], cwd=self.directory, env=environment(), capture_output=True, text=True, timeout=60, check=False
        )

    def status(self) -> dict[str, Any]:
        """The data of `dsl --json telemetry status`."""
        answer = self.dsl("--json", "telemetry", "status")
        assert answer.returncode == 0, answer.stdout + answer.stderr
        data: dict[str, Any] = json.loads(answer.stdout)["data"]
        return data

    def services(self) -> dict[str, dict[str, int]]:
        """Spans by service and operation in the window, as `status` tells them."""
        counts: dict[str, dict[str, int]] = self.status()["telemetry"]["span_counts"]
        return counts


@contextmanager
def running_daemon(directory: Path, *, options: str = "", coord_dir: str = "coordination", **settings: str) -> Iterator[Daemon]:
    """The daemon in `directory` with its default coordination directory, ready to receive. `options` of start-processing."""
    ports = {"DSLMODEL_API_PORT": "0", "DSLMODEL_OTLP_GRPC_PORT": "0", "DSLMODEL_OTLP_HTTP_PORT": "0"}
    env = environment(XDG_CONFIG_HOME=str(directory), **ports, **settings)
    log = directory / "daemon.log"
    coord = directory / coord_dir
    command = [str(DSL), "telemetry", "start-processing", "--coord-dir", coord_dir, *options.split()]
    with process(command, log=log, cwd=directory, env=env) as started:
        presence = wait_until(
            lambda: _presence(coord, started, log), seconds=30, what=f"the daemon announces its addresses; its log: {log}"
        )
        yield Daemon(directory=directory, coord_dir=coord, presence=presence, started=started)


def send_spans(url: str, *, service: str, count: int) -> list[SpanExportResult]:
    """Spans by the stock SDK, one request each; what was answered."""
    results = []

    class Exporter(OTLPSpanExporter):
        def export(self, spans):
            results.append(super().export(spans))
            return results[-1]

    provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(Exporter(endpoint=url, timeout=10)))
    tracer = provider.get_tracer("test")
    for number in range(count):
        with tracer.start_as_current_span(f"GET /orders/{number}"):
            pass
    provider.shutdown()
    return results


def _presence(coord_dir: Path, started: subprocess.Popen[bytes], log: Path) -> dict[str, Any] | None:
    assert started.poll() is None, f"the daemon ended with {started.returncode}:\n{log.read_text()}"
    try:
        document: dict[str, Any] = json.loads((coord_dir / ".dslmodel" / "daemon.json").read_bytes())
    except (OSError, ValueError):
        return None
    return document if document.get("pid") == started.pid and document.get("api") and document.get("otlp_grpc") else None


def _address(text: str) -> str:
    """host:port of an address that may be written as a URL."""
    return text.split("://", 1)[-1].rstrip("/")
