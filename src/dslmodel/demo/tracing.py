"""The OpenTelemetry SDK as the demonstration's processes use it: nothing of ours in it but a shorter batch delay."""

from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

_DELAY_MILLISECONDS = 500
_TIMEOUT_SECONDS = 2.0


def provider(otlp: str, resource: Mapping[str, str | bool]) -> TracerProvider:
    """Build a provider that exports to the OTLP/HTTP address `otlp` (http://host:port)."""
    spans = TracerProvider(resource=Resource(resource), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{otlp}/v1/traces", timeout=_TIMEOUT_SECONDS)
    spans.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_DELAY_MILLISECONDS))
    return spans
