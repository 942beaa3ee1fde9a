"""Spans a second and core: decoding alone, the reference aggregator, and the whole way from a socket to a finding."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.measure import Result, Row, interleave, ratios
from bench.sending import begin, sending
from bench.traffic import SPANS_PER_SECOND, START, Traffic, virtual_time
from dslmodel.api.otlp import OtlpApp
from dslmodel.api.otlp_grpc import GrpcReceiver, serve_grpc
from dslmodel.api.otlp_http import HttpReceiver, serve_http
from dslmodel.clock import SECOND
from dslmodel.engine.pipeline import Pipeline
from dslmodel.engine.runtime import build_pipeline
from dslmodel.ingest.buffer import Buffer
from dslmodel.ingest.reception import ReceiverStats, Reception
from dslmodel.ingest.spans import decode_spans
from dslmodel.records import Encoding, Payload, Signal
from dslmodel.settings import Settings
from dslmodel.windows.aggregate import ReferenceAggregator

SEED = 1
_SETTLED_SECONDS = 40  # after which every span was settled and forgotten
_END_OF_TIME = 1 << 62
PARSE, AGGREGATE, GRPC, HTTP = "ParseFromString", "reference aggregator", "gRPC receiver to finding", "HTTP receiver to finding"


class Throughput:
    """The same requests on every way. CPU seconds of the whole process, all its threads."""

    def __init__(self, spans: int, count: int) -> None:
        traffic = Traffic(SEED)
        self.spans, self.count = spans, count
        self.bodies = [traffic.body(spans, virtual_time(index, spans)) for index in range(count)]

    def parse(self) -> float:
        """`ParseFromString` of all requests."""
        started = time.process_time()
        for body in self.bodies:
            ExportTraceServiceRequest().ParseFromString(body)
        return time.process_time() - started

    def aggregate(self) -> float:
        """The aggregator from decoded messages to sealed windows, until the last span is settled and forgotten."""
        payloads = [self._payload(index) for index in range(self.count)]
        aggregator = ReferenceAggregator(decode_spans)
        tick = START + SECOND
        started = time.process_time()
        for payload in payloads:
            while tick <= payload.received_at:
                aggregator.seal(tick)
                tick += SECOND
            aggregator.add(payload, payload.received_at)
        for _ in range(_SETTLED_SECONDS):
            aggregator.seal(tick)
            tick += SECOND
        return time.process_time() - started

    def _payload(self, index: int) -> Payload:
        message = ExportTraceServiceRequest()
        message.ParseFromString(self.bodies[index])
        at = virtual_time(index, self.spans)
        return Payload(
            signal=Signal.TRACES, encoding=Encoding.PROTOBUF, body=self.bodies[index], message=message, received_at=at, source=""
        )

    def receive(self, transport: str) -> float:
        """A real receiver over loopback, buffer, pipeline with detection each second. The sender is another process."""
        settings = Settings()
        buffer = Buffer(items=settings.limits.queue_items, size=settings.limits.queue_bytes)
        reception = Reception(buffer=buffer, limits=settings.limits, stats=ReceiverStats())
        receiver: GrpcReceiver | HttpReceiver = (
            serve_grpc(reception, port=0) if transport == "grpc" else serve_http(OtlpApp(reception), port=0)
        )
        pipeline = build_pipeline(settings)
        try:
            with sending(transport, f"127.0.0.1:{receiver.port}", seed=SEED, spans=self.spans, count=self.count) as sender:
                started = time.process_time()
                begin(sender)
                self._drain(buffer, pipeline)
                return time.process_time() - started
        finally:
            receiver.stop()

    def _drain(self, buffer: Buffer, pipeline: Pipeline) -> None:
        """Feed every request at its virtual time, whenever it really came."""
        tick, index = START + SECOND, 0
        while index < self.count:
            buffer.wait(1.0)
            for item in buffer.drain(_END_OF_TIME):
                assert isinstance(item, Payload)
                at = virtual_time(index, self.spans)
                while tick <= at:
                    pipeline.tick(tick)
                    tick += SECOND
                pipeline.feed(replace(item, received_at=at))
                index += 1
        for _ in range(_SETTLED_SECONDS):
            pipeline.tick(tick)
            tick += SECOND


def run(*, quick: bool) -> Sequence[Result]:
    """Two payload sizes, each way in turn."""
    total = 40_960 if quick else 81_920
    return [_of_size(spans, total // spans, rounds=3 if quick else 9) for spans in (512, 8192)]


def _of_size(spans: int, count: int, rounds: int) -> Result:
    bench = Throughput(spans, count)
    works: dict[str, Callable[[], float]] = {
        PARSE: bench.parse,
        AGGREGATE: bench.aggregate,
        GRPC: partial(bench.receive, "grpc"),
        HTTP: partial(bench.receive, "http"),
    }
    samples = interleave(rounds, works)
    total = spans * count
    rows = [
        Row(label=f"{label}: spans/s per core", unit="", samples=[total / seconds for seconds in taken]) for label, taken in samples.items()
    ]
    rows += [
        Row(label=f"{label}: CPU time to {PARSE}'s", unit="x", samples=ratios(samples[label], samples[PARSE]))
        for label in (AGGREGATE, GRPC, HTTP)
    ]
    size = len(bench.bodies[0]) / spans
    return Result(
        name="throughput",
        title=f"Spans a second and core, {spans:,} spans a request",
        what=(
            f"{count} requests of {spans:,} spans (15 attributes, {size:.0f} bytes each; {SPANS_PER_SECOND:,} spans a second of virtual "
            "time). The aggregator starts from decoded messages and ends when every span is settled. The receivers are real ones over "
            "loopback; their way includes decoding, the queue, and a tick with all detectors for every second. CPU time of our process; "
            "the senders are others."
        ),
        rows=rows,
    )
