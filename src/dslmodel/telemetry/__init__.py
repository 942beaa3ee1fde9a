"""Public facade of the span stream: health, metrics and patterns in your own process.

    from datetime import timedelta
    from dslmodel.telemetry import TelemetrySpanProcessor, get_telemetry_processor

    processor = get_telemetry_processor()
    processor.window_size = timedelta(seconds=30)
    processor.subscribe_to_metrics(lambda metrics: print(metrics.health_score, metrics.patterns))
    provider.add_span_processor(TelemetrySpanProcessor())       # spans of the OpenTelemetry SDK
    processor.ingest_span({"name": "job", "start_time": "2026-01-01T00:00:00Z", "duration_ms": 12, "status": "OK"})

Takes: spans, made by hand or by the SDK. Gives: snapshots. Owns: nothing but the way to the default runtime. Never starts
anything upon a mere question.
"""

from dslmodel.records import Finding, Health, HealthState, Pattern, Snapshot
from dslmodel.telemetry.processor import TelemetryProcessor, get_telemetry_processor
from dslmodel.telemetry.span_processor import SpanProcessorStats, TelemetrySpanProcessor

__all__ = [
    "Finding",
    "Health",
    "HealthState",
    "Pattern",
    "Snapshot",
    "SpanProcessorStats",
    "TelemetryProcessor",
    "TelemetrySpanProcessor",
    "get_telemetry_processor",
]
