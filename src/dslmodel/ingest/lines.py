"""One JSON document of a recording <-> inputs of the pipeline. A document's shape tells what it is.

| has                               | is                                                          | known at                    |
|-----------------------------------|-------------------------------------------------------------|-----------------------------|
| resourceSpans, resourceMetrics, … | an OTLP/JSON export request (the Collector's file exporter)  | its newest time             |
| start, width_seconds, service     | a window that others aggregated                             | start + width               |
| start, width_seconds, client      | an edge's window                                            | start + width               |
| coordination / command            | an event of a coordination file / something a person asked  | receivedAtUnixNano          |
| dslmodel                          | a recording's header or end                                 | (no input)                  |

`receivedAtUnixNano`, where a line has it, wins over all.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from dslmodel.clock import SECOND
from dslmodel.errors import IngestError
from dslmodel.ingest.otlp_json import ROOT_KEYS, decode, to_json
from dslmodel.ingest.otlp_shape import check_shape
from dslmodel.ingest.times import format_time, parse_time
from dslmodel.records import (
    Change,
    Command,
    CoordinationEvent,
    Encoding,
    Input,
    MeasuredEdge,
    MeasuredWindow,
    Payload,
    Signal,
)

RECEIVED = "receivedAtUnixNano"
_MODIFIED = "modifiedAtUnixNano"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a recording says of itself: in its first line how it began, in its last when it ended."""

    version: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    baselines: bytes | None = None
    started_at: int | None = None
    ended_at: int | None = None


def known_at(item: Input) -> int:
    """When the pipeline may learn of an input."""
    if isinstance(item, MeasuredWindow | MeasuredEdge):
        return item.started_at + round(item.width_seconds * SECOND)
    return item.received_at


# ---------------------------------------------------------------- reading


def read_document(document: Any, *, not_before: int = 0, body: bytes = b"") -> list[Input]:
    """The inputs in one line. None is received before `not_before`: time in a recording doesn't run back.

    Raises:
        IngestError: The document is none of the shapes above, or a value in it is impossible.
    """
    if not isinstance(document, dict):
        raise IngestError(f"expected a JSON object, found {_short(document)}")
    stamp = _nanoseconds(document, RECEIVED) if RECEIVED in document else None
    roots = [key for key in ROOT_KEYS if key in document]
    if roots:
        only_one = len(roots) == 1
        return [
            _payload(document if only_one else {key: document[key]}, key, (stamp, not_before), body if only_one else b"") for key in roots
        ]
    received_at = max(not_before, stamp or 0)
    if "coordination" in document:
        return [_coordination_event(_object(document, "coordination"), received_at)]
    if "command" in document:
        return [_command(_object(document, "command"), received_at)]
    if "width_seconds" in document and "service" in document:
        return [_window(document)]
    if "width_seconds" in document and "client" in document:
        return [_edge(document)]
    raise IngestError(
        f"no known shape: it has {', '.join(sorted(map(str, document))[:6]) or 'no keys'}; expected resourceSpans, resourceMetrics, "
        "resourceLogs, a window row (start, width_seconds, service), an edge row (start, width_seconds, client, server), "
        "coordination or command"
    )


def read_header_document(document: Any) -> Header | None:
    """The header in a line, None when it is something else."""
    if not isinstance(document, dict) or "dslmodel" not in document:
        return None
    content = _object(document, "dslmodel")
    baselines = content.get("baselines")
    try:
        data = None if baselines is None else base64.b64decode(baselines, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise IngestError(f"dslmodel.baselines: not base64 ({error})") from error
    return Header(
        version=str(content.get("version", "")),
        settings=_object(content, "settings") if "settings" in content else {},
        baselines=data,
        started_at=_nanoseconds(content, "startedAtUnixNano") if "startedAtUnixNano" in content else None,
        ended_at=_nanoseconds(content, "endedAtUnixNano") if "endedAtUnixNano" in content else None,
    )


def _payload(document: dict[str, Any], key: str, times: tuple[int | None, int], body: bytes) -> Payload:
    signal = ROOT_KEYS[key]
    check_shape(document, signal)
    stamp, not_before = times
    own = stamp if stamp is not None else newest_time(document, signal)
    return Payload(signal=signal, encoding=Encoding.JSON, body=body, message=document, received_at=max(not_before, own), source="replay")


def _coordination_event(content: Mapping[str, Any], received_at: int) -> CoordinationEvent:
    change = content.get("change")
    if change not in set(Change):
        raise IngestError(f"coordination.change: {_short(change)}, must be one of {', '.join(Change)}")
    return CoordinationEvent(
        kind=_text(content, "kind"),
        name=_text(content, "name"),
        change=Change(change),
        document=_object(content, "document"),
        modified_at=_nanoseconds(content, _MODIFIED),
        received_at=received_at,
    )


def _command(content: Mapping[str, Any], received_at: int) -> Command:
    arguments = _object(content, "arguments")
    for name, value in arguments.items():
        if value is not None and not isinstance(value, str):
            raise IngestError(f"command.arguments.{name}: expected text or null, found {_short(value)}")
    return Command(name=_text(content, "name"), arguments=arguments, received_at=received_at)


def _window(row: Mapping[str, Any]) -> MeasuredWindow:
    error_ratio = _number(row, "error_ratio")
    if error_ratio is not None and not 0 <= error_ratio <= 1:
        raise IngestError(f"error_ratio: {error_ratio}, must be within 0..1")
    return MeasuredWindow(
        started_at=_start(row),
        width_seconds=_width(row),
        service=_text(row, "service"),
        instance=_text_or_none(row, "instance"),
        operation=_text_or_none(row, "operation"),
        count=_number(row, "count"),
        error_ratio=error_ratio,
        latency_ms=_quantiles(row, "latency_ms"),
        client_latency_ms=_quantiles(row, "client_latency_ms"),
    )


def _edge(row: Mapping[str, Any]) -> MeasuredEdge:
    return MeasuredEdge(
        started_at=_start(row),
        width_seconds=_width(row),
        client=_text(row, "client"),
        server=_text(row, "server"),
        client_latency_ms=_quantiles(row, "client_latency_ms"),
        server_latency_ms=_quantiles(row, "server_latency_ms"),
    )


# ---------------------------------------------------------------- the newest time in an OTLP/JSON document

_TIMES: dict[Signal, tuple[str, str, str, tuple[str, ...]]] = {
    Signal.TRACES: ("resourceSpans", "scopeSpans", "spans", ("endTimeUnixNano",)),
    Signal.METRICS: ("resourceMetrics", "scopeMetrics", "metrics", ("timeUnixNano",)),
    Signal.LOGS: ("resourceLogs", "scopeLogs", "logRecords", ("timeUnixNano", "observedTimeUnixNano")),
}
_POINT_KINDS = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")


def newest_time(document: Mapping[str, Any], signal: Signal) -> int:
    """The newest span end, data point or log record in it, 0 when there is none. Skips what is malformed: the decoders count that."""
    root, scopes, leaves, names = _TIMES[signal]
    newest = 0
    for resource in _mappings(document, root):
        for scope in _mappings(resource, scopes):
            for leaf in _mappings(scope, leaves):
                for timed in _points(leaf) if signal is Signal.METRICS else (leaf,):
                    newest = max(newest, _first_time(timed, names))
    return newest


def _first_time(document: Mapping[str, Any], names: Sequence[str]) -> int:
    for name in names:
        try:
            time = int(document.get(name) or 0)
        except (TypeError, ValueError, OverflowError):
            continue
        if 0 < time < 1 << 63:
            return time
    return 0


def _points(metric: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for kind in _POINT_KINDS:
        data = metric.get(kind)
        if isinstance(data, dict):
            yield from _mappings(data, "dataPoints")


def _mappings(document: Mapping[str, Any], key: str) -> Iterator[Mapping[str, Any]]:
    items = document.get(key)
    if isinstance(items, list):
        for item in items:
            if isinstance(item, dict):
                yield item


# ---------------------------------------------------------------- writing


def write_document(item: Input) -> dict[str, Any]:
    """The line that reads back as `item`."""
    match item:
        case Payload():
            return {RECEIVED: str(item.received_at), **_payload_document(item)}
        case CoordinationEvent():
            content = {
                "kind": item.kind,
                "name": item.name,
                "change": item.change.value,
                "document": dict(item.document),
                _MODIFIED: str(item.modified_at),
            }
            return {RECEIVED: str(item.received_at), "coordination": content}
        case Command():
            return {RECEIVED: str(item.received_at), "command": {"name": item.name, "arguments": dict(item.arguments)}}
        case MeasuredWindow():
            return {
                "start": format_time(item.started_at),
                "width_seconds": item.width_seconds,
                "service": item.service,
                "instance": item.instance,
                "operation": item.operation,
                "count": item.count,
                "error_ratio": item.error_ratio,
                "latency_ms": dict(item.latency_ms),
                "client_latency_ms": dict(item.client_latency_ms),
            }
        case MeasuredEdge():
            return {
                "start": format_time(item.started_at),
                "width_seconds": item.width_seconds,
                "client": item.client,
                "server": item.server,
                "client_latency_ms": dict(item.client_latency_ms),
                "server_latency_ms": dict(item.server_latency_ms),
            }


def write_header(header: Header) -> dict[str, Any]:
    """The line that reads back as `header`."""
    content: dict[str, Any] = {}
    if header.version:
        content |= {"version": header.version, "settings": dict(header.settings)}
    if header.baselines is not None:
        content["baselines"] = base64.b64encode(header.baselines).decode("ascii")
    if header.started_at is not None:
        content["startedAtUnixNano"] = str(header.started_at)
    if header.ended_at is not None:
        content["endedAtUnixNano"] = str(header.ended_at)
    return {"dslmodel": content}


def _payload_document(item: Payload) -> Mapping[str, Any]:
    if item.encoding is Encoding.PROTOBUF:
        return to_json(item.message if item.message is not None else decode(item.body, item.signal), item.signal)
    message = item.message
    if not isinstance(message, dict):
        message = json_document(item.body)
    root = next(key for key, signal in ROOT_KEYS.items() if signal is item.signal)
    # An accepted JSON request may leave its root out or set it to null; in a recording the root is what tells the signal.
    return message if isinstance(message.get(root), list) else {**message, root: []}


def json_document(body: bytes) -> Any:
    """`body` as JSON.

    Raises:
        IngestError: It is no JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise IngestError(f"not JSON ({error})") from error


# ---------------------------------------------------------------- values


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _object(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    if not isinstance(value, dict):
        raise IngestError(f"{key}: expected an object, found {_short(value)}")
    return value


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str) or not value:
        raise IngestError(f"{key}: expected text, found {_short(value)}")
    return value


def _text_or_none(document: Mapping[str, Any], key: str) -> str | None:
    return None if document.get(key) is None else _text(document, key)


def _number(document: Mapping[str, Any], key: str) -> float | None:
    value = document.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise IngestError(f"{key}: expected a number or null, found {_short(value)}")
    if value < 0:
        raise IngestError(f"{key}: {value}, must not be negative")
    return float(value)


def _width(row: Mapping[str, Any]) -> float:
    width = _number(row, "width_seconds")
    if not width:
        raise IngestError(f"width_seconds: {_short(row.get('width_seconds'))}, must be a positive number of seconds")
    return width


def _start(row: Mapping[str, Any]) -> int:
    try:
        return parse_time(row.get("start"))
    except ValueError as error:
        raise IngestError(f"start: {error}") from error


def _quantiles(row: Mapping[str, Any], key: str) -> dict[str, float]:
    if row.get(key) is None:
        return {}
    values = _object(row, key)
    return {name: number for name in values if (number := _number(values, name)) is not None}


def _nanoseconds(document: Mapping[str, Any], key: str) -> int:
    value = document.get(key)
    try:
        time = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else -1
    except ValueError:
        time = -1
    if not 0 <= time < 1 << 63:
        raise IngestError(f"{key}: {_short(value)}, must be nanoseconds since 1970 in decimal")
    return time
