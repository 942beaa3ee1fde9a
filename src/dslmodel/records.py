"""Frozen records that cross a stage. No codecs here: bytes and JSON are read and written only in `ingest/` and `api/`.

Times (`*_at`) are integer nanoseconds since the Unix epoch, seconds columns are integer seconds, durations say their unit.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple, NewType

import numpy as np
from numpy.typing import NDArray

FindingId = NewType("FindingId", str)
IncidentId = NewType("IncidentId", str)


class Signal(StrEnum):
    """An OpenTelemetry signal."""

    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"


class Encoding(StrEnum):
    """How a payload's body is written."""

    PROTOBUF = "protobuf"
    JSON = "json"


class Kind(IntEnum):
    """OTLP span kinds by their numbers on the wire."""

    UNSPECIFIED = 0
    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class Pattern(StrEnum):
    """What a finding says is wrong."""

    ERROR_SPIKE = "error_spike"
    LATENCY_INCREASE = "latency_increase"
    THROUGHPUT_DROP = "throughput_drop"
    CASCADE_FAILURE = "cascade_failure"
    RESOURCE_EXHAUSTION = "resource_exhaustion"
    UNHEALTHY_AGENTS = "unhealthy_agents"


class HealthState(StrEnum):
    """Four half-open tiers ([0, .3), [.3, .6), [.6, .9), [.9, 1]) and not knowing."""

    CRITICAL = "critical"
    DEGRADED = "degraded"
    HEALTHY = "healthy"
    OPTIMAL = "optimal"
    UNKNOWN = "unknown"


# ---------------------------------------------------------------- inputs: what the pipeline is fed, in order of `received_at`


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """One accepted OTLP export request, uncompressed and already known to decode.

    `message` is what the receiver got when it checked the body (an upb `Export*ServiceRequest`, or a dict for JSON);
    None means "decode `body` again" (a native engine walks the bytes itself). `body` may be empty when `message` is a dict
    that never was bytes (in-process spans, coordination files).
    """

    signal: Signal
    encoding: Encoding
    body: bytes
    message: Any
    received_at: int
    source: str  # "otlp_grpc", "otlp_http", "coordination", "in_process", "replay"


class Change(StrEnum):
    """What happened to a coordination file."""

    WRITTEN = "written"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinationEvent:
    """A coordination file was written or deleted. `kind` is the name's first part: agent, work, claimed or completed."""

    kind: str
    name: str  # file name without folder
    change: Change
    document: Mapping[str, Any]  # empty when deleted
    modified_at: int  # the file's mtime
    received_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Something a person asked of the engine. It enters with the data so that a replay repeats it.

    name: "ack", "false_positive", "baseline_reset"; arguments: {"id": …} or {"service": … | None}.
    """

    name: str
    arguments: Mapping[str, str | None]
    received_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredWindow:
    """A window that somebody else aggregated, known at start + width. None = not measured.

    Quantiles are {"p50": milliseconds, …}.
    """

    started_at: int
    width_seconds: float
    service: str
    instance: str | None
    operation: str | None
    count: float | None
    error_ratio: float | None
    latency_ms: Mapping[str, float]
    client_latency_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredEdge:
    """An edge's window that somebody else aggregated: client minus server is the gap on the wire."""

    started_at: int
    width_seconds: float
    client: str
    server: str
    client_latency_ms: Mapping[str, float]
    server_latency_ms: Mapping[str, float]


Input = Payload | CoordinationEvent | Command | MeasuredWindow | MeasuredEdge


# ---------------------------------------------------------------- decoded spans (reference engine only; the native one walks bytes)


class SpanRow(NamedTuple):
    """One decoded span. Ids are raw bytes; `parent_id` is empty for a root."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    name: str
    kind: int
    started_at: int
    ended_at: int
    is_error: bool  # status ERROR, or HTTP server 5xx, or an exception that escaped
    weight: float  # adjusted count from the tracestate (`ot=th`), 1.0 when not sampled
    target: str  # peer of a client span as its attributes name it (peer.service, server.address, db.system …), "" when unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSpans:
    """The spans of one resource in one payload."""

    service: str
    instance: str
    version: str
    is_own: bool  # our own telemetry; never fed into detection
    rows: Sequence[SpanRow]
    attributes_left_out: int = 0  # over the limit of attributes of a span
    rejected: int = 0  # spans with invalid ids or times, which the sender was told of


SpanDecoder = Callable[[Payload], Iterable[ResourceSpans]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What became of one payload's spans (or points, or log records)."""

    accepted: int
    rejected: int = 0
    reason: str = ""  # first reason of a rejection


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSample:
    """One reading of a resource. `ratio` is use / limit in 0..1 where it is known, else None and `value` is in bytes."""

    service: str
    instance: str
    resource: str  # "memory", "cpu", "disk"
    at: int
    ratio: float | None
    value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogCount:
    """Log records of one service in one payload."""

    service: str
    second: int
    records: int
    errors: int  # severity ERROR or above


# ---------------------------------------------------------------- windows


class SeriesKey(NamedTuple):
    """What spans are counted by: service.name, templated operation (ids taken out), span kind, service.version."""

    service: str
    operation: str
    kind: int
    version: str


class FollowKey(NamedTuple):
    """Work that follows from a request: within `service`, under the entry `operation`, a span `follower` ("→ b" = a call to b)."""

    service: str
    operation: str
    follower: str


class EdgeKey(NamedTuple):
    """A call from one service to another."""

    client: str
    server: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Counts by (second, key), keys local to this record. Adding the columns of two records merges them: the order doesn't matter.

    Latencies are sparse log-bucket histograms (`windows.sketch`): row i owns entries `offset[i]:offset[i + 1]` of `bucket` and `weight`.
    """

    keys: Sequence[Any]  # SeriesKey, EdgeKey or FollowKey
    second: NDArray[np.int64]
    key: NDArray[np.int32]  # index into keys
    count: NDArray[np.int64]  # spans seen
    weight: NDArray[np.float64]  # spans they stand for (adjusted counts)
    errors: NDArray[np.float64]  # adjusted
    offset: NDArray[np.int64]
    bucket: NDArray[np.int32]
    bucket_weight: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemplar:
    """A span that stands for what was counted."""

    second: int
    key: SeriesKey
    trace_id: str
    span_id: str
    duration_ms: float
    is_error: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """How far one resource instance's data have come."""

    service: str
    instance: str
    version: str
    ended_at: int  # newest span end seen
    received_at: int  # newest receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Where the spans went since the start: accepted = windowed + late + own (rejected never were accepted).

    `overflowed` of the windowed ones were counted under `other`.
    """

    accepted: int
    rejected: int
    windowed: int
    late: int
    own: int
    overflowed: int
    attributes_left_out: int = 0  # over the limit of attributes of a span
    joins_missed: int = 0  # children whose parent had left the id cache, or never came


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowBatch:
    """What changed since the last seal, as columns to be added to what is known.

    `series`: every span. `entries`: spans that enter a service (SERVER, CONSUMER, roots, or a parent in another service).
    `calls`: edges with the caller's duration; `gaps`: the same edges with the time between caller and callee (client minus server
    duration). Settled some seconds after arrival, when parents and children are there: `self_times`, exclusive time by series;
    `settled`, entries again; `follows`, what followed from settled entries, counted in the second that the entry is counted in.
    """

    at: int
    series: Columns
    entries: Columns
    calls: Columns
    gaps: Columns
    self_times: Columns
    settled: Columns
    follows: Columns
    exemplars: Sequence[Exemplar]
    watermarks: Sequence[Watermark]
    tally: Tally
    offenders: Sequence[tuple[str, int]] = ()  # services whose names overflowed, with how many spans


# ---------------------------------------------------------------- findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One condition of a decision with its values, for `explain`."""

    name: str
    value: float | str | None
    rule: str  # e.g. ">= 3"
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something is wrong with one service (or one of its operations, or a call it makes)."""

    id: FindingId  # hash of pattern, service, operation, started_at
    at: int  # when it was found
    pattern: Pattern
    service: str
    operation: str | None
    score: float  # 0..1, comparable between patterns
    started_at: int  # when the trouble began, as far as the data tell
    resolved_at: int | None = None
    updated_at: int = 0
    is_flapping: bool = False
    acknowledged_at: int | None = None
    false_positive_at: int | None = None
    summary: str = ""
    clauses: Sequence[Clause] = ()
    exemplars: Sequence[str] = ()  # trace ids


@dataclass(frozen=True, slots=True, kw_only=True)
class RootCause:
    """A service that may have caused an incident, with what speaks for it."""

    service: str
    score: float  # 0..1
    clauses: Sequence[Clause] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Findings that the call graph and time connect."""

    id: IncidentId
    opened_at: int
    resolved_at: int | None
    root_causes: Sequence[RootCause]  # best first
    findings: Sequence[FindingId]  # in the order found
    updated_at: int = 0
    is_false_positive: bool = False


# ---------------------------------------------------------------- what readers get


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """A number in 0..1, or None when nothing is known, and its parts."""

    score: float | None
    state: HealthState
    components: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryHealth:
    """Can the data be trusted? `state`: good, bad, unknown; every problem has a sentence."""

    state: str
    problems: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of everything after one tick; what subscribers, status and the API read."""

    at: int
    health: Health
    telemetry_health: TelemetryHealth
    window_seconds: float
    throughput_per_second: float
    span_counts: Mapping[str, Mapping[str, int]]  # {service: {operation: spans in the window}}
    error_rates: Mapping[str, float]  # {service: errors / requests in the window}
    latency_ms: Mapping[str, Mapping[str, float]]  # {service: {"p50": …, "p95": …, "p99": …}}
    patterns: Sequence[Finding]  # open findings
    incidents: Sequence[Incident]  # open incidents
    learning: Sequence[str]  # services whose baseline is not ready yet
    edges: Mapping[str, Sequence[str]]  # {client: [servers]}
    tally: Tally
    log_errors: Mapping[str, int]  # {service: log records of severity ERROR or above in the window}
    agents: Mapping[str, int]  # {"active": n, "stale": n, "pending": n, "claimed": n, "completed": n, "failed": n}
    engine: str  # "reference" or "native"

    @property
    def health_score(self) -> float | None:
        """Health of the span stream in 0..1; None when nothing is known."""
        return self.health.score
