"""The demonstration system by itself: its spans go to a small OTLP receiver of the test's own."""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from dslmodel.demo.child import clean
from dslmodel.demo.system import System
from dslmodel.demo.topology import AGENTS, SERVICES
from dslmodel.errors import DslModelError


@dataclass(frozen=True)
class Received:
    service: str
    instance: str
    version: str
    span: Span

    @property
    def is_error(self) -> bool:
        return self.span.status.code == Status.STATUS_CODE_ERROR

    @property
    def milliseconds(self) -> float:
        return (self.span.end_time_unix_nano - self.span.start_time_unix_nano) / 1e6


class Collector:
    """Keeps every span that it is sent."""

    def __init__(self) -> None:
        self._spans: list[Received] = []
        keep = self._keep

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                keep(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.block_on_close = False  # the services' exporters keep their connections
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def _keep(self, body: bytes) -> None:
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = {item.key: item.value.string_value for item in group.resource.attributes}
            name, instance, version = (resource[f"service.{key}"] for key in ("name", "instance.id", "version"))
            self._spans += [Received(name, instance, version, span) for scope in group.scope_spans for span in scope.spans]

    def since(self, at: int) -> list[Received]:
        return [received for received in list(self._spans) if received.span.start_time_unix_nano > at]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture(scope="module")
def system(collector: Collector, tmp_path_factory) -> Iterator[System]:
    directory = tmp_path_factory.mktemp("demo")
    started = time.monotonic()
    with System(
        directory=directory, coordination=directory / "coordination", otlp=collector.address, environment=clean(os.environ)
    ) as system:
        assert time.monotonic() - started < 15, "a dozen light processes"
        system.coordination_directory = directory / "coordination"
        yield system


def _await(what: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.1)


def _of(spans: list[Received], service: str, kind: int) -> list[Received]:
    return [received for received in spans if received.service == service and received.span.kind == kind]


def test_every_instance_sends_spans_with_its_name_and_version(system, collector):
    expected = {f"{service.name}-{n}" for service in SERVICES.values() for n in range(1, service.instances + 1)}
    _await(lambda: {received.instance for received in collector.since(0)} >= expected)
    assert {received.service for received in collector.since(0)} == set(SERVICES)
    assert {received.version for received in collector.since(0)} == {"1.0.0"}


def test_one_visit_is_one_trace_through_the_proxy_with_callers_as_parents(system, collector):
    def complete_trace() -> list[Received] | None:
        traces: dict[bytes, list[Received]] = {}
        for received in collector.since(0):
            traces.setdefault(received.span.trace_id, []).append(received)
        whole = {"storefront", "catalog", "cart"}
        return next((spans for spans in traces.values() if {received.service for received in spans} == whole and len(spans) == 5), None)

    _await(complete_trace)
    spans = complete_trace()
    by_id = {received.span.span_id: received for received in spans}
    (root,) = [received for received in spans if not received.span.parent_span_id]
    assert (root.service, root.span.name, root.span.kind) == ("storefront", "GET /", Span.SPAN_KIND_SERVER)
    for received in spans:
        if received is root:
            continue
        parent = by_id[received.span.parent_span_id]
        if received.span.kind == Span.SPAN_KIND_CLIENT:
            assert parent.service == received.service
        else:
            called = {item.key: item.value.string_value for item in parent.span.attributes}["server.address"]
            assert (parent.span.kind, called) == (Span.SPAN_KIND_CLIENT, received.service)


def test_healthy_system_serves_its_users(system):
    _await(lambda: system.load_counts().get("browse.ok", 0) > 20)
    counts = system.load_counts()
    assert counts.get("browse.failed", 0) <= counts["browse.ok"] * 0.05
    assert not [name for name in counts if name.endswith(".shed")]


def test_agents_beat_and_do_the_work(system):
    directory: Path = system.coordination_directory
    _await(lambda: len(list(directory.glob("completed_*.json"))) >= 3)
    assert len(list(directory.glob("agent_*.json"))) == AGENTS
    document = json.loads(next(directory.glob("completed_*.json")).read_text())
    assert document["status"] == "completed"
    assert document["claimed_by"] in {str(n) for n in range(1, AGENTS + 1)}


def test_failing_service_fails_and_its_caller_copes(system, collector):
    at = system.fault("cart", error_ratio=1.0)
    _await(lambda: len(_of(collector.since(at), "cart", Span.SPAN_KIND_SERVER)) >= 20)
    mended_at = system.fault("cart")
    spans = collector.since(at)
    cart = [received for received in _of(spans, "cart", Span.SPAN_KIND_SERVER) if received.span.start_time_unix_nano < mended_at - 1e8]
    assert sum(received.is_error for received in cart) >= len(cart) * 0.9
    storefront = _of(spans, "storefront", Span.SPAN_KIND_SERVER)
    assert sum(received.is_error for received in storefront) <= len(storefront) * 0.1


def test_slow_service_is_slow_and_so_is_who_waits_for_it(system, collector):
    at = system.fault("carriers", latency_ms=150.0)
    _await(lambda: len(_of(collector.since(at), "shipping", Span.SPAN_KIND_SERVER)) >= 30)
    system.fault("carriers")
    for service in ("carriers", "shipping"):
        slow = _of(collector.since(at + 100_000_000), service, Span.SPAN_KIND_SERVER)[:10]
        assert min(received.milliseconds for received in slow) > 150


def test_killed_service_fails_its_callers_and_serves_again_after_a_restart(system, collector):
    at = system.kill("ledger")
    _await(lambda: len(_of(collector.since(at + 300_000_000), "payments", Span.SPAN_KIND_SERVER)) >= 5)
    spans = collector.since(at + 300_000_000)
    assert not _of(spans, "ledger", Span.SPAN_KIND_SERVER)
    assert all(received.is_error for received in _of(spans, "payments", Span.SPAN_KIND_SERVER))
    back_at = system.restart("ledger")
    _await(lambda: len(_of(collector.since(back_at), "ledger", Span.SPAN_KIND_SERVER)) >= 5)
    after = _of(collector.since(back_at + 100_000_000), "payments", Span.SPAN_KIND_SERVER)
    assert sum(received.is_error for received in after) <= 1


def test_broken_circuit_keeps_calls_away_until_it_is_closed(system, collector):
    at = system.set_circuit("ledger", is_broken=True)
    _await(lambda: len(_of(collector.since(at), "payments", Span.SPAN_KIND_SERVER)) >= 5)
    assert not _of(collector.since(at + 100_000_000), "ledger", Span.SPAN_KIND_SERVER)
    closed_at = system.set_circuit("ledger", is_broken=False)
    _await(lambda: _of(collector.since(closed_at), "ledger", Span.SPAN_KIND_SERVER))


def test_stopped_traffic_silences_one_service_only(system, collector):
    at = system.stop_traffic("read") + 200_000_000
    _await(lambda: len(_of(collector.since(at), "storefront", Span.SPAN_KIND_SERVER)) >= 20)
    assert not _of(collector.since(at), "reviews", Span.SPAN_KIND_SERVER)
    back_at = system.stop_traffic()
    _await(lambda: _of(collector.since(back_at), "reviews", Span.SPAN_KIND_SERVER))


def test_control_refuses_what_makes_no_sense(system):
    with pytest.raises(DslModelError, match=r"answered 400.*error_ratio is 2"):
        system.fault("cart", error_ratio=2)
    with pytest.raises(DslModelError, match=r"answered 400.*no journey 'nobody'"):
        system.stop_traffic("nobody")


_ORPHANS = """
import json, os, pathlib, sys, time
from dslmodel.demo.child import clean
from dslmodel.demo.system import System
folder = pathlib.Path(sys.argv[1])
with System(directory=folder, coordination=folder / "c", otlp="http://127.0.0.1:9", environment=clean(os.environ)) as system:
    print(json.dumps(system.processes()), flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_process_outlives_its_parent(end, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", _ORPHANS, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as parent:
        pids = json.loads(parent.stdout.readline()).values()
        assert len(pids) == 14
        parent.send_signal(end)
    _await(lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists()], seconds=10)
