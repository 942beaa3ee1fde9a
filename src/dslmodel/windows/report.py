"""The metrics of the last minute (or the window that the user set), kept up by adding new seconds and taking old ones out."""

from collections.abc import Mapping
from typing import NamedTuple

from dslmodel.clock import SECOND
from dslmodel.records import Columns, WindowBatch
from dslmodel.windows.columns import rows_of
from dslmodel.windows.sketch import quantiles_ms

_QUANTILES = (0.5, 0.95, 0.99)
_TINY = 1e-6
_SHOWN_OPERATIONS = 1000  # per snapshot and service; the tables are bounded before, this bounds the document


class Metrics(NamedTuple):
    """What was counted in the window."""

    window_seconds: float
    throughput_per_second: float
    requests: float
    errors: float
    span_counts: Mapping[str, Mapping[str, int]]
    error_rates: Mapping[str, float]
    latency_ms: Mapping[str, Mapping[str, float]]


class _Second:
    """What one second holds."""

    __slots__ = ("entries", "spans")

    def __init__(self) -> None:
        self.spans: dict[tuple[str, str], int] = {}
        self.entries: dict[str, tuple[float, float, dict[int, float]]] = {}


class Report:
    """Rolling sums. A changed window size holds from the next tick on."""

    def __init__(self) -> None:
        self._seconds: dict[int, _Second] = {}
        self._spans: dict[tuple[str, str], int] = {}
        self._entries: dict[str, tuple[float, float, dict[int, float]]] = {}

    def add(self, batch: WindowBatch, window_seconds: float) -> None:
        """Count a batch, and let go of seconds that have left the window."""
        first = batch.at // SECOND - round(window_seconds)
        for second in sorted(s for s in self._seconds if s < first):
            self._take_out(self._seconds.pop(second))
        self._add_spans(batch.series, first)
        self._add_entries(batch.entries, first)

    def _add_spans(self, columns: Columns, first: int) -> None:
        for (second, key), count in zip(rows_of(columns), columns.count.tolist(), strict=True):
            if second >= first:
                place = (key.service, key.operation)
                held = self._seconds.setdefault(second, _Second()).spans
                held[place] = held.get(place, 0) + count
                self._spans[place] = self._spans.get(place, 0) + count

    def _add_entries(self, columns: Columns, first: int) -> None:
        ends = columns.offset.tolist()
        weights, errors = columns.weight.tolist(), columns.errors.tolist()
        for i, (second, key) in enumerate(rows_of(columns)):
            if second < first:
                continue
            part = slice(ends[i], ends[i + 1])
            histogram = dict(zip(columns.bucket[part].tolist(), columns.bucket_weight[part].tolist(), strict=True))
            held = self._seconds.setdefault(second, _Second())
            for store in (held.entries, self._entries):
                _count(store, key.service, (weights[i], errors[i], histogram), 1.0)

    def _take_out(self, second: _Second) -> None:
        for place, count in second.spans.items():
            left = self._spans.get(place, 0) - count
            if left > 0:
                self._spans[place] = left
            else:
                self._spans.pop(place, None)
        for service, counted in second.entries.items():
            _count(self._entries, service, counted, -1.0)
            if self._entries[service][0] < _TINY:
                del self._entries[service]

    def metrics(self, window_seconds: float) -> Metrics:
        """The window's numbers. `throughput_per_second` counts requests: spans that enter a service."""
        counts: dict[str, dict[str, int]] = {}
        for (service, operation), count in sorted(self._spans.items()):
            operations = counts.setdefault(service, {})
            if len(operations) < _SHOWN_OPERATIONS:
                operations[operation] = count
        requests = sum(weight for weight, _, _ in self._entries.values())
        errors = sum(failed for _, failed, _ in self._entries.values())
        return Metrics(
            window_seconds=window_seconds,
            throughput_per_second=requests / window_seconds,
            requests=requests,
            errors=errors,
            span_counts=counts,
            error_rates={service: min(1.0, max(0.0, failed / weight)) for service, (weight, failed, _) in sorted(self._entries.items())},
            latency_ms={service: _quantiles(histogram) for service, (_, _, histogram) in sorted(self._entries.items()) if histogram},
        )


def _count(
    store: dict[str, tuple[float, float, dict[int, float]]], service: str, counted: tuple[float, float, dict[int, float]], sign: float
) -> None:
    weight, errors, histogram = store.get(service, (0.0, 0.0, {}))
    for bucket, amount in counted[2].items():
        left = histogram.get(bucket, 0.0) + sign * amount
        if left > _TINY:
            histogram[bucket] = left
        else:
            histogram.pop(bucket, None)
    store[service] = (weight + sign * counted[0], errors + sign * counted[1], histogram)


def _quantiles(histogram: Mapping[int, float]) -> dict[str, float]:
    values = quantiles_ms(histogram, _QUANTILES)
    return {f"p{round(100 * q)}": round(v, 4) for q, v in zip(_QUANTILES, values, strict=True)}
