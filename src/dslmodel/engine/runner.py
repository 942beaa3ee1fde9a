"""The live loop: one thread that feeds the pipeline and ticks it at each whole second."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from loguru import logger

from dslmodel.clock import SECOND, Clock
from dslmodel.errors import AuditError, DslModelError
from dslmodel.records import Acceptance, Finding, Incident, Input, MeasuredEdge, MeasuredWindow, Snapshot

# The last drain before a stop takes what is queued, whatever its stamp.
_END_OF_TIME = 1 << 62
_HISTORY_LENGTH = 360  # health readings kept: an hour at the default cycle
_LAG_WARNING_SECONDS = 5


class Ticked(Protocol):
    """What a tick gives: the state, and only those findings and incidents that changed."""

    @property
    def snapshot(self) -> Snapshot:
        """The state of everything after the tick."""
        ...

    @property
    def findings(self) -> Sequence[Finding]:
        """Findings that changed."""
        ...

    @property
    def incidents(self) -> Sequence[Incident]:
        """Incidents that changed."""
        ...


class Engine(Protocol):
    """The pipeline as the loop sees it."""

    def feed(self, item: Input) -> Acceptance:
        """Take one input in."""
        ...

    def tick(self, now: int) -> Ticked:
        """Work out what is true at `now`."""
        ...

    def dump_baselines(self) -> bytes:
        """All that was learnt."""
        ...

    def describe_baselines(self, service: str | None = None) -> list[dict[str, Any]]:
        """What is taken as normal, for people."""
        ...


class Queue(Protocol):
    """The receivers' buffer: items come out in the order of their stamps."""

    def drain(self, before: int) -> list[Input]:
        """Take out everything stamped before a time."""
        ...

    def wait(self, timeout_seconds: float) -> None:
        """Sleep until something is queued."""
        ...


class Keeper(Protocol):
    """Durable memory of what was found and learnt."""

    def record(self, findings: Iterable[Finding], incidents: Iterable[Incident]) -> None:
        """Insert or replace by id."""
        ...

    def save_baselines(self, data: bytes) -> None:
        """Replace what was learnt."""
        ...


class Tape(Protocol):
    """A recording of everything that is fed."""

    def write(self, item: Input) -> None:
        """Append one input."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TickReport:
    """One tick as observers see it. `lag_seconds`: how far the tick came after its second."""

    at: int
    ticked: Ticked
    inputs: int
    duration_seconds: float
    lag_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerStats:
    """Counters since the start."""

    ticks: int = 0
    inputs: int = 0
    accepted: int = 0  # spans, points and log records taken by the pipeline
    rejected: int = 0  # the same, refused by it
    pipeline_errors: int = 0
    observer_errors: int = 0
    store_errors: int = 0
    recording_errors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """Where the loop's results go; all optional."""

    keeper: Keeper | None = None
    tape: Tape | None = None
    health_check_interval_seconds: float = 10.0
    baseline_interval_seconds: float = 600.0  # writing what was learnt stops the loop for a moment; a crash loses less than this


T = TypeVar("T")
Subscriber = Callable[[Snapshot], object]
Observer = Callable[[TickReport], object]


class Runner:
    """Takes inputs from the buffer; gives ticks to the store, observers and subscribers; owns the pipeline's thread.

    The order is the contract that makes a recording exact: everything stamped < T is fed before tick(T), the rest after, and
    every whole second is ticked, also those missed in a stall, a suspend or a step of the clock. The clock must be the one
    that stamps the buffer's items, and must not go back (`SteadyClock`). Never reads the network; never lets an error out.
    """

    def __init__(self, pipeline: Engine, buffer: Queue, clock: Clock, outputs: Outputs | None = None) -> None:
        self._pipeline = pipeline
        self._buffer = buffer
        self._clock = clock
        self._outputs = outputs or Outputs()
        self._next = clock.now() // SECOND * SECOND + SECOND
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._snapshot: Snapshot | None = None
        self._subscribers: list[Subscriber] = []
        self._observers: list[Observer] = []
        self._history: deque[tuple[int, float | None]] = deque(maxlen=_HISTORY_LENGTH)
        self._stats = RunnerStats()
        self._work = _Work()
        self._unsaved = _Unsaved()
        self._questions: deque[tuple[Callable[[Engine], object], Future[object]]] = deque()
        self._tape = self._outputs.tape

    # ------------------------------------------------------------ for readers, from any thread

    @property
    def snapshot(self) -> Snapshot | None:
        """The last tick's frozen state; None before the first tick."""
        return self._snapshot

    @property
    def stats(self) -> RunnerStats:
        """Counters since the start."""
        return self._stats

    @property
    def next_tick_at(self) -> int:
        """The second that is ticked next."""
        return self._next

    @property
    def is_alive(self) -> bool:
        """The loop's thread is running."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def has_unsaved(self) -> bool:
        """Something that was found waits for the store."""
        return bool(self._unsaved)

    def set_health_check_interval(self, seconds: float) -> None:
        """Change the cycle of health history and subscribers."""
        self._outputs = replace(self._outputs, health_check_interval_seconds=seconds)

    def history(self) -> list[tuple[int, float | None]]:
        """Health scores at each health check, oldest first, as (time, score)."""
        return list(self._history)

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` with a frozen snapshot at each health check. What it raises is counted, not propagated.

        Returns:
            A function that ends the subscription.
        """
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber) if subscriber in self._subscribers else None

    def observe(self, observer: Observer) -> None:
        """Call `observer` after every tick, on the pipeline's thread: it must be quick."""
        self._observers.append(observer)

    def ask(self, question: Callable[[Engine], object]) -> Future[object]:
        """Have `question` answered on the pipeline's thread, which alone may look into the pipeline. It must change nothing."""
        future: Future[object] = Future()
        self._questions.append((question, future))
        return future

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Start the loop in its thread. A second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="pipeline", daemon=True)
            self._thread.start()

    def stop(self, timeout_seconds: float = 30.0) -> bool:
        """Feed what is queued, tick once more, save baselines, close the recording. Stop the receivers first.

        Returns:
            False when the loop did not end in time.
        """
        self._stopping.set()
        if self._thread is None:
            self._finish()
            return True
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            wait = self.advance()
            if wait > 0:
                self._buffer.wait(min(wait, 0.25))
        self._finish()

    def advance(self) -> float:
        """Feed what is due and tick every second that has passed.

        Returns:
            Seconds until the next tick.
        """
        while True:
            # Read the clock before draining: what is stamped after this reading is not older than it.
            now = self._clock.now()
            self._feed(self._buffer.drain(self._next))
            self._reply()
            if now < self._next or self._stopping.is_set():
                return (self._next - now) / SECOND
            self._tick(now)

    def _finish(self) -> None:
        items = self._buffer.drain(_END_OF_TIME)
        now = self._clock.now()
        for item in items:
            while _stamp(item) >= self._next:
                self._tick(now)
            self._feed([item])
        while self._next <= now:
            self._tick(now)
        self._tick(now)
        self._reply()
        self._save_baselines()
        self._on_tape(lambda tape: tape.close())

    # ------------------------------------------------------------ one tick

    def _feed(self, items: Sequence[Input]) -> None:
        if not items:
            return
        accepted = rejected = errors = 0
        started = time.perf_counter()
        for item in items:
            if self._tape is not None:
                self._on_tape(partial(_write, item))
            try:
                acceptance = self._pipeline.feed(item)
                accepted += acceptance.accepted
                rejected += acceptance.rejected
            except Exception:  # noqa: BLE001 - the loop outlives any input
                errors += 1
                logger.exception("an input of kind {} could not be processed and is dropped", type(item).__name__)
        self._work.inputs += len(items)
        self._work.seconds += time.perf_counter() - started
        self._count(inputs=len(items), accepted=accepted, rejected=rejected, pipeline_errors=errors)

    def _tick(self, now: int) -> None:
        at, self._next = self._next, self._next + SECOND
        started = time.perf_counter()
        try:
            ticked = self._pipeline.tick(at)
        except Exception:  # noqa: BLE001 - the loop outlives any tick
            if self._stats.pipeline_errors % 60 == 0:  # what fails once a second says so once a minute
                logger.exception("a tick failed; the loop goes on")
            self._count(ticks=1, pipeline_errors=1)
            return
        inputs, busy = self._work.take()
        self._count(ticks=1)
        self._keep(ticked)
        self._snapshot = ticked.snapshot
        lag = max(now - at, 0) / SECOND
        if lag > _LAG_WARNING_SECONDS and self._stats.ticks % 60 == 0:
            logger.warning("the engine is {:.0f} s behind; catching up second by second", lag)
        report = TickReport(at=at, ticked=ticked, inputs=inputs, duration_seconds=busy + time.perf_counter() - started, lag_seconds=lag)
        self._call(self._observers, report)
        self._periodic(at, ticked.snapshot)

    def _periodic(self, at: int, snapshot: Snapshot) -> None:
        second = at // SECOND
        if second % max(round(self._outputs.health_check_interval_seconds), 1) == 0:
            self._history.append((at, snapshot.health_score))
            self._call(self._subscribers, snapshot)
        if second % max(round(self._outputs.baseline_interval_seconds), 1) == 0:
            self._save_baselines()

    def _call(self, receivers: Sequence[Callable[[T], object]], value: T) -> None:
        for receiver in tuple(receivers):
            try:
                receiver(value)
            except Exception:  # noqa: BLE001 - others' code; what it raises is counted, never propagated
                self._count(observer_errors=1)
                logger.exception("a subscriber raised")

    def _reply(self) -> None:
        while self._questions:
            question, future = self._questions.popleft()
            try:
                future.set_result(question(self._pipeline))
            except Exception as error:  # noqa: BLE001 - belongs to whoever asked
                future.set_exception(error)

    # ------------------------------------------------------------ memory

    def _keep(self, ticked: Ticked) -> None:
        """Store what changed. What cannot be stored is kept (newest version by id) and tried again with the next tick."""
        if self._outputs.keeper is None:
            return
        self._unsaved.add(ticked)
        if not self._unsaved:
            return
        try:
            self._outputs.keeper.record(list(self._unsaved.findings.values()), list(self._unsaved.incidents.values()))
        except (AuditError, OSError) as error:
            self._complain("findings can't be stored", error)
        else:
            self._unsaved = _Unsaved()

    def _save_baselines(self) -> None:
        if self._outputs.keeper is None:
            return
        try:
            self._outputs.keeper.save_baselines(self._pipeline.dump_baselines())
        except (DslModelError, OSError) as error:
            self._complain("baselines can't be stored", error)

    def _complain(self, what: str, error: Exception) -> None:
        self._count(store_errors=1)
        if self._stats.store_errors == 1 or self._stats.store_errors % 60 == 0:
            logger.error("{}: {}; trying again with each tick", what, error)

    def _on_tape(self, act: Callable[[Tape], None]) -> None:
        if self._tape is None:
            return
        try:
            act(self._tape)
        except (DslModelError, OSError) as error:
            # A recording with a hole would replay to something else: better none from here on.
            self._tape = None
            self._count(recording_errors=1)
            logger.error("the recording ends here: {}", error)

    def _count(self, **more: int) -> None:
        stats = self._stats
        self._stats = replace(stats, **{name: getattr(stats, name) + n for name, n in more.items()})


def _stamp(item: Input) -> int:
    return item.started_at if isinstance(item, MeasuredWindow | MeasuredEdge) else item.received_at


def _write(item: Input, tape: Tape) -> None:
    tape.write(item)


@dataclass(slots=True)
class _Work:
    """Inputs fed since the last tick, and the time that took."""

    inputs: int = 0
    seconds: float = 0.0

    def take(self) -> tuple[int, float]:
        taken = self.inputs, self.seconds
        self.inputs, self.seconds = 0, 0.0
        return taken


@dataclass(slots=True)
class _Unsaved:
    """Changed records that the store has not taken yet."""

    findings: dict[str, Finding] = field(default_factory=dict)
    incidents: dict[str, Incident] = field(default_factory=dict)

    def add(self, ticked: Ticked) -> None:
        self.findings.update((finding.id, finding) for finding in ticked.findings)
        self.incidents.update((incident.id, incident) for incident in ticked.incidents)

    def __bool__(self) -> bool:
        return bool(self.findings or self.incidents)
