"""Puts a daemon together: every part gets what it needs here, and is taken down in the opposite order."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from loguru import logger
from starlette.applications import Starlette

from dslmodel import __version__
from dslmodel.api.access import Guard, Policy
from dslmodel.api.events import Hub
from dslmodel.api.listeners import Listener, Ports, close_all
from dslmodel.api.metrics import Meters, Metrics
from dslmodel.api.publisher import Publisher
from dslmodel.api.shapes import Shape, Surroundings, tally_shape
from dslmodel.api.status import Backend, StatusApi
from dslmodel.audit.store import Store
from dslmodel.clock import SECOND
from dslmodel.engine.playback import Playback
from dslmodel.engine.presence import TOKEN_FILE
from dslmodel.engine.runner import Outputs, Runner, TickReport
from dslmodel.engine.runtime import build_pipeline
from dslmodel.engine.state import StateDirectory, read_token
from dslmodel.engine.steady import SteadyClock
from dslmodel.ingest.buffer import Buffer
from dslmodel.ingest.coordination import CoordinationWatcher, WatchOptions
from dslmodel.ingest.files import Recorder, read_inputs
from dslmodel.ingest.forward import Forwarder
from dslmodel.ingest.forward_senders import build_forwarder
from dslmodel.ingest.lines import Header
from dslmodel.ingest.reception import ReceiverStats, Reception
from dslmodel.settings import Settings, is_loopback

_PRUNE_SECONDS = 3600
_RELOADABLE = frozenset({"telemetry", "health"})
_CLOCK_LEAD_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be built."""

    settings: Settings
    coord_dirs: tuple[Path, ...]
    record: Path | None = None
    replay: Path | None = None


class Assembly:
    """The running parts. `start` brings them up; the exit stack that it was given takes them down: receivers first, the store last.

    A daemon that replays a recording has no receivers: what arrived now would not fit into the recording's time.
    """

    def __init__(self, plan: Plan, state: StateDirectory, stack: ExitStack) -> None:
        self._plan = plan
        self._settings = plan.settings
        self._state = state
        self._stack = stack
        self._identity = state.begin()
        self._listeners: list[Listener] = []
        self._watcher: CoordinationWatcher | None = None
        self._is_ready = False
        self.problems: list[str] = []  # of the start
        self._token = self._read_token()
        self._store = stack.enter_context(Store.open(self._settings.database_file(state.path)))
        self._recording = None if plan.replay is None else stack.enter_context(read_inputs([plan.replay], warn=self.problems.append))
        self._clock = self._make_clock()
        limits = self._settings.limits
        self._buffer = Buffer(items=limits.queue_items, size=limits.queue_bytes, clock=self._clock)
        self._playback = None if self._recording is None else Playback(self._recording, self._buffer)
        self._receiver_stats = ReceiverStats()
        self._forwarder = self._make_forwarder()
        self._end_open_records()
        self._pipeline = build_pipeline(self._settings)
        self.runner = self._make_runner()
        self._hub = Hub()
        self._publisher = Publisher(state.write_snapshot, self._surroundings, self._identity)
        self._metrics = Metrics(self._make_meters())

    # ------------------------------------------------------------ life

    def start(self) -> Shape:
        """Start everything; gives the addresses."""
        self._stack.callback(self._state.depart)
        api = Ports(self._settings.server).open_api(Guard(self._make_api(), self._make_policy()), self._hub)
        self._listeners.append(api)
        self._stack.callback(api.stop)
        for observer in (self._publisher.publish, self._metrics.observe, self._hub.publish, self._prune):
            self.runner.observe(observer)
        self.runner.start()
        self._stack.callback(self._stop_runner)
        if self._playback is None:
            self._start_receivers()
        self.problems += [listener.problem for listener in self._listeners if listener.problem]
        self._is_ready = True
        addresses = {listener.name: listener.url for listener in self._listeners}
        token_file = str((self._settings.server.token_file or self._state.path / TOKEN_FILE).absolute())
        self._state.announce(**{"api": None, "otlp_grpc": None, "otlp_http": None} | addresses, token_file=token_file)
        return {
            **{key: value for key, value in self._identity.items() if key in {"pid", "started_at", "api", "otlp_grpc", "otlp_http"}},
            "coord_dirs": [str(path) for path in self._plan.coord_dirs],
            "state": str(self._state.path),
            "token_file": token_file,
            "record": None if self._plan.record is None else str(self._plan.record),
            "replay": None if self._plan.replay is None else str(self._plan.replay),
            "receivers": self._receivers(),
        }

    def _start_receivers(self) -> None:
        limits = self._settings.limits
        # Files can wait where they are; what is sent to us can't. So they leave half of the queue to the receivers.
        options = WatchOptions(late_seconds=limits.late_seconds, queued_items=limits.queue_items // 2, queued_bytes=limits.queue_bytes // 2)
        self._watcher = CoordinationWatcher(self._plan.coord_dirs, self._buffer, clock=self._clock, options=options, report=logger.warning)
        self._watcher.start()
        self._stack.callback(self._watcher.stop)
        reception = Reception(buffer=self._buffer, limits=self._settings.limits, stats=self._receiver_stats, forward=self._forwarder)
        token = self._token if self._settings.server.token_file else None
        receivers = Ports(self._settings.server).open_receivers(reception, token)
        self._listeners += receivers
        self._stack.callback(close_all, receivers)

    def _stop_runner(self) -> None:
        if not self.runner.stop():
            logger.error("the pipeline did not finish in time; what was queued is lost")
        self._publisher.flush()

    @property
    def is_over(self) -> bool:
        """A replayed recording has come to its end."""
        return self._playback is not None and self._playback.is_over

    def summary(self) -> Shape:
        """What this run did."""
        stats = self.runner.stats
        snapshot = self.runner.snapshot
        return {
            "ticks": stats.ticks,
            "inputs": stats.inputs,
            "spans": tally_shape(snapshot.tally) if snapshot else {},
            "open_findings": len(snapshot.patterns) if snapshot else 0,
            "errors": stats.pipeline_errors + stats.observer_errors + stats.store_errors + stats.recording_errors,
            "recording_failure": self._playback.failure if self._playback else None,
        }

    def apply(self, wanted: Settings) -> tuple[list[str], list[str]]:
        """Take over what can change while running; gives the groups that were applied and those that need a restart."""
        changed = [name for name in type(wanted).model_fields if getattr(wanted, name) != getattr(self._settings, name)]
        applied = [name for name in changed if name in _RELOADABLE]
        if applied:
            self._settings = self._settings.model_copy(update={name: getattr(wanted, name) for name in applied})
            self.runner.set_health_check_interval(wanted.telemetry.health_check_interval_seconds)
            settings = self._settings
            self.runner.ask(lambda _pipeline: self._pipeline.configure(settings))
        return applied, [name for name in changed if name not in applied]

    # ------------------------------------------------------------ parts

    def _read_token(self) -> str:
        """The token that calls must bear: the user's file, or one of our own in the state directory."""
        path = self._settings.server.token_file
        return read_token(path) if path is not None else self._state.own_token()

    def _make_clock(self) -> SteadyClock:
        """The wall clock; for a replay, one that starts when the recording did."""
        if self._recording is None:
            return SteadyClock()
        header = self._recording.header
        began = header.started_at if header and header.started_at else None
        return SteadyClock() if began is None else SteadyClock(wall=_from(began))

    def _make_runner(self) -> Runner:
        pipeline = self._pipeline
        header = self._recording.header if self._recording else None
        baselines = header.baselines if header else self._store.load_baselines()
        if baselines:
            pipeline.load_baselines(baselines)
        tape = None
        if self._plan.record is not None:
            settings = self._settings.model_dump(mode="json", exclude={"server", "forward"})
            first = Header(version=__version__, settings=settings, baselines=pipeline.dump_baselines(), started_at=self._clock.now())
            tape = Recorder(self._plan.record, first, clock=_LastTick(self))
        interval = self._settings.telemetry.health_check_interval_seconds
        outputs = Outputs(keeper=self._store, tape=tape, health_check_interval_seconds=interval)
        return Runner(pipeline, self._playback or self._buffer, self._clock, outputs)

    def _make_forwarder(self) -> Forwarder | None:
        forwarder = build_forwarder(self._settings.forward) if self._plan.replay is None else None
        if forwarder is not None:
            self._stack.callback(forwarder.stop)
        return forwarder

    def _make_api(self) -> Starlette:
        return StatusApi(
            Backend(
                runner=self.runner,
                records=self._store,
                intake=self._buffer,
                publisher=self._publisher,
                metrics=self._metrics,
                hub=self._hub,
                is_ready=lambda: self._is_ready and self.runner.snapshot is not None,
                note=lambda name, arguments, at: self._store.append_event(name, arguments, at=at, by="api"),
            )
        ).app()

    def _make_policy(self) -> Policy:
        server = self._settings.server
        return Policy(
            token=self._token,
            reads_need_token=server.token_file is not None or not is_loopback(server.bind),
            hosts=frozenset({server.bind.strip("[]").lower()}),
        )

    def _make_meters(self) -> Meters:
        return Meters(
            snapshot=lambda: self.runner.snapshot,
            runner=lambda: self.runner.stats,
            buffer=self._buffer.stats,
            received=lambda: [(k.transport.value, k.signal.value, k.what.value, n) for k, n in self._receiver_stats.snapshot().items()],
            forwarded=self._forwarded,
            version=__version__,
        )

    def _forwarded(self) -> dict[str, int]:
        if self._forwarder is None:
            return {}
        stats = self._forwarder.stats()
        outcomes = {"sent": stats.sent, "queue_full": stats.dropped_full, "refused": stats.dropped_refused, "late": stats.dropped_late}
        return {outcome: sum(counts.values()) for outcome, counts in outcomes.items()}

    # ------------------------------------------------------------ what goes on besides

    def _surroundings(self) -> Surroundings:
        problems = []
        stats = self.runner.stats
        if stats.recording_errors:
            problems.append("the recording has ended early; see the log")
        if self._clock.lead_seconds > _CLOCK_LEAD_SECONDS:
            problems.append(f"the machine's clock was set back; the engine is {self._clock.lead_seconds:.0f} s ahead and slows down")
        problems += [f"{name} fails: {fault}" for name, fault in self._pipeline.faults.items()]
        if self.runner.has_unsaved:
            problems.append("findings can't be stored; see the log")
        return Surroundings(
            processing=True,
            receivers=self._receivers(),
            dropped=self._buffer.stats().dropped,
            problems=problems,
        )

    def _receivers(self) -> list[Shape]:
        receivers = [
            {"name": listener.name, "address": listener.address, "bound": listener.is_bound, "problem": listener.problem}
            for listener in self._listeners
            if listener.name != "api"
        ]
        directories = self._watcher.stats().directories if self._watcher else {}
        for path, state in directories.items():
            is_read = state in {"watched", "polled"}
            receivers.append({"name": "coordination", "address": path, "bound": is_read, "problem": None if is_read else state})
        return receivers

    def _end_open_records(self) -> None:
        """Trouble that was open when the last run ended is found anew if it is still there: it must not stay open for ever."""
        if self._recording is not None:
            return
        now = self._clock.now()
        findings = [
            replace(finding, resolved_at=now, updated_at=now, summary=f"{finding.summary} (ended with the restart)".strip())
            for finding in self._store.findings(open_only=True)
        ]
        incidents = [replace(incident, resolved_at=now, updated_at=now) for incident in self._store.incidents(open_only=True)]
        self._store.record(findings, incidents)

    def _prune(self, report: TickReport) -> None:
        if report.at // SECOND % _PRUNE_SECONDS == 0:
            detection = self._settings.detection
            before = report.at - round(detection.retention_hours * 3600 * SECOND)
            self._store.prune(before, max_findings=detection.max_findings)


class _LastTick:
    """The clock of a recording's end: the second that was ticked last."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly

    def now(self) -> int:
        """Nanoseconds since the epoch."""
        return self._assembly.runner.next_tick_at - SECOND


def _from(start: int) -> Callable[[], int]:
    """A clock that begins at `start` now."""
    begun = time.monotonic_ns()
    return lambda: start + time.monotonic_ns() - begun
