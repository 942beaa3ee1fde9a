"""From the receipt of the first bad request to the finding, while the engine works for its living."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.measure import Result, Row, percentile
from bench.sending import begin, sending
from dslmodel.api.otlp_grpc import serve_grpc
from dslmodel.clock import SECOND
from dslmodel.engine.runner import Runner, TickReport
from dslmodel.engine.runtime import build_pipeline
from dslmodel.engine.steady import SteadyClock
from dslmodel.ingest.buffer import Buffer
from dslmodel.ingest.reception import ReceiverStats, Reception
from dslmodel.records import Input, Kind, Pattern, Payload
from dslmodel.settings import Detection, Settings
from dslmodel.testing import SpanFactory, payload

_LEARN_SECONDS = 20
_GAP_SECONDS = 1.37  # between bursts; no whole number of seconds, so that they begin at every phase of the tick
_BURST_SECONDS = 4
_REQUESTS = 20  # requests a second to each service
_LOAD_SPANS, _LOAD_PER_SECOND = 512, 24
# Short, so that the run is: how fast a baseline is learnt is not what is measured.
_SETTINGS = Settings(detection=Detection(min_spans=100, min_seconds=10))


@dataclass(slots=True)
class Burst:
    """Errors of one service."""

    service: str
    began_at: float  # seconds after the start
    received_at: int = 0  # of the first bad request
    found_at: int = 0  # stamp of the finding
    told_at: int = 0  # when subscribers could have it


@dataclass(slots=True)
class Bench:
    """An engine with real receiver, runner and wall clock; services with light traffic that fail one after the other."""

    bursts: list[Burst]
    clock: SteadyClock = field(default_factory=SteadyClock)
    ticks: list[float] = field(default_factory=list)
    findings: int = 0

    def observe(self, report: TickReport) -> None:
        """Note findings as subscribers get them."""
        now = self.clock.now()
        self.ticks.append(report.duration_seconds)
        for finding in report.ticked.findings:
            if finding.pattern is not Pattern.ERROR_SPIKE or finding.resolved_at is not None:
                continue
            for burst in self.bursts:
                if burst.service == finding.service and burst.received_at and not burst.told_at:
                    burst.found_at, burst.told_at = finding.at, now

    def run(self) -> None:
        """Until the last burst is over."""
        limits = _SETTINGS.limits
        buffer = Buffer(items=limits.queue_items, size=limits.queue_bytes, clock=self.clock)
        receiver = serve_grpc(Reception(buffer=buffer, limits=limits, stats=ReceiverStats()), port=0)
        runner = Runner(build_pipeline(_SETTINGS), buffer, self.clock)
        runner.observe(self.observe)
        runner.start()
        seconds = self.bursts[-1].began_at + _BURST_SECONDS + 3
        count = round(seconds * _LOAD_PER_SECOND)
        with sending("grpc", f"127.0.0.1:{receiver.port}", seed=3, spans=_LOAD_SPANS, count=count, per_second=_LOAD_PER_SECOND) as load:
            begin(load)
            feeder = threading.Thread(target=self._feed, args=(buffer, seconds))
            feeder.start()
            feeder.join()
        receiver.stop()
        runner.stop()

    def _feed(self, buffer: Buffer, seconds: float) -> None:
        """Every service sends what it did each half second."""
        rng, factory, started = Random(5), SpanFactory(2), time.monotonic()
        while (elapsed := time.monotonic() - started) < seconds:
            for burst in self.bursts:
                is_failing = burst.began_at <= elapsed < burst.began_at + _BURST_SECONDS
                self._send(buffer, burst, factory, rng, is_failing=is_failing)
            time.sleep(max(0.0, started + elapsed + 0.5 - time.monotonic()))

    def _send(self, buffer: Buffer, burst: Burst, factory: SpanFactory, rng: Random, *, is_failing: bool) -> None:
        now = self.clock.now()
        spans = [
            factory.span(
                "GET /",
                now - rng.randrange(SECOND // 2) - SECOND // 50,
                rng.lognormvariate(2, 0.3),
                kind=Kind.SERVER,
                status="error" if is_failing and rng.random() < 0.8 else "unset",
            )
            for _ in range(_REQUESTS // 2)
        ]
        made = payload(spans, service=burst.service, instance="1")
        is_first = is_failing and not burst.received_at

        def stamp(received_at: int) -> Input:
            if is_first:
                burst.received_at = received_at
            message = ExportTraceServiceRequest.FromString(made.body)
            return Payload(
                signal=made.signal, encoding=made.encoding, body=made.body, message=message, received_at=received_at, source="bench"
            )

        if not buffer.put_input(stamp, len(made.body)):
            raise RuntimeError("the queue is full: the load is more than this machine takes")


def run(*, quick: bool) -> Sequence[Result]:
    """Bursts on different services, one after the other."""
    count = 12 if quick else 40
    bench = Bench([Burst(f"service-{i:02}", _LEARN_SECONDS + i * _GAP_SECONDS) for i in range(count)])
    cpu, wall = time.process_time(), time.monotonic()
    bench.run()
    busy = (time.process_time() - cpu) / (time.monotonic() - wall)
    found = [burst for burst in bench.bursts if burst.told_at]
    told = [(burst.told_at - burst.received_at) / SECOND for burst in found]
    stamped = [(burst.found_at - burst.received_at) / SECOND for burst in found]
    rows = [
        Row(label="receipt to finding", unit="s", samples=told),
        Row(label="receipt to finding, p99", unit="s", samples=[percentile(told, 0.99)]),
        Row(label="receipt to the finding's own stamp", unit="s", samples=stamped),
        Row(label="receipt to the finding's own stamp, p99", unit="s", samples=[percentile(stamped, 0.99)]),
        Row(label="one tick with what was fed before it", unit="s", samples=bench.ticks[_LEARN_SECONDS:]),
        Row(label="CPU of the process", unit="cores", samples=[busy]),
    ]
    return [
        Result(
            name="latency",
            title="From receipt to finding under load",
            what=(
                f"{len(found)} of {count} bursts found. {count} services of {_REQUESTS} requests/s fail one after the other (80 % errors "
                f"for {_BURST_SECONDS} s), while a gRPC sender adds {_LOAD_PER_SECOND} requests/s of {_LOAD_SPANS} spans. Time runs from "
                "the stamp of the first bad request until subscribers have the finding; detection ticks once a second. Baselines of 10 s."
            ),
            rows=rows,
        )
    ]
