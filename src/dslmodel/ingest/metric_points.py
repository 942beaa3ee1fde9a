"""Number points and log severities of a payload, the same from protobuf and from OTLP/JSON. Wrong types in JSON read as absent."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from dslmodel.ingest.otlp_json import decode
from dslmodel.ingest.otlp_shape import unix_nano
from dslmodel.records import Encoding, Payload, Signal

_SCALARS = frozenset({"string_value", "int_value", "bool_value", "double_value"})


class Point(NamedTuple):
    """A number point of a gauge or a sum. `temporality` is OTLP's number, 0 for a gauge."""

    attributes: Mapping[str, Any]
    at: int
    value: float
    temporality: int


ResourceAttributes = Mapping[str, Any]
LogRow = tuple[int, int, str]  # time (0 = unknown), severity number, severity text


def metric_points(payload: Payload, names: Collection[str]) -> Iterator[tuple[ResourceAttributes, Mapping[str, Sequence[Point]]]]:
    """For each resource that has any: its attributes and the points of the gauges and sums called `names`."""
    if payload.signal is not Signal.METRICS:
        return
    read = _json_metrics(_document(payload), names) if payload.encoding is Encoding.JSON else _protobuf_metrics(_message(payload), names)
    for attributes, metrics in read:
        points: dict[str, list[Point]] = defaultdict(list)
        for name, found in metrics:
            points[name].extend(point for point in found if math.isfinite(point.value))
        if points:
            yield attributes, points


def log_records(payload: Payload) -> Iterator[tuple[ResourceAttributes, Iterable[LogRow]]]:
    """For each resource: its attributes and its log records."""
    if payload.signal is not Signal.LOGS:
        return
    if payload.encoding is Encoding.JSON:
        yield from _json_logs(_document(payload))
        return
    for resource in _message(payload).resource_logs:
        rows = (
            (record.time_unix_nano or record.observed_time_unix_nano, record.severity_number, record.severity_text)
            for scope in resource.scope_logs
            for record in scope.log_records
        )
        yield _attributes(resource.resource.attributes), rows


def _message(payload: Payload) -> Any:
    return payload.message if payload.message is not None else decode(payload.body, payload.signal)


def _document(payload: Payload) -> Any:
    return payload.message if payload.message is not None else orjson.loads(payload.body)


# ---------------------------------------------------------------- protobuf


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, kind) for pair in pairs if (kind := pair.value.WhichOneof("value")) in _SCALARS}


def _protobuf_metrics(message: Any, names: Collection[str]) -> Iterator[tuple[ResourceAttributes, Iterable[tuple[str, Iterable[Point]]]]]:
    for resource in message.resource_metrics:
        found = [
            (metric.name, _protobuf_points(metric))
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name in names and metric.WhichOneof("data") in {"gauge", "sum"}
        ]
        yield _attributes(resource.resource.attributes), found


def _protobuf_points(metric: Any) -> Iterator[Point]:
    is_sum = metric.WhichOneof("data") == "sum"
    data = metric.sum if is_sum else metric.gauge
    temporality = data.aggregation_temporality if is_sum else 0
    for point in data.data_points:
        kind = point.WhichOneof("value")
        if kind is not None:
            yield Point(_attributes(point.attributes), point.time_unix_nano, float(getattr(point, kind)), temporality)


# ---------------------------------------------------------------- JSON


def _objects(parent: Any, name: str) -> list[dict[str, Any]]:
    items = parent.get(name) if isinstance(parent, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _json_attributes(owner: Any) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for pair in _objects(owner, "attributes"):
        key, value = pair.get("key"), pair.get("value")
        if isinstance(key, str) and isinstance(value, dict):
            scalars = [
                value[k] for k in ("stringValue", "intValue", "boolValue", "doubleValue") if isinstance(value.get(k), str | int | float)
            ]
            if scalars:
                attributes[key] = scalars[0]
    return attributes


def _json_metrics(document: Any, names: Collection[str]) -> Iterator[tuple[ResourceAttributes, Iterable[tuple[str, Iterable[Point]]]]]:
    for resource in _objects(document, "resourceMetrics"):
        found = [
            (metric["name"], _json_points(metric))
            for scope in _objects(resource, "scopeMetrics")
            for metric in _objects(scope, "metrics")
            if isinstance(metric.get("name"), str) and metric["name"] in names
        ]
        yield _json_attributes(resource.get("resource")), found


def _json_points(metric: Mapping[str, Any]) -> Iterator[Point]:
    for kind in ("gauge", "sum"):
        data = metric.get(kind)
        if not isinstance(data, dict):
            continue
        temporality = data.get("aggregationTemporality")
        for point in _objects(data, "dataPoints"):
            value = _number(point.get("asDouble") if point.get("asInt") is None else point["asInt"])
            if value is not None:
                at = unix_nano(point.get("timeUnixNano")) or 0
                yield Point(_json_attributes(point), at, value, temporality if isinstance(temporality, int) else 0)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _json_logs(document: Any) -> Iterator[tuple[ResourceAttributes, Iterable[LogRow]]]:
    for resource in _objects(document, "resourceLogs"):
        rows = [_json_log(record) for scope in _objects(resource, "scopeLogs") for record in _objects(scope, "logRecords")]
        yield _json_attributes(resource.get("resource")), rows


def _json_log(record: Mapping[str, Any]) -> LogRow:
    at = unix_nano(record.get("timeUnixNano")) or unix_nano(record.get("observedTimeUnixNano")) or 0
    number, text = record.get("severityNumber"), record.get("severityText")
    return at, number if isinstance(number, int) else 0, text if isinstance(text, str) else ""
