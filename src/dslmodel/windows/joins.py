"""Parents and children of spans, joined by id in a bounded cache: edges, gaps and exclusive time.

A child ends before its parent but may be exported after it, by another process; either order gives the same edge.
"""

from collections import deque
from collections.abc import Iterator, Sequence

from dslmodel.clock import SECOND
from dslmodel.records import SeriesKey, SpanRow

_SERVER, _CLIENT, _PRODUCER, _CONSUMER = 2, 3, 4, 5
_MANY_SIBLINGS = 64


class Joined:
    """A span in the cache."""

    __slots__ = (
        "arrived_at",
        "children",
        "ended_at",
        "id",
        "is_counted",
        "is_entry",
        "is_error",
        "is_settled",
        "key",
        "kind",
        "parent",
        "parent_id",
        "second",
        "started_at",
        "target",
        "weight",
    )

    def __init__(self, row: SpanRow, key: SeriesKey, second: int) -> None:
        trace_id, parent_id = row.trace_id, row.parent_id
        self.id = trace_id + row.span_id
        self.parent_id = trace_id + parent_id if parent_id else b""
        self.key = key
        self.kind = row.kind
        self.started_at = row.started_at
        self.ended_at = row.ended_at
        self.is_error = row.is_error
        self.weight = row.weight
        self.target = row.target
        self.parent: Joined | None = None
        self.children: list[Joined] | None = None
        self.arrived_at = 0
        self.second = second  # the window it is counted in
        self.is_entry = False
        self.is_counted = False  # as a call
        self.is_settled = False

    @property
    def duration(self) -> int:
        """Nanoseconds."""
        return self.ended_at - self.started_at

    def self_time(self) -> int:
        """Nanoseconds of the span that no known child covers."""
        if self.children is None:
            return self.duration
        if len(self.children) == 1:
            child = self.children[0]
            return self.duration - max(0, min(child.ended_at, self.ended_at) - max(child.started_at, self.started_at))
        covered, reached = 0, self.started_at
        for start, end in sorted((child.started_at, child.ended_at) for child in self.children):
            begin, stop = max(start, reached), min(end, self.ended_at)
            if stop > begin:
                covered += stop - begin
                reached = stop
        return self.duration - covered


class Joins:
    """Cache of recent spans. `link` gives (parent, child) pairs; a pair is given once, whichever of the two came first."""

    def __init__(self, *, capacity: int, settle_seconds: float, keep_seconds: float) -> None:
        self._capacity = capacity
        self._settle = round(settle_seconds * SECOND)
        self._keep = round(max(keep_seconds, settle_seconds) * SECOND)
        self._spans: dict[bytes, Joined] = {}
        self._waiting: dict[bytes, list[Joined] | deque[Joined]] = {}
        self._order: deque[Joined] = deque()
        self._unsettled: deque[Joined] = deque()
        self.missed = 0

    def link(self, span: Joined, arrived_at: int) -> Sequence[tuple[Joined, Joined]]:
        """Remember `span`; gives every (parent, child) that it completes. A repeated id is kept, not joined again."""
        span.arrived_at = arrived_at
        span_id, parent_id = span.id, span.parent_id
        if span_id in self._spans:
            return ()
        self._spans[span_id] = span
        self._order.append(span)
        self._unsettled.append(span)
        pairs: list[tuple[Joined, Joined]] = []
        if span_id in self._waiting:
            for child in self._waiting.pop(span_id):
                self._adopt(span, child)
                pairs.append((span, child))
        if parent_id:
            parent = self._spans.get(parent_id)
            if parent is None:
                self._waiting.setdefault(parent_id, []).append(span)
            else:
                self._adopt(parent, span)
                pairs.append((parent, span))
        return pairs

    @staticmethod
    def _adopt(parent: Joined, child: Joined) -> None:
        if parent.children is None:
            parent.children = [child]
        else:
            parent.children.append(child)
        child.parent = parent

    def settle(self, now: int) -> Iterator[Joined]:
        """Spans whose children should all have arrived by `now`, each once; then forgets what is older than is kept."""
        order, unsettled, capacity = self._order, self._unsettled, self._capacity
        due = now - self._settle
        while unsettled and (unsettled[0].arrived_at <= due or len(order) > capacity):
            span = unsettled.popleft()
            span.is_settled = True
            yield span
            while len(order) > capacity and order[0].is_settled:
                self._forget()
        due = now - self._keep
        while order and order[0].is_settled and order[0].arrived_at <= due:
            self._forget()

    def _forget(self) -> None:
        span = self._order.popleft()
        span.parent = span.children = None  # no reference cycles: memory is given back at once
        self._spans.pop(span.id, None)
        if span.parent_id:
            waiting = self._waiting.get(span.parent_id)
            if waiting and waiting[0] is span:
                self.missed += 1
                if len(waiting) > _MANY_SIBLINGS and isinstance(waiting, list):
                    waiting = self._waiting[span.parent_id] = deque(waiting)  # a list takes its first out in linear time
                del waiting[0]
                if not waiting:
                    del self._waiting[span.parent_id]

    @property
    def is_over_capacity(self) -> bool:
        """More spans than the cache may hold; `settle` brings it back."""
        return len(self._order) > self._capacity


def descendants(entry: Joined) -> Iterator[Joined]:
    """Spans under `entry` that other services' entries do not own: its own work, and the calls it makes."""
    pending = list(entry.children or ())
    while pending:
        span = pending.pop()
        yield span
        if span.key.service == entry.key.service and not span.is_entry:
            pending.extend(span.children or ())


def is_remote_call(parent: Joined, child: Joined) -> bool:
    """A call from one service to another, or between two instances of one (caller and callee kinds say so)."""
    return parent.key.service != child.key.service or (parent.kind == _CLIENT and child.kind == _SERVER)


def has_gap(parent: Joined, child: Joined) -> bool:
    """Client minus server duration is time on the wire only when the caller waits for the callee."""
    return parent.kind == _CLIENT and child.kind not in (_PRODUCER, _CONSUMER)
