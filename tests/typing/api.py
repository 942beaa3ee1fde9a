"""The public API as users write it: type-checked, never run."""

from datetime import timedelta

from opentelemetry.sdk.trace import TracerProvider

from dslmodel.engine.in_process import InProcess
from dslmodel.engine.runtime import default_runtime
from dslmodel.errors import ConfigurationError, DslModelError, IngestError
from dslmodel.records import Encoding, Finding, Kind, Payload, Snapshot
from dslmodel.telemetry import TelemetryProcessor, TelemetrySpanProcessor, get_telemetry_processor
from dslmodel.testing import BuiltSpan, SpanFactory, VirtualClock, at, clock_at, gauges, logs, payload, span, use_runtime

# ---------------------------------------------------------------- dslmodel.telemetry

processor: TelemetryProcessor = get_telemetry_processor()
processor.window_size = timedelta(seconds=30)
window: timedelta = processor.window_size
health: float | None = processor.get_health_score()
snapshot: Snapshot | None = processor.snapshot()
is_taken: bool = processor.ingest_span({"name": "job", "start_time": 1_767_225_600.0, "duration_ms": 12, "status": "OK"})


def on_metrics(metrics: Snapshot) -> None:
    """What a subscriber may read."""
    score: float | None = metrics.health_score
    counts: int = metrics.span_counts["cart"]["GET /"]
    rate: float = metrics.error_rates["cart"]
    p99: float = metrics.latency_ms["cart"]["p99"]
    throughput: float = metrics.throughput_per_second
    patterns: list[Finding] = list(metrics.patterns)
    print(score, counts, rate, p99, throughput, [finding.pattern.value for finding in patterns])


end = processor.subscribe_to_metrics(on_metrics)
end()
processor.subscribe_to_metrics(lambda metrics: print(f"Health: {metrics.health_score}"))
processor.start()
processor.stop()

provider = TracerProvider()
provider.add_span_processor(TelemetrySpanProcessor())
provider.add_span_processor(TelemetrySpanProcessor(processor))

# ---------------------------------------------------------------- dslmodel.testing

root: BuiltSpan = span("GET /cart", at(0), 12.5, kind=Kind.SERVER, attributes={"http.response.status_code": 200})
call = SpanFactory(seed=7).span("GET /price", at(0.002), 8, kind=Kind.CLIENT, parent=root, status="error")
item: Payload = payload([root, call], service="cart", instance="cart-1", version="2", received_at=at(5), encoding=Encoding.JSON)
reading: Payload = gauges({"system.memory.utilization": 0.9}, at(1), service="cart")
records: Payload = logs([17], at(1), service="cart")
clock: VirtualClock = clock_at(60)
now: int = clock.now()
with use_runtime(default_runtime()) as runtime:
    same: InProcess = runtime

# ---------------------------------------------------------------- dslmodel.errors

errors: tuple[type[DslModelError], ...] = (ConfigurationError, IngestError)
