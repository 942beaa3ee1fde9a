"""The daemon under as much load as it takes, over both transports: memory flat, log clean, all that was acknowledged is counted.

The full ten minutes are marked slow; half a minute always runs.
"""

import json
import threading
import time
import urllib.request
from dataclasses import dataclass, field

import psutil
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from prometheus_client.parser import text_string_to_metric_families

from bench.senders import GrpcSender, HttpSender, Sender
from bench.traffic import Traffic
from tests.e2e.running import Daemon, running_daemon, wait_until

MIB = 1 << 20
SPANS = 512
LATE_NS = 300 * 10**9
# A full queue (256 MiB), the id cache (200,000 spans) and the libraries: what the limits allow, whatever is sent.
MOST_MEMORY = 1200 * MIB


@dataclass
class Sent:
    """What one sender was told."""

    requests: int = 0
    spans: int = 0
    rejected: int = 0
    refused: int = 0
    error: str = ""


@dataclass
class Load:
    """Senders in threads of their own, each as fast as the daemon answers. Every `late_every`-th request of each is too old to count."""

    late_every: int
    stopping: threading.Event = field(default_factory=threading.Event)
    sent: list[Sent] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self, daemon: Daemon) -> None:
        for seed in range(4):
            sender: Sender = GrpcSender(daemon.otlp_grpc) if seed % 2 else HttpSender(daemon.otlp_http)
            sent = Sent()
            thread = threading.Thread(target=self._send, args=(sender, Traffic(seed), sent))
            self.sent.append(sent)
            self.threads.append(thread)
            thread.start()

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def _send(self, sender: Sender, traffic: Traffic, sent: Sent) -> None:
        try:
            while not self.stopping.is_set():
                age = LATE_NS if sent.requests % self.late_every == self.late_every - 1 else 0
                answer = ExportTraceServiceResponse.FromString(sender.send(traffic.body(SPANS, time.time_ns() - age)))
                sent.requests += 1
                sent.spans += SPANS
                sent.rejected += answer.partial_success.rejected_spans
                sent.refused = sender.refused
        except Exception as error:  # noqa: BLE001  # the test reports what ended a sender
            sent.error = f"{type(error).__name__}: {error}"
        finally:
            sender.close()


def metrics(daemon: Daemon) -> dict[tuple[str, ...], float]:
    """Every sample of /metrics by its name and its labels' values in the order of their names."""
    with urllib.request.urlopen(f"http://{daemon.api}/metrics", timeout=30) as response:
        text = response.read().decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def soak(daemon: Daemon, seconds: float, late_every: int = 50) -> dict[str, object]:
    """Load the daemon, wait until it has worked off what it took; gives the figures."""
    load, process, memory = Load(late_every), psutil.Process(daemon.process.pid), []
    before = process.cpu_times()
    started = time.monotonic()
    load.start(daemon)
    try:
        while time.monotonic() - started < seconds and all(not sent.error for sent in load.sent):
            time.sleep(1)
            memory.append(process.memory_info().rss)
    finally:
        load.stop()
    elapsed = time.monotonic() - started
    spans = sum(sent.spans - sent.rejected for sent in load.sent)
    wait_until(lambda: metrics(daemon)["dslmodel_spans_total", "accepted"] >= spans, seconds=120, what=f"{spans} spans are counted")
    wait_until(lambda: metrics(daemon)["dslmodel_queue_items",] == 0, seconds=30, what="the queue is empty")
    after = process.cpu_times()
    half = len(memory) // 2
    return {
        "seconds": round(elapsed, 1),
        "acknowledged_spans": spans,
        "spans_per_second": round(spans / elapsed),
        "requests": sum(sent.requests for sent in load.sent),
        "refused": sum(sent.refused for sent in load.sent),
        "errors": [sent.error for sent in load.sent if sent.error],
        "cpu_seconds": round(after.user + after.system - before.user - before.system, 1),
        "memory_mib": [size // MIB for size in memory[:: max(1, len(memory) // 20)]],
        "most_mib_first_half": max(memory[:half]) // MIB,
        "most_mib_second_half": max(memory[half:]) // MIB,
    }


def check(daemon: Daemon, figures: dict[str, object]) -> dict[tuple[str, ...], float]:
    """What holds however long it ran."""
    print(json.dumps(figures))
    counted = metrics(daemon)
    print({key: value for key, value in counted.items() if key[0].startswith(("dslmodel_spans", "dslmodel_received", "dslmodel_errors"))})
    assert figures["errors"] == []
    accepted = counted["dslmodel_spans_total", "accepted"]
    received = sum(value for key, value in counted.items() if key[0] == "dslmodel_received_total" and key[1:3] == ("items", "traces"))
    assert accepted == figures["acknowledged_spans"] == received, "all that was acknowledged is counted, and nothing else"
    parts = {part: counted["dslmodel_spans_total", part] for part in ("windowed", "late", "own")}
    assert accepted == sum(parts.values())
    assert parts["late"] > 0
    for key, value in counted.items():
        if key[0] == "dslmodel_errors_total":
            assert value == 0, f"{key} in the loop"
    log = (daemon.directory / "daemon.log").read_text()
    bad = [line for line in log.splitlines() if any(word in line for word in ("ERROR", "CRITICAL", "Traceback", "Exception"))]
    assert bad == []
    assert max(int(str(figures["most_mib_first_half"])), int(str(figures["most_mib_second_half"]))) * MIB < MOST_MEMORY
    return counted


@pytest.mark.timeout(240)
def test_half_a_minute_of_full_load(tmp_path):
    with running_daemon(tmp_path) as daemon:
        check(daemon, soak(daemon, 25))
        assert daemon.status()["telemetry"]["processing"]


@pytest.mark.timeout(240)
def test_what_is_refused_and_sent_again_is_counted_once(tmp_path):
    (tmp_path / "dslmodel.toml").write_text("[limits]\nqueue_items = 1\n")
    with running_daemon(tmp_path) as daemon:
        figures = soak(daemon, 8, late_every=5)
        counted = check(daemon, figures)
        refused = sum(value for key, value in counted.items() if key[0] == "dslmodel_received_total" and key[1] == "queue_full")
        assert refused == figures["refused"] > 0


@pytest.mark.long
@pytest.mark.timeout(1000)
def test_ten_minutes_of_full_load(tmp_path):
    with running_daemon(tmp_path) as daemon:
        figures = soak(daemon, 600)
        check(daemon, figures)
        most_first, most_second = int(str(figures["most_mib_first_half"])), int(str(figures["most_mib_second_half"]))
        assert most_second <= most_first * 1.05 + 10, "memory is flat once the caches are full"
        assert daemon.status()["telemetry"]["processing"]
