"""The shape of OTLP/JSON requests: containers must be what the protocol says; invalid spans are counted, unknown fields ignored."""

from collections.abc import Iterator, Mapping
from typing import Any

from dslmodel.errors import IngestError
from dslmodel.records import Signal

_LEVELS = {
    Signal.TRACES: ("resourceSpans", "scopeSpans", "spans"),
    Signal.METRICS: ("resourceMetrics", "scopeMetrics", "metrics"),
    Signal.LOGS: ("resourceLogs", "scopeLogs", "logRecords"),
}
_METRIC_KINDS = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")
_HEX = frozenset("0123456789abcdefABCDEF")
_NAMES = {dict: "an object", list: "an array", str: "text", bool: "a truth value", int: "a number", float: "a number"}
_UINT64_MAX = (1 << 64) - 1


def check_shape(document: Any, signal: Signal) -> None:
    """Refuse a document whose containers, down to the single span, metric or log record, are not what the protocol says.

    null and absent mean empty, as in protobuf's JSON mapping. Unknown fields are ignored.

    Raises:
        IngestError: 400; names the place and what stands there.
    """
    if not isinstance(document, dict):
        raise IngestError(f"body: expected a JSON object, got {_kind(document)}")
    outer, middle, inner = _LEVELS[signal]
    for i, resource in enumerate(_array(document, outer, "")):
        path = f"{outer}[{i}]"
        _resource(resource, path)
        for j, scope in enumerate(_array(resource, middle, path)):
            inner_path = f"{path}.{middle}[{j}]"
            for item in _array(scope, inner, inner_path):
                if signal is Signal.METRICS:
                    _metric(item, inner_path)


def json_spans(document: Mapping[str, Any]) -> tuple[int, int]:
    """Spans and invalid spans of a document whose shape was checked."""
    items = rejected = 0
    for span in _items(document, Signal.TRACES):
        items += 1
        rejected += not is_valid_span(span)
    return items, rejected


def json_points(document: Mapping[str, Any]) -> int:
    """Data points of a document whose shape was checked."""
    return sum(
        len((metric.get(kind) or {}).get("dataPoints") or ()) for metric in _items(document, Signal.METRICS) for kind in _METRIC_KINDS
    )


def json_log_records(document: Mapping[str, Any]) -> int:
    """Log records of a document whose shape was checked."""
    return sum(1 for _ in _items(document, Signal.LOGS))


def is_valid_span(span: Mapping[str, Any]) -> bool:
    """Both ids are hex of the right length and not all zero, the times are 64-bit integers, and it doesn't end before it starts."""
    if not is_id(span.get("traceId"), 32) or not is_id(span.get("spanId"), 16):
        return False
    started, ended = unix_nano(span.get("startTimeUnixNano")), unix_nano(span.get("endTimeUnixNano"))
    return started is not None and ended is not None and started <= ended


def is_id(value: Any, digits: int) -> bool:
    """Is it `digits` hexadecimal digits, not all zero?"""
    return isinstance(value, str) and len(value) == digits and _HEX.issuperset(value) and value.strip("0") != ""


def unix_nano(value: Any) -> int | None:
    """A fixed64 as OTLP/JSON writes it (decimal text or a number, absent = 0); None when it is something else."""
    if value is None:
        return 0
    if isinstance(value, str):
        number = int(value) if value.isascii() and value.isdigit() and len(value) <= 20 else -1
    elif isinstance(value, float):
        number = int(value) if value.is_integer() else -1
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        return None
    return number if 0 <= number <= _UINT64_MAX else None


def _items(document: Mapping[str, Any], signal: Signal) -> Iterator[dict[str, Any]]:
    outer, middle, inner = _LEVELS[signal]
    for resource in document.get(outer) or ():
        for scope in resource.get(middle) or ():
            yield from scope.get(inner) or ()


def _array(parent: Mapping[str, Any], name: str, path: str) -> list[dict[str, Any]]:
    """The objects of an array field; every element must be an object."""
    items = parent.get(name)
    if items is None:
        return []
    where = f"{path}.{name}" if path else name
    if not isinstance(items, list):
        raise IngestError(f"{where}: expected an array, got {_kind(items)}")
    for i, item in enumerate(items):
        if not isinstance(item, dict):
            raise IngestError(f"{where}[{i}]: expected an object, got {_kind(item)}")
    return items


def _resource(resource: Mapping[str, Any], path: str) -> None:
    inner = resource.get("resource")
    if inner is None:
        return
    if not isinstance(inner, dict):
        raise IngestError(f"{path}.resource: expected an object, got {_kind(inner)}")
    _array(inner, "attributes", f"{path}.resource")


def _metric(metric: Mapping[str, Any], path: str) -> None:
    for kind in _METRIC_KINDS:
        data = metric.get(kind)
        if data is None:
            continue
        if not isinstance(data, dict):
            raise IngestError(f"{path}.metrics: {kind} must be an object, got {_kind(data)}")
        _array(data, "dataPoints", f"{path}.metrics.{kind}")


def _kind(value: Any) -> str:
    return "null" if value is None else _NAMES[type(value)]
