"""The reference aggregator: opentelemetry-proto and dictionaries. It defines what a native engine must answer."""

from collections import defaultdict, deque
from typing import Any, NamedTuple

from dslmodel.clock import SECOND
from dslmodel.records import (
    Acceptance,
    EdgeKey,
    Exemplar,
    FollowKey,
    Payload,
    ResourceSpans,
    SeriesKey,
    SpanDecoder,
    SpanRow,
    Tally,
    Watermark,
    WindowBatch,
)
from dslmodel.windows.columns import Cell, to_columns
from dslmodel.windows.joins import Joined, Joins, descendants, has_gap, is_remote_call
from dslmodel.windows.series import OTHER, SeriesTable
from dslmodel.windows.sketch import bucket_of

RING_SIZE = 10_000
_SERVER, _CLIENT, _PRODUCER, _CONSUMER = 2, 3, 4, 5
_EXEMPLARS_PER_SERVICE = 3
_MAX_CALLEES = 50_000
_MAX_INSTANCES = 10_000
_SKEW_SECONDS = 5  # a span may end this much after its receipt (clock skew) before it is counted at its receipt

Cells = defaultdict[tuple[int, Any], Cell]  # by (second, key)


class AggregatorLimits(NamedTuple):
    """Bounds of the aggregator's memory and waiting times."""

    series: int = 10_000
    operations_per_service: int = 200
    span_cache: int = 200_000
    late_seconds: float = 30.0
    settle_seconds: float = 6.0


class ReferenceAggregator:
    """Counts spans into one-second windows (see `WindowBatch`), in pure Python over upb messages."""

    engine = "reference"

    def __init__(self, decode: SpanDecoder, limits: AggregatorLimits = AggregatorLimits()) -> None:  # noqa: B008  # immutable
        self._decode = decode
        self._late = round(limits.late_seconds * SECOND)
        self._joins = Joins(capacity=limits.span_cache, settle_seconds=limits.settle_seconds, keep_seconds=limits.late_seconds)
        self._table = SeriesTable(max_series=limits.series, max_operations=limits.operations_per_service)
        self._series: Cells = defaultdict(Cell)
        self._entries: Cells = defaultdict(Cell)
        self._calls: Cells = defaultdict(Cell)
        self._gaps: Cells = defaultdict(Cell)
        self._self_times: Cells = defaultdict(Cell)
        self._settled: Cells = defaultdict(Cell)
        self._follows: Cells = defaultdict(Cell)
        self._exemplars: list[Exemplar] = []
        self._exemplar_counts: dict[tuple[str, bool], int] = {}
        self._watermarks: dict[tuple[str, str, str], list[int]] = {}
        self._touched: set[tuple[str, str, str]] = set()
        self._max_peers = limits.operations_per_service
        self._peers: dict[str, dict[str, int]] = {}  # {client: {callee that sends no spans: second of the last call}}
        self._callees: dict[tuple[str, str, str], dict[str, int]] = {}
        self._ring: deque[tuple[str, SpanRow]] = deque(maxlen=RING_SIZE)
        self._counts = {"accepted": 0, "rejected": 0, "windowed": 0, "late": 0, "own": 0, "attributes_left_out": 0}

    # ------------------------------------------------------------ in

    def add(self, payload: Payload, received_at: int) -> Acceptance:
        """Count the spans of a payload. Later than `late_seconds`: counted as late and nowhere else."""
        accepted = rejected = 0
        for resource in self._decode(payload):
            rows = resource.rows
            accepted += len(rows)
            rejected += resource.rejected
            self._counts["attributes_left_out"] += resource.attributes_left_out
            if resource.is_own:
                self._counts["own"] += len(rows)
            elif rows:
                self._mark(resource.service, resource.instance, resource.version, max(row.ended_at for row in rows), received_at)
                self._ring.extend((resource.service, row) for row in rows)
                self._count_all(resource, received_at)
        self._counts["accepted"] += accepted
        self._counts["rejected"] += rejected
        if self._joins.is_over_capacity:
            self._settle(received_at)
        return Acceptance(accepted=accepted, rejected=rejected)

    def _count_all(self, resource: ResourceSpans, received_at: int) -> None:
        oldest = received_at - self._late
        late = 0
        keys: dict[tuple[str, int], SeriesKey] = {}  # of this resource; without `other`, which the table counts by span
        for row in resource.rows:
            if row.ended_at < oldest:
                late += 1
                continue
            name_and_kind = row.name, row.kind
            key = keys.get(name_and_kind)
            if key is None:
                key = self._table.key(resource.service, row.name, row.kind, resource.version, received_at)
                if key.operation != OTHER:
                    keys[name_and_kind] = key
            self._count(row, key, received_at)
        self._counts["late"] += late
        self._counts["windowed"] += len(resource.rows) - late

    def _count(self, row: SpanRow, key: SeriesKey, received_at: int) -> None:
        ended_at, kind, weight, is_error = row.ended_at, row.kind, row.weight, row.is_error
        second = min(ended_at, received_at + _SKEW_SECONDS * SECOND) // SECOND
        bucket = bucket_of(ended_at - row.started_at)
        self._series[second, key].add(bucket, weight, is_error)
        span = Joined(row, key, second)
        if kind in (_SERVER, _CONSUMER) or (not row.parent_id and kind not in (_CLIENT, _PRODUCER)):
            span.is_entry = True
            self._entries[second, key].add(bucket, weight, is_error)
            self._exemplify(row, key, second)
        for parent, child in self._joins.link(span, received_at):
            if is_remote_call(parent, child):
                self._join(parent, child, received_at)
        if is_error and kind == _CLIENT and not span.is_counted:
            # A failing call is told at once; the callee that would have been joined later may be dead.
            self._count_unjoined(span)

    def _join(self, parent: Joined, child: Joined, now: int) -> None:
        second = child.second
        if child.ended_at < now - 2 * self._late:
            return
        edge = EdgeKey(parent.key.service, child.key.service)
        is_error = parent.is_error or child.is_error
        is_caller = parent.kind in (_CLIENT, _PRODUCER)
        timed = parent if parent.kind == _CLIENT else child
        if not (is_caller and parent.is_counted):  # not yet told of as a failing call
            self._calls[second, edge].add(bucket_of(timed.duration), child.weight, is_error)
        if is_caller:
            parent.is_counted = True
            self._learn_callee(parent, child.key.service)
        if has_gap(parent, child):
            self._gaps[second, edge].add(bucket_of(parent.duration - child.duration), child.weight, is_error)
        if not child.is_entry and child.kind not in (_CLIENT, _PRODUCER):
            child.is_entry = True
            self._entries[second, child.key].add(bucket_of(child.duration), child.weight, child.is_error)

    # ------------------------------------------------------------ calls whose callee sends no spans

    def _learn_callee(self, call: Joined, callee: str) -> None:
        place = (call.key.service, call.key.operation, call.target)
        known = self._callees.get(place)
        if known is None:
            if len(self._callees) >= _MAX_CALLEES:
                self._callees.clear()
            known = self._callees[place] = {}
        known[callee] = known.get(callee, 0) + 1

    def _callee(self, call: Joined) -> str:
        """Who answers this call: by experience with calls of the same name and target, else the target's own name."""
        known = self._callees.get((call.key.service, call.key.operation, call.target))
        if known:
            best = max(known, key=lambda name: (known[name], name))
            if known[best] >= 0.9 * sum(known.values()):
                return best
        return call.target

    def _count_unjoined(self, span: Joined) -> None:
        callee = self._callee(span)
        if callee and callee != span.key.service:
            span.is_counted = True
            edge = EdgeKey(span.key.service, self._peer(span.key.service, callee, span.second))
            self._calls[span.second, edge].add(bucket_of(span.duration), span.weight, span.is_error)

    def _peer(self, client: str, callee: str, second: int) -> str:
        """The callee, or `other`: who calls every host of the world has edges to the first of them and to the rest."""
        known = self._peers.setdefault(client, {})
        if callee not in known and len(known) >= self._max_peers:
            return OTHER
        known[callee] = second
        return callee

    def _forget_peers(self, before: int) -> None:
        kept = {client: {name: at for name, at in known.items() if at >= before} for client, known in self._peers.items()}
        self._peers = {client: known for client, known in kept.items() if known}

    # ------------------------------------------------------------ out

    def seal(self, now: int) -> WindowBatch:
        """What changed since the last seal."""
        self._settle(now)
        if now // SECOND % 60 == 0:
            self._table.forget_idle(now)
            self._forget_instances(now)
            self._forget_peers(now // SECOND - 3600)
        batch = WindowBatch(
            at=now,
            series=to_columns(self._series),
            entries=to_columns(self._entries),
            calls=to_columns(self._calls),
            gaps=to_columns(self._gaps),
            self_times=to_columns(self._self_times),
            settled=to_columns(self._settled),
            follows=to_columns(self._follows),
            exemplars=tuple(self._exemplars),
            watermarks=tuple(self._watermark(key) for key in sorted(self._touched)),
            tally=self.tally(),
            offenders=self._table.take_offenders(),
        )
        for cells in (self._series, self._entries, self._calls, self._gaps, self._self_times, self._settled, self._follows):
            cells.clear()
        self._exemplars = []
        self._exemplar_counts = {}
        self._touched = set()
        return batch

    def tally(self) -> Tally:
        """Where the spans went since the start."""
        return Tally(**self._counts, overflowed=self._table.overflowed, joins_missed=self._joins.missed)

    def recent(self) -> tuple[tuple[str, SpanRow], ...]:
        """The last 10,000 spans with their services, oldest first."""
        return tuple(self._ring)

    def _settle(self, now: int) -> None:
        for span in self._joins.settle(now):
            if span.kind == _CLIENT and not span.is_counted:
                self._count_unjoined(span)
            if not span.is_counted:  # the time of a call is its callee's, or the wire's: `calls` and `gaps` have it
                self._self_times[span.second, span.key].add(bucket_of(span.self_time()), span.weight, span.is_error)
            if span.is_entry:
                self._follow(span)

    def _follow(self, entry: Joined) -> None:
        """Count what followed from one settled entry."""
        second, key = entry.second, entry.key
        self._settled[second, key].add(bucket_of(entry.duration), entry.weight, entry.is_error)
        for span in descendants(entry):
            is_call = span.is_entry or span.key.service != key.service
            follower = f"→ {span.key.service}" if is_call else span.key.operation
            self._follows[second, FollowKey(key.service, key.operation, follower)].add(0, span.weight, span.is_error)

    # ------------------------------------------------------------ beside the counts

    def _exemplify(self, row: SpanRow, key: SeriesKey, second: int) -> None:
        place = (key.service, row.is_error)
        taken = self._exemplar_counts.get(place, 0)
        if taken >= _EXEMPLARS_PER_SERVICE:
            return
        self._exemplar_counts[place] = taken + 1
        duration_ms = (row.ended_at - row.started_at) / 1e6
        self._exemplars.append(
            Exemplar(
                second=second,
                key=key,
                trace_id=row.trace_id.hex(),
                span_id=row.span_id.hex(),
                duration_ms=duration_ms,
                is_error=row.is_error,
            )
        )

    def _mark(self, service: str, instance: str, version: str, ended_at: int, received_at: int) -> None:
        key = (service, instance, version)
        mark = self._watermarks.get(key)
        if mark is None:
            if len(self._watermarks) >= _MAX_INSTANCES:  # the one that was met first makes room
                oldest = next(iter(self._watermarks))
                del self._watermarks[oldest]
                self._touched.discard(oldest)
            self._watermarks[key] = [ended_at, received_at]
        else:
            mark[0], mark[1] = max(mark[0], ended_at), max(mark[1], received_at)
        self._touched.add(key)

    def _watermark(self, key: tuple[str, str, str]) -> Watermark:
        ended_at, received_at = self._watermarks[key]
        return Watermark(service=key[0], instance=key[1], version=key[2], ended_at=ended_at, received_at=received_at)

    def _forget_instances(self, now: int) -> None:
        silent = [key for key, (_, received_at) in self._watermarks.items() if received_at + 3600 * SECOND < now]
        for key in silent:
            del self._watermarks[key]
