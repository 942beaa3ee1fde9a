"""Helpers for tests, shipped: spans and payloads as a real exporter would send them, with ids and times that repeat from run to run.

    from dslmodel.testing import at, payload, span

    root = span("GET /cart", at(0), 12.5, kind=Kind.SERVER)
    call = span("GET /price", at(0.002), 8, kind=Kind.CLIENT, parent=root)
    item = payload([root, call], service="cart")                           # upb ExportTraceServiceRequest
    item = payload([root, call], service="cart", encoding=Encoding.JSON)   # the same spans as an OTLP/JSON dict

`span` numbers its ids through the life of the process. A test that compares ids between two builds takes a `SpanFactory(seed)`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

import orjson
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from dslmodel.clock import SECOND, VirtualClock
from dslmodel.engine.runtime import use_runtime
from dslmodel.ingest.otlp_json import to_json
from dslmodel.records import Encoding, Kind, Payload, Signal

__all__ = [
    "START",
    "BuiltSpan",
    "SpanDetails",
    "SpanFactory",
    "VirtualClock",
    "at",
    "clock_at",
    "gauges",
    "logs",
    "payload",
    "span",
    "use_runtime",
]

START = 1_767_225_600 * SECOND
"""2026-01-01T00:00:00Z: a round day, so that seconds in a failing test read as offsets."""

_STATUS = {"unset": 0, "ok": 1, "error": 2}


def at(seconds: float) -> int:
    """Nanoseconds since the epoch, `seconds` after START."""
    return START + round(seconds * SECOND)


def clock_at(seconds: float = 0) -> VirtualClock:
    """A virtual clock that stands `seconds` after START."""
    return VirtualClock(at(seconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltSpan:
    """A span to be put into a payload. Ids are hex text; parent_id "" makes a root."""

    name: str
    started_at: int
    ended_at: int
    trace_id: str
    span_id: str
    parent_id: str = ""
    kind: Kind = Kind.INTERNAL
    status: str = "unset"
    trace_state: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    events: Sequence[tuple[str, Mapping[str, Any]]] = ()  # (name, attributes), at the span's end


class SpanDetails(TypedDict, total=False):
    """Optional arguments of `span`."""

    kind: Kind
    parent: BuiltSpan | None
    status: str  # "unset", "ok" or "error"
    attributes: Mapping[str, Any]
    trace_state: str
    events: Sequence[tuple[str, Mapping[str, Any]]]
    trace_id: str
    span_id: str
    parent_id: str


class SpanFactory:
    """Builds spans with ids that depend on the seed and the number of spans built before, and on nothing else."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._built = 0

    def span(self, name: str, start: int, duration_ms: float, **details: Unpack[SpanDetails]) -> BuiltSpan:
        """A span that starts at `start` (ns). A child takes its parent's trace; without a parent it begins a new one.

        `trace_id`, `span_id` and `parent_id` override what would be made up.
        """
        self._built += 1
        parent = details.pop("parent", None)
        digest = hashlib.sha256(f"{self._seed}/{self._built}".encode()).hexdigest()
        ids: dict[str, str] = {
            "trace_id": parent.trace_id if parent else digest[:32],
            "span_id": digest[32:48],
            "parent_id": parent.span_id if parent else "",
        }
        fields: dict[str, Any] = ids | dict(details)
        if fields.get("status", "unset") not in _STATUS:
            raise ValueError(f"status={fields['status']!r}: must be one of {', '.join(_STATUS)}")
        return BuiltSpan(name=name, started_at=start, ended_at=start + round(duration_ms * 1_000_000), **fields)


_default_factory = SpanFactory()
span = _default_factory.span


def payload(
    spans: Sequence[BuiltSpan],
    *,
    service: str = "service",
    instance: str = "",
    version: str = "",
    received_at: int | None = None,
    encoding: Encoding = Encoding.PROTOBUF,
) -> Payload:
    """One export request with these spans of one resource. `received_at` defaults to the newest span end."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.extend(_resource(service, instance, version))
    scope_spans = resource_spans.scope_spans.add()
    for item in spans:
        built = scope_spans.spans.add(
            trace_id=bytes.fromhex(item.trace_id),
            span_id=bytes.fromhex(item.span_id),
            parent_span_id=bytes.fromhex(item.parent_id),
            name=item.name,
            kind=int(item.kind),
            start_time_unix_nano=item.started_at,
            end_time_unix_nano=item.ended_at,
            trace_state=item.trace_state,
            attributes=_attributes(item.attributes),
        )
        built.status.code = _STATUS[item.status]  # type: ignore[assignment]
        for name, attributes in item.events:
            built.events.add(name=name, time_unix_nano=item.ended_at, attributes=_attributes(attributes))
    newest = max((item.ended_at for item in spans), default=START)
    return _payload(request, Signal.TRACES, newest if received_at is None else received_at, encoding)


def gauges(
    values: Mapping[str, float],
    time: int,
    *,
    service: str = "service",
    instance: str = "",
    attributes: Mapping[str, Any] | None = None,
    encoding: Encoding = Encoding.PROTOBUF,
) -> Payload:
    """One metrics export request: each name with one double gauge point at `time`."""
    request = ExportMetricsServiceRequest()
    resource_metrics = request.resource_metrics.add()
    resource_metrics.resource.attributes.extend(_resource(service, instance, ""))
    scope_metrics = resource_metrics.scope_metrics.add()
    for name, value in values.items():
        points = scope_metrics.metrics.add(name=name).gauge.data_points
        points.add(time_unix_nano=time, as_double=value, attributes=_attributes(attributes or {}))
    return _payload(request, Signal.METRICS, time, encoding)


def logs(severities: Sequence[int], time: int, *, service: str = "service", encoding: Encoding = Encoding.PROTOBUF) -> Payload:
    """One logs export request: a record for each severity number, all at `time`."""
    request = ExportLogsServiceRequest()
    resource_logs = request.resource_logs.add()
    resource_logs.resource.attributes.extend(_resource(service, "", ""))
    scope_logs = resource_logs.scope_logs.add()
    for severity in severities:
        record = scope_logs.log_records.add(time_unix_nano=time, body=AnyValue(string_value="text"))
        record.severity_number = severity  # type: ignore[assignment]
    return _payload(request, Signal.LOGS, time, encoding)


def _payload(request: Any, signal: Signal, received_at: int, encoding: Encoding) -> Payload:
    message: Any = request
    body: bytes = request.SerializeToString()
    if encoding is Encoding.JSON:
        message = to_json(request, signal)
        body = orjson.dumps(message)
    return Payload(signal=signal, encoding=encoding, body=body, message=message, received_at=received_at, source="test")


def _resource(service: str, instance: str, version: str) -> list[KeyValue]:
    named = {"service.name": service, "service.instance.id": instance, "service.version": version}
    return _attributes({key: value for key, value in named.items() if value})


def _attributes(values: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any_value(value)) for key, value in values.items()]


def _any_value(value: Any) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case str():
            return AnyValue(string_value=value)
        case Mapping():
            return AnyValue(kvlist_value=KeyValueList(values=_attributes(value)))
        case Sequence():
            return AnyValue(array_value=ArrayValue(values=[_any_value(item) for item in value]))
    raise TypeError(f"{value!r}: {type(value).__name__} can't be an attribute's value")
