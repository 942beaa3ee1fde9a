"""OTLP protobuf messages as OTLP/JSON documents, exactly: what is read back has the same values.

The OTLP mapping is proto3 JSON with two differences: trace and span ids are hex, enumerations are numbers. Walks compiled tables
instead of `google.protobuf.json_format`, which is twice as slow and gives ids in base64.
"""

import base64
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from dslmodel.records import Signal

REQUESTS: dict[Signal, type[Message]] = {
    Signal.TRACES: ExportTraceServiceRequest,
    Signal.METRICS: ExportMetricsServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
}

ROOT_KEYS: dict[str, Signal] = {"resourceSpans": Signal.TRACES, "resourceMetrics": Signal.METRICS, "resourceLogs": Signal.LOGS}
"""The one key that a document of each signal has at its top."""

_HEX_FIELDS = frozenset({"trace_id", "span_id", "parent_span_id"})
_WIDE_INTEGERS = frozenset(
    {
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_UINT64,
        FieldDescriptor.TYPE_FIXED64,
        FieldDescriptor.TYPE_SFIXED64,
        FieldDescriptor.TYPE_SINT64,
    }
)


def to_json(message: Message, signal: Signal) -> dict[str, Any]:
    """The document of an Export*ServiceRequest. Its root key is there even when the request is empty, since it tells the signal."""
    document = _convert(message)
    root = next(key for key, value in ROOT_KEYS.items() if value is signal)
    document.setdefault(root, [])
    return document


def decode(body: bytes, signal: Signal) -> Message:
    """The request in a protobuf body that was accepted before."""
    request = REQUESTS[signal]()
    request.ParseFromString(body)
    return request


def _convert(message: Message) -> dict[str, Any]:
    table = _table(message.DESCRIPTOR)
    document: dict[str, Any] = {}
    for field, value in message.ListFields():
        name, convert = table[field.number]
        document[name] = value if convert is None else convert(value)
    return document


def _convert_all(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [_convert(message) for message in messages]


def _double(value: float) -> float | str:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


@cache
def _table(descriptor: Descriptor) -> dict[int, tuple[str, Callable[[Any], Any] | None]]:
    return {field.number: (field.json_name, _converter(field)) for field in descriptor.fields}


def _converter(field: FieldDescriptor) -> Callable[[Any], Any] | None:
    if field.message_type is not None:
        return _convert_all if field.is_repeated else _convert
    scalar: Callable[[Any], Any] | None = None
    if field.type == FieldDescriptor.TYPE_BYTES:
        scalar = bytes.hex if field.name in _HEX_FIELDS else _base64
    elif field.type in _WIDE_INTEGERS:
        scalar = str
    elif field.type in {FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT}:
        scalar = _double
    if not field.is_repeated:
        return scalar
    return list if scalar is None else lambda values: [scalar(value) for value in values]
