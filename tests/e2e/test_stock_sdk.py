"""A stock service: Flask under `opentelemetry-instrument`, default 5 s batches, over gRPC and over HTTP, with no code of ours in it."""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dslmodel.clock import SECOND
from dslmodel.demo.child import clean
from dslmodel.demo.daemon import Daemon, Seen

BIN = Path(sys.executable).parent
APP = Path(__file__).with_name("flask_shop.py")
REQUESTS_PER_SECOND = 24
USERS = 12  # so many that each is back before its next turn even when the service is slow


class Shop:
    """The service and its users, who ask for an item at a fixed rate."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ended = threading.Event()
        self._users = [threading.Thread(target=self._ask, args=(offset,), daemon=True) for offset in range(USERS)]
        for user in self._users:
            user.start()

    def trouble(self, **kind: float) -> None:
        self._request("PUT", "/trouble?" + "&".join(f"{name}={value}" for name, value in kind.items()))

    def close(self) -> None:
        self._ended.set()
        for user in self._users:
            user.join()

    def _ask(self, offset: int) -> None:
        period = USERS / REQUESTS_PER_SECOND
        due = time.monotonic() + offset / REQUESTS_PER_SECOND
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            self._request("GET", f"/items/{offset}")
            due += period

    def _request(self, method: str, path: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        connection.request(method, path)
        connection.getresponse().read()
        connection.close()


@contextmanager
def _shop(daemon: Daemon, protocol: str, log: Path) -> Iterator[Shop]:
    environment = clean(os.environ) | {
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": daemon.otlp_grpc if protocol == "grpc" else daemon.otlp,
        "OTEL_PYTHON_FLASK_EXCLUDED_URLS": "trouble",
    }
    with log.open("w") as errors:
        process = subprocess.Popen(
            [BIN / "opentelemetry-instrument", sys.executable, APP], stdout=subprocess.PIPE, stderr=errors, env=environment
        )
    shop = None
    try:
        shop = Shop(int(process.stdout.readline()))
        yield shop
    finally:
        if shop is not None:
            shop.close()
        process.kill()
        process.wait()
        process.stdout.close()


def _await(what: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.1)


def _status(coordination: Path) -> dict:
    command = [BIN / "dsl", "--json", "telemetry", "status", "--coord-dir", coordination]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["data"]["telemetry"]


def _appears_at(coordination: Path, seconds: float) -> int:
    """When the status command first tells of the shop."""
    seen: list[int] = []

    def appears() -> bool:
        if "shop" in _status(coordination)["span_counts"]:
            seen.append(time.time_ns())
        return bool(seen)

    _await(appears, seconds)
    return seen[0]


def _await_batch(daemon: Daemon) -> None:
    """Wait until another batch has come: what happens from now on is in the next one."""
    before = daemon.status()["spans"]["accepted"]
    _await(lambda: daemon.status()["spans"]["accepted"] > before, 12)


def _one_new_finding(daemon: Daemon, known: set[str], hold_seconds: float) -> Seen:
    """The finding of a fault; fails when more than one is raised while it lasts."""
    _await(lambda: {finding.id for finding in daemon.findings()} - known, 15)
    time.sleep(hold_seconds)
    raised = [finding for finding in daemon.findings() if finding.id not in known]
    assert len(raised) == 1, raised
    return raised[0]


def _batches(recording: Path) -> list[tuple[int, list[dict]]]:
    """(received at, spans) of the shop's export requests."""
    batches = []
    for line in recording.read_text().splitlines():
        document = json.loads(line)
        for group in document.get("resourceSpans", ()):
            spans = [span for scope in group["scopeSpans"] for span in scope["spans"]]
            batches.append((int(document["receivedAtUnixNano"]), spans))
    return batches


def _first_bad(batches: list[tuple[int, list[dict]]], since: int, is_bad: Callable[[dict], bool]) -> int:
    return next(received for received, spans in batches if received > since and any(is_bad(span) for span in spans))


def _is_failed(span: dict) -> bool:
    return span.get("status", {}).get("code") in (2, "STATUS_CODE_ERROR")


def _is_slow(span: dict) -> bool:
    return int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"]) > 0.25 * SECOND


@pytest.mark.slow
@pytest.mark.timeout(170)
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_stock_service_is_seen_diagnosed_and_found_well_again(protocol, tmp_path):
    recording = tmp_path / "recording.jsonl"
    coordination = tmp_path / "coordination"
    faults = [("error_spike", {"fail": 0.6}, {"fail": 0.0}, _is_failed), ("latency_increase", {"sleep": 0.3}, {"sleep": 0.0}, _is_slow)]
    found: list[tuple[str, int, Seen, Callable[[dict], bool]]] = []
    daemon = Daemon(directory=tmp_path, coordination=coordination, environment=clean(os.environ))
    with daemon.start(min_seconds=18, min_spans=100, record=recording), _shop(daemon, protocol, tmp_path / "shop.log") as shop:
        appeared_at = _appears_at(coordination, 15)
        _await(lambda: "shop" not in daemon.status()["learning"], 45)
        assert daemon.findings() == []
        for pattern, trouble, relief, is_bad in faults:
            known = {finding.id for finding in daemon.findings()}
            _await_batch(daemon)
            began_at = time.time_ns()
            shop.trouble(**trouble)
            finding = _one_new_finding(daemon, known, hold_seconds=4)
            shop.trouble(**relief)
            _await(lambda identity=finding.id: {f.id: f for f in daemon.findings()}[identity].resolved_at, 40)
            raised = [(f.pattern, f.service, f.summary) for f in daemon.findings() if f.id not in known]
            assert len(raised) == 1, f"nothing else is raised by the recovery: {raised}"
            found.append((pattern, began_at, finding, is_bad))
        assert [incident.root_causes[:1] for incident in daemon.incidents()] == [["shop"]] * len(faults)
    batches = _batches(recording)
    assert appeared_at - batches[0][0] <= 2 * SECOND
    for pattern, began_at, finding, is_bad in found:
        assert (finding.pattern, finding.service) == (pattern, "shop")
        assert finding.at - _first_bad(batches, began_at, is_bad) <= 2.1 * SECOND
