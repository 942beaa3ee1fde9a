"""Spans that people and small programs write by hand, that the OpenTelemetry SDK prints, and Jaeger's rows -> OTLP/JSON spans.

The only thing a span must have is a name and a time. Names that are understood:

| what     | names                                                                                             |
|----------|---------------------------------------------------------------------------------------------------|
| name     | name, operation_name, operationName, operation                                                    |
| ids      | trace_id traceId traceID, span_id spanId spanID id, parent_id parent_span_id … parent, `context`  |
| time     | start_time startTime start started_at timestamp, end_time …, as ISO 8601 or s, ms, µs, ns by size |
| duration | duration_ms, duration_s, duration_us, duration_ns; plain `duration` is ms (in Jaeger's rows µs)   |
| status   | status (OK, ERROR, true, 500, {"code", "message"} …), error, success                              |
| service  | service, service_name, serviceName, resource, process                                             |
| rest     | kind, attributes or tags, events                                                                  |
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dslmodel.errors import IngestError
from dslmodel.ingest.attributes import clean_text, content_of, fold_id, key_values, plain_attributes
from dslmodel.ingest.times import parse_time
from dslmodel.records import Kind

_NAME = ("name", "operation_name", "operationName", "operation")
_TRACE_ID = ("trace_id", "traceId", "traceID")
_SPAN_ID = ("span_id", "spanId", "spanID", "id")
_PARENT_ID = ("parent_id", "parent_span_id", "parentSpanId", "parentSpanID", "parentId", "parent")
_START = ("start_time", "startTime", "start", "started_at", "start_time_unix_nano", "startTimeUnixNano", "timestamp")
_END = ("end_time", "endTime", "end", "ended_at", "finished_at", "end_time_unix_nano", "endTimeUnixNano")
_DURATIONS = {
    "duration_ms": 1e6,
    "durationMs": 1e6,
    "duration_s": 1e9,
    "duration_seconds": 1e9,
    "duration_us": 1e3,
    "duration_ns": 1,
    "duration_nanos": 1,
    "duration": 1e6,
}
_SERVICE = ("service", "service_name", "serviceName", "service.name")
_ATTRIBUTES = ("attributes", "tags")
_OK_WORDS = frozenset({"ok", "success", "succeeded", "completed"})
_ERROR_WORDS = frozenset({"error", "failed", "failure"})


class ConvertedSpan(NamedTuple):
    """A span in OTLP/JSON and the attributes of its resource."""

    resource: Mapping[str, Any]
    span: dict[str, Any]
    ended_at: int


def is_plain_span(document: Mapping[str, Any]) -> bool:
    """Has it a name and a time?"""
    return _first(document, _NAME) is not None and any(document.get(name) is not None for name in (*_START, *_END))


def jaeger_rows(document: Mapping[str, Any]) -> Iterator[Any] | None:
    """The rows of a Jaeger trace (or of a list of them under `data`), each with its process; None when it is something else."""
    traces = document.get("data") if isinstance(document.get("data"), list) else [document]
    if not traces or not all(isinstance(trace, Mapping) and isinstance(trace.get("spans"), list) for trace in traces):
        return None
    return _rows_with_process(traces)


def _rows_with_process(traces: list[Mapping[str, Any]]) -> Iterator[Any]:
    for trace in traces:
        processes = trace.get("processes")
        for row in trace["spans"]:
            if not isinstance(row, Mapping):
                yield row
                continue
            process = processes.get(row.get("processID")) if isinstance(processes, Mapping) else None
            shared = {name: trace[name] for name in (*_SERVICE, *_TRACE_ID, "resource") if name in trace}
            yield {**shared, **row} if process is None else {**row, "process": process}


def convert_span(document: Mapping[str, Any], *, service: str, occurrence: int = 0) -> ConvertedSpan:
    """The OTLP/JSON form of a plain span.

    Args:
        document: the span.
        service: its service.name when it names none.
        occurrence: how many spans of the same content came before it: keeps made-up ids apart.

    Raises:
        IngestError: it has no name or no time, or ends before it starts.
    """
    name = _first(document, _NAME)
    if name is None:
        raise IngestError(f"a span needs a name: one of {', '.join(_NAME)}")
    started_at, ended_at = _interval(document)
    attributes = plain_attributes(_first(document, _ATTRIBUTES))
    code, message = _status(document, attributes)
    trace_id, span_id, parent_id = _ids(document, occurrence)
    span: dict[str, Any] = {
        "traceId": trace_id,
        "spanId": span_id,
        "name": clean_text(str(name)),
        "kind": _kind(document.get("kind") or attributes.get("span.kind")),
        "startTimeUnixNano": str(started_at),
        "endTimeUnixNano": str(ended_at),
        "attributes": key_values(attributes),
        "status": {"code": code, "message": message} if message else {"code": code},
    }
    if parent_id:
        span["parentSpanId"] = parent_id
    events = _events(document.get("events") or document.get("logs"), ended_at)
    if events:
        span["events"] = events
    return ConvertedSpan(resource=_resource(document, attributes, service), span=span, ended_at=ended_at)


# ---------------------------------------------------------------- ids


def _ids(document: Mapping[str, Any], occurrence: int) -> tuple[str, str, str]:
    content = content_of(document) if occurrence == 0 else content_of([document, occurrence])
    context = document.get("context")
    inner = context if isinstance(context, Mapping) else {}
    trace = _first(document, _TRACE_ID) or _first(inner, _TRACE_ID)
    own = _first(document, _SPAN_ID[:-1]) or _first(inner, _SPAN_ID) or document.get("id")
    parent = _parent(document)
    return fold_id(trace, 32, content), fold_id(own, 16, content), fold_id(parent, 16, b"") if parent else ""


def _parent(document: Mapping[str, Any]) -> Any:
    parent = _first(document, _PARENT_ID)
    if isinstance(parent, Mapping):
        parent = _first(parent, _SPAN_ID)
    references = document.get("references")
    if not parent and isinstance(references, list):
        for reference in references:
            if isinstance(reference, Mapping) and reference.get("refType", "CHILD_OF") == "CHILD_OF":
                return _first(reference, _SPAN_ID)
    return None if isinstance(parent, str) and not parent.strip("0x- ") else parent


# ---------------------------------------------------------------- times


def _interval(document: Mapping[str, Any]) -> tuple[int, int]:
    started = _time(document, _START)
    ended = _time(document, _END)
    duration = _duration(document)
    if started is None and ended is None:
        raise IngestError(f"a span needs a time: one of {', '.join((*_START, *_END))}")
    if started is None:
        started = (ended or 0) - duration
    elif ended is None:
        ended = started + duration
    if ended is None or not 0 <= started <= ended < 1 << 63:
        raise IngestError(f"a span must not end before it starts: start {started}, end {ended}")
    return started, ended


def _time(document: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        if document.get(name) is not None:
            try:
                return parse_time(document[name])
            except ValueError as error:
                raise IngestError(f"{name}: {error}") from error
    return None


def _duration(document: Mapping[str, Any]) -> int:
    for name, factor in _DURATIONS.items():
        value = document.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
            raise IngestError(f"{name}: {value!r}, must be a number, not negative")
        return round(value * (1e3 if name == "duration" and _is_jaeger(document) else factor))
    return 0


def _is_jaeger(document: Mapping[str, Any]) -> bool:
    return "traceID" in document or "spanID" in document


# ---------------------------------------------------------------- kind, status, resource, events


def _kind(value: Any) -> int:
    """1 (internal) unless it says better; OTLP's numbers and every usual way to write the names."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value in set(Kind) else Kind.INTERNAL.value
    word = str(value or "").rpartition(".")[2].removeprefix("SPAN_KIND_").upper()
    return Kind[word].value if word in Kind.__members__ else Kind.INTERNAL.value


def _status(document: Mapping[str, Any], attributes: Mapping[str, Any]) -> tuple[int, str]:
    status = document.get("status")
    message = document.get("status_message") or ""
    if isinstance(status, Mapping):
        message = status.get("message") or status.get("description") or message
        status = next((status[name] for name in ("status_code", "code", "statusCode") if status.get(name) is not None), None)
    if status is None:
        status = document.get("status_code", attributes.get("otel.status_code"))
    code = _status_code(status)
    error = document.get("error", attributes.get("error"))
    if code == 0 and (document.get("success") is False or (error and str(error).lower() != "false")):
        code = 2
        message = message or (error if isinstance(error, str) and error.lower() != "true" else "")
    return code, clean_text(str(message)[:1024])


def _status_code(status: Any) -> int:
    if isinstance(status, bool):
        return 1 if status else 2
    if isinstance(status, int):
        # Numbers from 100 on are HTTP's.
        return status if status in {0, 1, 2} else 2 if status >= 500 else 0
    word = str(status or "").rpartition(".")[2].removeprefix("STATUS_CODE_").lower()
    return 1 if word in _OK_WORDS else 2 if word in _ERROR_WORDS else 0


def _resource(document: Mapping[str, Any], attributes: Mapping[str, Any], service: str) -> dict[str, Any]:
    resource = document.get("resource")
    process = document.get("process")
    found: dict[str, Any] = {}
    if isinstance(process, Mapping):
        found |= plain_attributes(process.get("tags"))
        found["service.name"] = _first(process, _SERVICE)
    if isinstance(resource, Mapping):
        found |= plain_attributes(resource.get("attributes", resource))
    named = _first(document, _SERVICE)
    if isinstance(named, Mapping):
        named = named.get("name")
    if named is None and isinstance(resource, str):
        named = resource
    name = named or found.get("service.name") or _first(found, _SERVICE) or attributes.get("service.name") or service
    return found | {"service.name": clean_text(str(name))}


def _events(events: Any, ended_at: int) -> list[dict[str, Any]]:
    if not isinstance(events, list):
        return []
    converted = []
    for event in events[:128]:
        if not isinstance(event, Mapping):
            continue
        attributes = plain_attributes(_first(event, ("attributes", "fields")))
        try:
            time = parse_time(event.get("timestamp") or event.get("timeUnixNano") or event.get("time"))
        except ValueError:
            time = ended_at
        name = clean_text(str(event.get("name") or attributes.get("event") or ""))
        converted.append({"name": name, "timeUnixNano": str(time), "attributes": key_values(attributes)})
    return converted


def _first(document: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        value = document.get(name)
        if value is not None and value != "":
            return value
    return None
