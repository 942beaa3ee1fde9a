"""Payloads of traces -> rows of the reference engine. Reads upb messages and OTLP/JSON dicts; skips what the receiver rejects."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from dslmodel.ingest.otlp_shape import unix_nano
from dslmodel.records import Encoding, Kind, Payload, ResourceSpans, SpanRow

_ERROR = 2
_STATUS_NAMES = {"STATUS_CODE_UNSET": 0, "STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}
_KIND_NAMES = {f"SPAN_KIND_{kind.name}": int(kind) for kind in Kind}
_NO_ID = (b"\0" * 16, b"\0" * 8)
# What a client span calls, best name first. The port tells two local services apart.
_TARGETS = ("peer.service", "server.address", "net.peer.name", "db.system.name", "db.system", "messaging.system", "rpc.service")
_PORTS = ("server.port", "net.peer.port")
_HTTP_STATUS = ("http.response.status_code", "http.status_code")
_CALL_NAMES = frozenset((*_TARGETS, *_PORTS))
_SERVER_NAMES = frozenset(_HTTP_STATUS)
_EVENT_NAMES = frozenset(("exception.escaped",))
MAX_NAME = 500  # characters of a span name that are kept
_MAX_WEIGHT = float(1 << 20)  # one span in a million: a thinner sample says nothing, and a made-up one would drown all others
_THRESHOLD = re.compile(r"[0-9a-f]{1,14}")


class AttributeLimits(NamedTuple):
    """What is read of one span: so many attributes, and no value longer than so many characters. The rest is left out and counted."""

    most: int = 128
    longest: int = 16384


def decode_spans(payload: Payload, limits: AttributeLimits = AttributeLimits()) -> Iterator[ResourceSpans]:  # noqa: B008  # immutable
    """The spans of a traces payload by resource, invalid ones (bad ids, end before start) left out."""
    if payload.encoding is Encoding.JSON:
        document = payload.message if payload.message is not None else orjson.loads(payload.body)
        yield from _from_json(document, limits)
        return
    message = payload.message
    if message is None:
        message = ExportTraceServiceRequest()
        message.ParseFromString(payload.body)
    yield from _from_protobuf(message, limits)


def adjusted_count(tracestate: str) -> float:
    """How many spans a sampled span stands for: 2^56 / (2^56 - T) of the OpenTelemetry tracestate `ot=th:T`; 1.0 without one."""
    for member in tracestate.split(","):
        name, _, value = member.strip().partition("=")
        if name != "ot":
            continue
        for item in value.split(";"):
            key, _, threshold = item.partition(":")
            if key == "th" and _THRESHOLD.fullmatch(threshold):
                return min(_MAX_WEIGHT, float(1 << 56) / float((1 << 56) - int(threshold.ljust(14, "0"), 16)))
    return 1.0


def _is_own(attributes: Mapping[str, Any]) -> bool:
    return bool(attributes.get("dslmodel.own"))


# ---------------------------------------------------------------- protobuf


def _value(any_value: Any, longest: int) -> Any:
    which = any_value.WhichOneof("value")
    if which == "string_value":
        text = any_value.string_value
        return text if len(text) <= longest else None
    return getattr(any_value, which) if which in {"int_value", "bool_value", "double_value"} else None


def _attributes(pairs: Any, limits: AttributeLimits) -> dict[str, Any]:
    return {pair.key: _value(pair.value, limits.longest) for pair in pairs[: limits.most]}


def _only(names: frozenset[str], pairs: Any, limits: AttributeLimits) -> dict[str, Any]:
    """Some of the attributes. A value that nobody asks for is not read: that is most of the time that a span takes."""
    found: dict[str, Any] = {}
    for pair in pairs if len(pairs) <= limits.most else pairs[: limits.most]:
        key = pair.key
        if key in names:
            found[key] = _value(pair.value, limits.longest)
    return found


def _from_protobuf(message: Any, limits: AttributeLimits) -> Iterator[ResourceSpans]:
    for resource_spans in message.resource_spans:
        resource = _attributes(resource_spans.resource.attributes, limits)
        rows: list[SpanRow] = []
        left_out = rejected = 0
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                row = _protobuf_row(span, limits)
                if row is None:
                    rejected += 1
                else:
                    rows.append(row)
                    left_out += max(0, len(span.attributes) - limits.most)
        yield _resource(resource, rows, left_out, rejected)


def _protobuf_row(span: Any, limits: AttributeLimits) -> SpanRow | None:
    trace_id, span_id = span.trace_id, span.span_id
    started, ended = span.start_time_unix_nano, span.end_time_unix_nano
    if len(trace_id) != 16 or len(span_id) != 8 or trace_id == _NO_ID[0] or span_id == _NO_ID[1] or ended < started:
        return None
    kind = span.kind
    if not 0 <= kind <= 5:
        kind = 0
    is_error = span.status.code == _ERROR
    target = ""
    if kind in (3, 4):
        target = _target(_only(_CALL_NAMES, span.attributes, limits))
    elif kind == 2 and not is_error:
        is_error = _is_server_error(_only(_SERVER_NAMES, span.attributes, limits))
    if not is_error and span.events:
        is_error = any(
            event.name == "exception" and _only(_EVENT_NAMES, event.attributes, limits).get("exception.escaped") in (True, "true", "True")
            for event in span.events
        )
    state = span.trace_state
    return SpanRow(
        trace_id,
        span_id,
        span.parent_span_id,
        span.name[:MAX_NAME],
        kind,
        started,
        ended,
        is_error,
        adjusted_count(state) if state else 1.0,
        target,
    )


# ---------------------------------------------------------------- JSON


def _json_value(value: Any, longest: int) -> Any:
    if not isinstance(value, dict):
        return None
    text = value.get("stringValue")
    if isinstance(text, str):
        return text if len(text) <= longest else None
    if "intValue" in value:
        return _integer(value["intValue"])
    if "boolValue" in value:
        return value["boolValue"]
    return value.get("doubleValue")


def _integer(value: Any) -> int:
    """OTLP/JSON writes 64-bit integers as text or numbers; anything else counts as 0."""
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return 0
    return int(value) if isinstance(value, float) and value == value and abs(value) < 1e19 else 0  # noqa: PLR0124  # NaN


def _enum(value: Any, names: Mapping[str, int]) -> int:
    return names.get(value, 0) if isinstance(value, str) and not value.isdigit() else _integer(value)


def _json_attributes(pairs: Any, limits: AttributeLimits) -> dict[str, Any]:
    if not isinstance(pairs, list):
        return {}
    return {
        pair["key"]: _json_value(pair.get("value"), limits.longest)
        for pair in pairs[: limits.most]
        if isinstance(pair, dict) and isinstance(pair.get("key"), str)
    }


def _json_only(names: frozenset[str], pairs: Any, limits: AttributeLimits) -> dict[str, Any]:
    if not isinstance(pairs, list):
        return {}
    found: dict[str, Any] = {}
    for pair in pairs[: limits.most]:
        if isinstance(pair, dict):
            key = pair.get("key")
            if isinstance(key, str) and key in names:
                found[key] = _json_value(pair.get("value"), limits.longest)
    return found


def _list(parent: Mapping[str, Any], name: str) -> Sequence[dict[str, Any]]:
    items = parent.get(name)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else ()


def _from_json(document: Mapping[str, Any], limits: AttributeLimits) -> Iterator[ResourceSpans]:
    for resource_spans in _list(document, "resourceSpans"):
        resource = resource_spans.get("resource")
        attributes = _json_attributes(resource.get("attributes"), limits) if isinstance(resource, dict) else {}
        rows: list[SpanRow] = []
        left_out = rejected = 0
        for scope_spans in _list(resource_spans, "scopeSpans"):
            for span in _list(scope_spans, "spans"):
                row = _json_row(span, limits)
                if row is None:
                    rejected += 1
                else:
                    rows.append(row)
                    pairs = span.get("attributes")
                    left_out += max(0, len(pairs) - limits.most) if isinstance(pairs, list) else 0
        yield _resource(attributes, rows, left_out, rejected)


def _id(value: Any, size: int) -> bytes:
    if not isinstance(value, str) or len(value) != 2 * size:
        return b""
    try:
        decoded = bytes.fromhex(value)  # takes spaces, which are no hex
    except ValueError:
        return b""
    return decoded if len(decoded) == size else b""


def _json_row(span: Mapping[str, Any], limits: AttributeLimits) -> SpanRow | None:
    trace_id, span_id = _id(span.get("traceId"), 16), _id(span.get("spanId"), 8)
    started, ended = unix_nano(span.get("startTimeUnixNano")), unix_nano(span.get("endTimeUnixNano"))
    if not trace_id or not span_id or trace_id == _NO_ID[0] or span_id == _NO_ID[1]:
        return None
    if started is None or ended is None or ended < started:
        return None
    kind = _enum(span.get("kind", 0), _KIND_NAMES)
    kind = kind if 0 <= kind <= 5 else 0
    status = span.get("status")
    is_error = isinstance(status, dict) and _enum(status.get("code", 0), _STATUS_NAMES) == _ERROR
    target = ""
    if kind in (3, 4):
        target = _target(_json_only(_CALL_NAMES, span.get("attributes"), limits))
    elif kind == 2 and not is_error:
        is_error = _is_server_error(_json_only(_SERVER_NAMES, span.get("attributes"), limits))
    if not is_error and span.get("events"):
        is_error = any(
            event.get("name") == "exception"
            and _json_only(_EVENT_NAMES, event.get("attributes"), limits).get("exception.escaped") in (True, "true", "True")
            for event in _list(span, "events")
        )
    name, state = span.get("name"), span.get("traceState")
    weight = adjusted_count(state) if isinstance(state, str) and state else 1.0
    parent = _id(span.get("parentSpanId"), 8)
    return SpanRow(
        trace_id, span_id, parent, name[:MAX_NAME] if isinstance(name, str) else "", kind, started, ended, is_error, weight, target
    )


# ---------------------------------------------------------------- both


def _is_server_error(attributes: Mapping[str, Any]) -> bool:
    for name in _HTTP_STATUS:
        value = attributes.get(name)
        if value is not None:
            return _integer(value) >= 500
    return False


def _target(attributes: Mapping[str, Any]) -> str:
    for name in _TARGETS:
        value = attributes.get(name)
        if value:
            port = next((attributes[p] for p in _PORTS if attributes.get(p)), None) if name in {"server.address", "net.peer.name"} else None
            return str(value)[:200] if port is None else f"{value}:{port}"[:200]
    return ""


def _text(resource: Mapping[str, Any], *names: str) -> str:
    return next((str(resource[n])[:200] for n in names if resource.get(n) not in (None, "")), "")


def _resource(resource: Mapping[str, Any], rows: Sequence[SpanRow], left_out: int, rejected: int) -> ResourceSpans:
    return ResourceSpans(
        service=_text(resource, "service.name") or "unknown_service",
        instance=_text(resource, "service.instance.id", "k8s.pod.name", "host.name", "process.pid"),
        version=_text(resource, "service.version"),
        is_own=_is_own(resource),
        rows=rows,
        attributes_left_out=left_out,
        rejected=rejected,
    )
