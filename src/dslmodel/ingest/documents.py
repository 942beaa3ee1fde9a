"""Telemetry documents of every shape that coordination directories hold, and hand-made spans -> OTLP/JSON export requests."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from dslmodel.errors import IngestError
from dslmodel.ingest.attributes import content_of, key_values
from dslmodel.ingest.lines import newest_time
from dslmodel.ingest.otlp_json import ROOT_KEYS
from dslmodel.ingest.otlp_shape import check_shape
from dslmodel.ingest.plain_spans import convert_span, is_plain_span, jaeger_rows
from dslmodel.ingest.times import parse_time
from dslmodel.records import Signal

_SERVICE = ("service", "service_name", "serviceName", "service.name")
_MAX_METRIC_DEPTH = 8


class Novelty(Protocol):
    """Remembers what was taken before."""

    def is_new(self, key: int) -> bool:
        """Is this the first time that `key` is asked for?"""
        ...


class Batch:
    """Documents collected into as few export requests as they need: one a signal for OTLP, one of plain spans, one of plain metrics.

    Args:
        service: service.name of what names none.
        not_before: what ended before is history: left out and counted.
        novelty: what it knows already is left out and counted, so that a file which is written anew with more in it counts once.
    """

    def __init__(self, *, service: str, not_before: int = 0, novelty: Novelty | None = None) -> None:
        self.taken = 0
        self.history = 0
        self.repeated = 0
        self._service = service
        self._not_before = not_before
        self._novelty = novelty
        self._resources: dict[str, list[dict[str, Any]]] = {}  # of OTLP requests, by root key
        self._spans: dict[bytes, tuple[Mapping[str, Any], list[dict[str, Any]]]] = {}  # by resource
        self._metrics: dict[bytes, tuple[Mapping[str, Any], list[dict[str, Any]]]] = {}
        self._occurrences: Counter[int] = Counter()

    def add(self, document: Any) -> None:
        """Take a document: OTLP/JSON, plain span, Jaeger row or trace, `{"timestamp", "metrics"}`, or an array of such.

        Raises:
            IngestError: It is none of them. What of an array came before stays taken.
        """
        for part in _parts(document):
            self._add_part(part)

    def add_usable(self, document: Any) -> list[str]:
        """Take of a document what can be used. Gives what is wrong with each of the other parts."""
        complaints = []
        for part in _parts(document):
            try:
                self._add_part(part)
            except IngestError as error:
                complaints.append(str(error))
        return complaints

    def requests(self) -> list[tuple[Signal, dict[str, Any]]]:
        """The export requests, ready to be queued."""
        found: list[tuple[Signal, dict[str, Any]]] = [(ROOT_KEYS[key], {key: resources}) for key, resources in self._resources.items()]
        if self._spans:
            found.append((Signal.TRACES, {"resourceSpans": list(_resources(self._spans, "scopeSpans", "spans"))}))
        if self._metrics:
            found.append((Signal.METRICS, {"resourceMetrics": list(_resources(self._metrics, "scopeMetrics", "metrics"))}))
        return found

    def _add_part(self, document: Any) -> None:
        if not isinstance(document, Mapping):
            raise IngestError(f"expected a JSON object, found {document!r:.60}")
        roots = [key for key in ROOT_KEYS if key in document]
        if roots:
            for key in roots:
                self._add_request(document, key)
        elif isinstance(document.get("metrics"), Mapping):
            self._add_metrics(document)
        elif is_plain_span(document):
            self._add_span(document)
        else:
            raise IngestError(
                f"no known shape: it has {', '.join(sorted(map(str, document))[:6]) or 'no keys'}; expected OTLP/JSON (resourceSpans, "
                "resourceMetrics, resourceLogs), a span (name and start_time or timestamp), a Jaeger trace, or metrics (timestamp, metrics)"
            )

    # ------------------------------------------------------------ OTLP

    def _add_request(self, document: Mapping[str, Any], key: str) -> None:
        """Requests that are written one by one, perhaps with a span each, are put together: what comes after costs by the request."""
        signal = ROOT_KEYS[key]
        check_shape(document, signal)
        resources = document[key] or []
        newest = newest_time(document, signal)
        if newest and newest < self._not_before:
            self.history += 1
            return
        taken = self._keep_new_spans(resources) if signal is Signal.TRACES else int(self._is_new(resources))
        self.taken += taken
        if taken:
            self._resources.setdefault(key, []).extend(resources)

    def _keep_new_spans(self, resources: list[dict[str, Any]]) -> int:
        taken = 0
        for resource in resources:
            for scope in resource.get("scopeSpans") or ():
                spans = scope.get("spans") or []
                fresh = [span for span in spans if self._is_new_span(span)]
                taken += len(fresh)
                if len(fresh) < len(spans):
                    scope["spans"] = fresh
        return taken

    # ------------------------------------------------------------ spans

    def _add_span(self, document: Mapping[str, Any]) -> None:
        content = hash(content_of(document))
        converted = convert_span(document, service=self._service, occurrence=self._occurrences[content])
        self._occurrences[content] += 1
        if converted.ended_at < self._not_before:
            self.history += 1
        elif self._is_new_span(converted.span):
            self.taken += 1
            self._group(self._spans, converted.resource, converted.span)

    def _is_new_span(self, span: Mapping[str, Any]) -> bool:
        return self._is_new([span.get("traceId"), span.get("spanId"), span.get("kind"), span.get("endTimeUnixNano")])

    def _is_new(self, identity: Any) -> bool:
        if self._novelty is None or self._novelty.is_new(hash(content_of(identity))):
            return True
        self.repeated += 1
        return False

    # ------------------------------------------------------------ metrics

    def _add_metrics(self, document: Mapping[str, Any]) -> None:
        stamp = document.get("timestamp") or document.get("time")
        try:
            time = parse_time(stamp)
        except ValueError as error:
            raise IngestError(f"timestamp: {error}") from error
        if time < self._not_before:
            self.history += 1
            return
        values = dict(_numbers(document["metrics"], "", 0))
        if document["metrics"] and not values:
            raise IngestError("metrics: none of the values is a number")
        if not self._is_new(document):
            return
        self.taken += 1
        attributes = key_values({"id": document.get("id")})
        for name, value in values.items():
            number = {"asDouble": value} if isinstance(value, float) else {"asInt": str(value)}
            point = {"timeUnixNano": str(time), **number, "attributes": attributes}
            self._group(self._metrics, self._resource(document), {"name": name, "gauge": {"dataPoints": [point]}})

    def _resource(self, document: Mapping[str, Any]) -> dict[str, Any]:
        resource = document.get("resource")
        found = dict(resource) if isinstance(resource, Mapping) else {}
        name = next((document[key] for key in _SERVICE if document.get(key)), None) or found.get("service.name") or self._service
        return found | {"service.name": str(name)}

    @staticmethod
    def _group(
        groups: dict[bytes, tuple[Mapping[str, Any], list[dict[str, Any]]]], resource: Mapping[str, Any], item: dict[str, Any]
    ) -> None:
        groups.setdefault(content_of(resource), (resource, []))[1].append(item)


def _parts(document: Any) -> Iterator[Any]:
    """The documents in an array, and the rows in a Jaeger trace."""
    if isinstance(document, list):
        for item in document:
            yield from _parts(item)
        return
    rows = jaeger_rows(document) if isinstance(document, Mapping) and ROOT_KEYS.keys().isdisjoint(document) else None
    if rows is None:
        yield document
    else:
        yield from rows


def _resources(
    groups: Mapping[bytes, tuple[Mapping[str, Any], list[dict[str, Any]]]], scopes: str, leaves: str
) -> Iterator[dict[str, Any]]:
    for resource, items in groups.values():
        yield {"resource": {"attributes": key_values(resource)}, scopes: [{leaves: items}]}


def _numbers(values: Mapping[Any, Any], prefix: str, depth: int) -> Iterator[tuple[str, int | float]]:
    """Numbers by name; an object's members are named with dots. Text and null are no measurements."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and depth < _MAX_METRIC_DEPTH:
            yield from _numbers(value, f"{name}.", depth + 1)
        elif isinstance(value, bool):
            yield name, int(value)
        elif (isinstance(value, int) and -(1 << 63) <= value < 1 << 63) or (isinstance(value, float) and math.isfinite(value)):
            yield name, value
