"""Generated OTLP traffic of a small system: what services that stock SDKs instrument would send, on a virtual clock, from a seed.

Requests arrive at random (Poisson), durations are log-normal, every service has instances that export on their own, each at its own
phase of the interval. A child's spans leave with its own process, so parents and children arrive apart and in either order.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from dslmodel.clock import SECOND
from dslmodel.engine.pipeline import Pipeline, Tick
from dslmodel.records import Encoding, Kind, Payload, Signal
from dslmodel.testing import START

_MAX_BATCH = 512
_DELIVERY = SECOND // 50  # from the exporter to us
_ERROR = 2


class Call(NamedTuple):
    """An operation calls another service's, with a probability."""

    service: str
    operation: str
    chance: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One kind of request: its own time (median, log-normal with `sigma`), its calls one after the other, its own errors."""

    median_ms: float
    sigma: float = 0.4
    calls: Sequence[Call] = ()
    error_ratio: float = 0.001


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service and how it exports."""

    operations: Mapping[str, Operation]
    instances: int = 3
    interval_seconds: float = 5.0
    version: str = "1"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that is wrong with one service from one second after START to another."""

    service: str
    started: float
    ended: float = math.inf
    error_ratio: float = 0.0
    slower: float = 1.0  # factor on its own time
    wire_ms: float = 0.0  # before its requests reach it, as only its callers see
    is_dead: bool = False  # calls to it fail at once, and it sends nothing
    is_forgotten: bool = False  # nobody calls it any more, and nothing fails

    def covers(self, second: float) -> bool:
        return self.started <= second < self.ended


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """From a second on, one instance after the other is replaced by one of another version, which is a little faster or slower."""

    service: str
    started: float
    version: str
    slower: float = 1.0
    step_seconds: float = 40.0


@dataclass(frozen=True, kw_only=True)
class Load:
    """Requests that enter the system: how many a second of which operation, by the second since START."""

    service: str
    operation: str
    rate: Callable[[float], float]


def steady(rate: float) -> Callable[[float], float]:
    """The same rate at all times."""
    return lambda _: rate


_ALL = steady(1.0)


def daily(low: float, high: float) -> Callable[[float], float]:
    """From `low` at 4:00 to `high` at 16:00 and back."""
    return lambda second: low + (high - low) * 0.5 * (1.0 - math.cos((second / 3600.0 - 4.0) / 24.0 * 2.0 * math.pi))


@dataclass(frozen=True, kw_only=True)
class System:
    """What there is, what comes in, and what happens to it."""

    services: Mapping[str, Service]
    loads: Sequence[Load]
    faults: Sequence[Fault] = ()
    rollouts: Sequence[Rollout] = ()
    with_kinds: bool = True
    kept: Callable[[float], float] = _ALL  # the head sampler's ratio; below 1 the tracestate says so


class Exporter:
    """One instance's span processor: spans wait for its next export."""

    def __init__(self, service: str, instance: str, version: str, phase: float) -> None:
        self.service, self.instance, self.version, self.phase = service, instance, version, phase
        self.spans: list[_Made] = []
        self.started = -math.inf
        self.stopped = math.inf

    def export(self, at: int) -> Iterator[Payload]:
        """Everything that ended before `at`, in requests of at most 512 spans."""
        ready = sorted((span for span in self.spans if span.ended <= at), key=lambda span: span.ended)
        self.spans = [span for span in self.spans if span.ended > at]
        for first in range(0, len(ready), _MAX_BATCH):
            yield self._request(ready[first : first + _MAX_BATCH], at + _DELIVERY)

    def _request(self, spans: Sequence["_Made"], received_at: int) -> Payload:
        request = ExportTraceServiceRequest()
        resource_spans = request.resource_spans.add()
        for key, value in (("service.name", self.service), ("service.instance.id", self.instance), ("service.version", self.version)):
            resource_spans.resource.attributes.add(key=key).value.string_value = value
        add = resource_spans.scope_spans.add().spans.add
        for made in spans:
            span = add(
                trace_id=made.trace_id,
                span_id=made.span_id,
                parent_span_id=made.parent_id,
                name=made.name,
                kind=made.kind,  # type: ignore[arg-type]
                start_time_unix_nano=made.started,
                end_time_unix_nano=made.ended,
                trace_state=made.trace_state,
            )
            if made.is_error:
                span.status.code = _ERROR  # type: ignore[assignment]
            if made.peer:
                span.attributes.add(key="server.address").value.string_value = made.peer
        return Payload(
            signal=Signal.TRACES, encoding=Encoding.PROTOBUF, body=b"", message=request, received_at=received_at, source="otlp_grpc"
        )


class _Made(NamedTuple):
    name: str
    kind: int
    started: int
    ended: int
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    is_error: bool
    peer: str
    trace_state: str


@dataclass
class Traffic:
    """Payloads of a system, in the order in which they are received."""

    system: System
    seed: int = 0
    spans: int = 0  # made so far
    seconds: int = 0  # given so far
    _exporters: dict[str, list[Exporter]] = field(default_factory=dict)
    _pending: list[Payload] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        for name, service in self.system.services.items():
            phases = self._random.random()
            self._exporters[name] = [
                Exporter(name, f"{name}-{i}", service.version, (phases + i / service.instances) % 1.0 * service.interval_seconds)
                for i in range(service.instances)
            ]
        for rollout in self.system.rollouts:
            self._plan(rollout)

    def _plan(self, rollout: Rollout) -> None:
        service = self.system.services[rollout.service]
        for i, old in enumerate(list(self._exporters[rollout.service])):
            new = Exporter(
                rollout.service,
                f"{rollout.service}-{rollout.version}-{i}",
                rollout.version,
                self._random.random() * service.interval_seconds,
            )
            new.started = rollout.started + i * rollout.step_seconds
            old.stopped = new.started + 2.0
            self._exporters[rollout.service].append(new)

    # ------------------------------------------------------------ time

    def until(self, second: int) -> Iterator[Payload]:
        """Payloads received before `second` after START that were not given yet."""
        while self.seconds < second:
            yield from self._next()

    def _next(self) -> list[Payload]:
        second = self.seconds
        for load in self.system.loads:
            for _ in range(self._poisson(load.rate(second))):
                self._trace(load, second + self._random.random())
        given, self._pending = self._pending, []
        end = START + (second + 1) * SECOND
        for exporters in self._exporters.values():
            for exporter in exporters:
                given += self._exports(exporter, second)
        self.seconds += 1
        late = [payload for payload in given if payload.received_at >= end]
        self._pending = late
        return sorted((payload for payload in given if payload.received_at < end), key=lambda payload: payload.received_at)

    def _exports(self, exporter: Exporter, second: int) -> Iterator[Payload]:
        if not exporter.spans:
            return
        interval = self.system.services[exporter.service].interval_seconds
        turn = math.ceil((second - exporter.phase) / interval) * interval + exporter.phase
        while turn < second + 1:
            yield from exporter.export(START + round(turn * SECOND))
            turn += interval

    def _poisson(self, rate: float) -> int:
        limit, product, count = math.exp(-rate), self._random.random(), 0
        while product > limit:
            product *= self._random.random()
            count += 1
        return count

    # ------------------------------------------------------------ one request

    def _trace(self, load: Load, second: float) -> None:
        ratio = self.system.kept(second)
        state = ""
        if ratio < 1.0:
            if self._random.random() >= ratio:
                return
            state = f"ot=th:{round((1.0 - ratio) * (1 << 56)):014x}".rstrip("0")
        trace = (self._random.getrandbits(128).to_bytes(16, "big"), state)
        self._serve(load.service, load.operation, START + round(second * SECOND), (trace, b""))

    def _serve(self, name: str, operation: str, started: int, context: tuple[tuple[bytes, str], bytes]) -> tuple[int, bool]:
        """Serve one request; returns when it ended and whether it failed."""
        random, service = self._random, self.system.services[name]
        second = (started - START) / SECOND
        work = service.operations[operation]
        faults = [fault for fault in self.system.faults if fault.service == name and fault.covers(second)]
        exporter = self._instance(name, second)
        slower = math.prod(fault.slower for fault in faults) * self._version_factor(exporter)
        own = random.lognormvariate(math.log(work.median_ms * slower), work.sigma) * 1e6
        failed = random.random() < max([work.error_ratio, *(fault.error_ratio for fault in faults)])
        me = random.getrandbits(64).to_bytes(8, "big")
        (trace_id, state), parent = context
        now = started + round(own / 2)
        for call in work.calls:
            if call.chance < 1.0 and random.random() >= call.chance:
                continue
            now, call_failed = self._call(call, now, (context[0], me), exporter)
            failed = failed or (call_failed and random.random() < 0.9)
        ended = now + round(own / 2)
        kind = int(Kind.SERVER) if self.system.with_kinds else 0
        self._emit(exporter, _Made(operation, kind, started, ended, trace_id, me, parent, failed, "", state))
        return ended, failed

    def _call(self, call: Call, started: int, context: tuple[tuple[bytes, str], bytes], exporter: Exporter) -> tuple[int, bool]:
        second = (started - START) / SECOND
        faults = [fault for fault in self.system.faults if fault.service == call.service and fault.covers(second)]
        if any(fault.is_forgotten for fault in faults):
            return started, False
        me = self._random.getrandbits(64).to_bytes(8, "big")
        wire = round((self._random.lognormvariate(-0.7, 0.3) + sum(fault.wire_ms for fault in faults)) * 1e6)
        if any(fault.is_dead for fault in faults):
            ended, failed = started + 2 * wire, True
        else:
            ended, failed = self._serve(call.service, call.operation, started + wire, (context[0], me))
            ended += wire // 2
        (trace_id, state), parent = context
        kind = int(Kind.CLIENT) if self.system.with_kinds else 0
        self._emit(exporter, _Made(f"call {call.operation}", kind, started, ended, trace_id, me, parent, failed, call.service, state))
        return ended, failed

    def _instance(self, name: str, second: float) -> Exporter:
        running = [e for e in self._exporters[name] if e.started <= second < e.stopped]
        return running[int(self._random.random() * len(running))]

    def _version_factor(self, exporter: Exporter) -> float:
        return next((r.slower for r in self.system.rollouts if r.service == exporter.service and r.version == exporter.version), 1.0)

    def _emit(self, exporter: Exporter, made: _Made) -> None:
        self.spans += 1
        exporter.spans.append(made)


def play(pipeline: Pipeline, traffic: Traffic, seconds: int, take: Callable[[Tick], object] = lambda _: None) -> None:
    """Feed what is received in each second, then tick, from where the traffic stands to `seconds` after START."""
    for second in range(traffic.seconds + 1, seconds + 1):
        for payload in traffic.until(second):
            pipeline.feed(payload)
        take(pipeline.tick(START + second * SECOND))
