"""The snippets in docs/collector*.yaml with a real OpenTelemetry Collector, built from its Go modules."""

import gzip
import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SpanExportResult

from tests.e2e.running import environment, free_port, process, running_daemon, send_spans, wait_until

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("collector")
SNIPPETS = ["collector.yaml", "collector-http.yaml"]
PORTS = {"collector.yaml": "127.0.0.1:4317", "collector-http.yaml": "127.0.0.1:4318"}

# What somebody has who already runs a Collector: one receiver, one backend.
EXISTING = """
receivers:
  otlp:
    protocols:
      http:
        endpoint: 127.0.0.1:{port}
exporters:
  otlp_http:
    endpoint: http://127.0.0.1:{backend}
    retry_on_failure:
      enabled: false
service:
  telemetry:
    metrics:
      level: none
  pipelines:
    traces:
      receivers: [otlp]
      exporters: [otlp_http]
"""

pytestmark = pytest.mark.timeout(900)  # the first run on a machine compiles the Collector


@pytest.fixture(scope="module")
def collector() -> Path:
    """The Collector's binary, kept between runs under a name made of its sources."""
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        pytest.skip("needs Go to build a real Collector")
    sources = {name: (SOURCE / name).read_bytes() for name in ("go.mod", "main.go")}
    key = hashlib.sha256(b"\0".join(sources.values())).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dslmodel-tests" / f"collector-{key}"
    binary = cache / "collector"
    if not binary.exists():
        cache.mkdir(parents=True, exist_ok=True)
        for name, content in sources.items():
            (cache / name).write_bytes(content)
        tidied = _run(go, "mod", "tidy", folder=cache)
        if tidied.returncode != 0:
            pytest.skip(f"the Collector's Go modules can't be had: {tidied.stderr.strip().splitlines()[-1]}")
        built = _run(go, "build", "-trimpath", "-o", "collector.new", ".", folder=cache)
        assert built.returncode == 0, built.stderr
        (cache / "collector.new").rename(binary)
    return binary


def _run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


class Backend:
    """What the Collector fed before we came: an OTLP/HTTP server that counts the spans it gets."""

    def __init__(self) -> None:
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                request = ExportTraceServiceRequest.FromString(body)
                backend.names += [s.name for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self.names: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]


@contextmanager
def serving_backend() -> Iterator[Backend]:
    backend = Backend()
    thread = threading.Thread(target=backend.server.serve_forever)
    thread.start()
    try:
        yield backend
    finally:
        backend.server.shutdown()
        thread.join()
        backend.server.server_close()


@contextmanager
def running_collector(binary: Path, folder: Path, *, backend: Backend, snippet: str, dslmodel: str) -> Iterator[str]:
    """The Collector with the existing configuration and the snippet of the docs; gives the traces URL of its receiver."""
    port = free_port()
    (folder / "existing.yaml").write_text(EXISTING.format(port=port, backend=backend.port))
    text = (ROOT / "docs" / snippet).read_text()
    assert text.count(PORTS[snippet]) == 1
    (folder / snippet).write_text(text.replace(PORTS[snippet], dslmodel))
    log = folder / "collector.log"
    command = [str(binary), "existing.yaml", snippet]
    with process(command, log=log, cwd=folder, env=environment()) as started:

        def is_ready() -> bool:
            assert started.poll() is None, log.read_text()
            return "Everything is ready" in log.read_text()

        wait_until(is_ready, seconds=30, what="the Collector starts")
        yield f"http://127.0.0.1:{port}/v1/traces"


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_collector_with_the_snippet_feeds_its_backend_and_us(collector: Path, tmp_path: Path, snippet: str) -> None:
    with serving_backend() as backend, running_daemon(tmp_path) as daemon:
        address = daemon.otlp_grpc if snippet == "collector.yaml" else daemon.otlp_http
        with running_collector(collector, tmp_path, backend=backend, snippet=snippet, dslmodel=address) as url:
            assert set(send_spans(url, service="shop", count=20)) == {SpanExportResult.SUCCESS}
            wait_until(lambda: len(backend.names) == 20, seconds=15, what="all spans reach the backend")
            counts = wait_until(lambda: daemon.services().get("shop"), seconds=15, what="the service shows in status")
            wait_until(lambda: sum(daemon.services()["shop"].values()) == 20, seconds=15, what="every span is counted")
    assert counts


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_stopped_dslmodel_costs_the_collector_s_backend_nothing(collector: Path, tmp_path: Path, snippet: str) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    with serving_backend() as backend, running_collector(collector, tmp_path, backend=backend, snippet=snippet, dslmodel=nobody) as url:
        assert set(send_spans(url, service="shop", count=50)) == {SpanExportResult.SUCCESS}
        wait_until(lambda: len(backend.names) == 50, seconds=15, what="all spans reach the backend")
    assert sorted(set(backend.names)) == sorted(backend.names)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_the_snippet_adds_to_a_configuration_and_replaces_nothing(snippet: str) -> None:
    yaml = pytest.importorskip("yaml")
    added = yaml.safe_load((ROOT / "docs" / snippet).read_text())
    assert set(added) == {"exporters", "service"}
    names = [*added["exporters"], *added["service"]["pipelines"]]
    assert all(name.endswith("/dslmodel") for name in names)
