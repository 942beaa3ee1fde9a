"""The answers that OTLP prescribes, as bytes: Export*ServiceResponse and google.rpc.Status in protobuf or JSON."""

from typing import Any

import orjson
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from dslmodel.records import Encoding, Signal

_RESPONSES: dict[Signal, tuple[type[Message], str, str]] = {
    Signal.TRACES: (ExportTraceServiceResponse, "rejected_spans", "rejectedSpans"),
    Signal.METRICS: (ExportMetricsServiceResponse, "rejected_data_points", "rejectedDataPoints"),
    Signal.LOGS: (ExportLogsServiceResponse, "rejected_log_records", "rejectedLogRecords"),
}

# google.rpc.Code by HTTP status, as google/rpc/code.proto maps them.
INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, RESOURCE_EXHAUSTED, UNIMPLEMENTED, UNAVAILABLE, UNAUTHENTICATED = 3, 4, 5, 8, 12, 14, 16
_CODES = {
    400: INVALID_ARGUMENT,
    401: UNAUTHENTICATED,
    404: NOT_FOUND,
    405: UNIMPLEMENTED,
    408: DEADLINE_EXCEEDED,
    413: RESOURCE_EXHAUSTED,
    415: INVALID_ARGUMENT,
    503: UNAVAILABLE,
}


def export_response(signal: Signal, encoding: Encoding, *, rejected: int = 0, reason: str = "") -> bytes:
    """The success answer; `partial_success` is set only when something was rejected."""
    if not rejected:
        return b"{}" if encoding is Encoding.JSON else b""
    message, field, json_field = _RESPONSES[signal]
    if encoding is Encoding.JSON:
        return orjson.dumps({"partialSuccess": {json_field: str(rejected), "errorMessage": reason}})
    response: Any = message()
    setattr(response.partial_success, field, rejected)
    response.partial_success.error_message = reason
    return bytes(response.SerializeToString())


def http_error(status: int, message: str, encoding: Encoding) -> bytes:
    """The body of an HTTP error: a google.rpc.Status; for 400 with a BadRequest that repeats what is wrong."""
    code = _CODES[status]
    if encoding is Encoding.JSON:
        document: dict[str, Any] = {"code": code, "message": message}
        if status == 400:
            violation = {"field": "body", "description": message}
            document["details"] = [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]}]
        return orjson.dumps(document)
    return status_bytes(code, message)


def status_bytes(code: int, message: str, *, retry_after_seconds: int | None = None) -> bytes:
    """A google.rpc.Status with RetryInfo when there is a time to wait, with BadRequest for INVALID_ARGUMENT."""
    status = Status(code=code, message=message)
    if retry_after_seconds is not None:
        status.details.append(_packed(RetryInfo(retry_delay=Duration(seconds=retry_after_seconds))))
    elif code == INVALID_ARGUMENT:
        violation = BadRequest.FieldViolation(field="body", description=message)
        status.details.append(_packed(BadRequest(field_violations=[violation])))
    return bytes(status.SerializeToString())


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
