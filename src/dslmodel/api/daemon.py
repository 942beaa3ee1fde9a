"""The daemon's life: wait for the directory's lock, run until a signal, drain, leave a clean mark."""

import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from loguru import logger

from dslmodel.api.assembly import Assembly, Plan
from dslmodel.api.shapes import Shape, finding_shape, incident_shape
from dslmodel.engine.runner import TickReport
from dslmodel.engine.state import StateDirectory
from dslmodel.settings import Settings

_STANDBY_POLL_SECONDS = 1.0
_EVENTS_QUEUED = 1000

# What happens, for whoever started the daemon: "standby", "started", "finding", "incident", "warning", "stopped".
Emit = Callable[[str, Shape], None]
Wake = tuple[str, Shape]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What one start asks for besides the settings. State lives in the first directory."""

    coord_dirs: tuple[Path, ...]
    record: Path | None = None
    replay: Path | None = None


class Daemon:
    """Takes settings and options; gives events to `emit` on the calling thread; owns the process until a signal ends it."""

    def __init__(self, settings: Settings, options: Options, emit: Emit, reload: Callable[[], Settings] | None = None) -> None:
        self._settings = settings
        self._options = options
        self._emit = emit
        self._reload = reload
        self._state = StateDirectory(options.coord_dirs[0])
        self._events: queue.Queue[Wake] = queue.Queue(maxsize=_EVENTS_QUEUED)
        self._stop = threading.Event()
        self._hangup = threading.Event()
        self._lost_events = 0
        self._ended_by: int | None = None

    def run(self) -> int | None:
        """Run until SIGTERM or SIGINT (both drain), or until a replayed recording ends.

        Returns:
            The signal that ended it, None when it ended by itself.

        Raises:
            ConfigurationError: A directory, token or certificate can't be used.
            DslModelError: A port that was set is taken.
        """
        with self._signals():
            self._state.create()
            for directory in self._options.coord_dirs[1:]:
                StateDirectory(directory).create_directory()
            if self._wait_for_lock():
                try:
                    self._live()
                finally:
                    self._state.unlock()
        return self._ended_by

    def _wait_for_lock(self) -> bool:
        """Be a standby while another daemon has the directory; False when told to stop while waiting."""
        if self._state.try_lock():
            return True
        holder = self._state.read_daemon() or {}
        self._emit("standby", {"coord_dir": str(self._state.coord_dir), "active_pid": holder.get("pid")})
        while not self._stop.wait(_STANDBY_POLL_SECONDS):
            if self._state.try_lock():
                return True
        return False

    def _live(self) -> None:
        with ExitStack() as stack:
            options = self._options
            plan = Plan(settings=self._settings, coord_dirs=options.coord_dirs, record=options.record, replay=options.replay)
            assembly = Assembly(plan, self._state, stack)
            assembly.runner.observe(self._queue_changes)
            self._emit("started", assembly.start())
            for problem in assembly.problems:
                self._emit("warning", {"message": problem})
            while not self._stop.is_set() and not assembly.is_over:
                self._pass_on(timeout_seconds=0.5)
                if self._hangup.is_set():
                    self._hangup.clear()
                    self._reload_settings(assembly)
        while not self._events.empty():
            self._pass_on(timeout_seconds=0)
        self._emit("stopped", assembly.summary())

    # ------------------------------------------------------------ events

    def _queue_changes(self, report: TickReport) -> None:
        """Runs on the pipeline's thread: whoever reads our output slowly must not slow it down."""
        changes = [("finding", finding_shape(finding)) for finding in report.ticked.findings]
        changes += [("incident", incident_shape(incident)) for incident in report.ticked.incidents]
        for change in changes:
            try:
                self._events.put_nowait(change)
            except queue.Full:
                self._lost_events += 1

    def _pass_on(self, *, timeout_seconds: float) -> None:
        try:
            name, data = self._events.get(timeout=timeout_seconds) if timeout_seconds else self._events.get_nowait()
        except queue.Empty:
            return
        self._emit(name, data)
        if self._lost_events:
            lost, self._lost_events = self._lost_events, 0
            self._emit("warning", {"message": f"{lost} changes were not shown here; `dsl telemetry findings` has them"})

    # ------------------------------------------------------------ signals

    @contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {signal.SIGTERM: self._on_stop, signal.SIGINT: self._on_stop, signal.SIGHUP: self._on_hangup}
        previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        if self._stop.is_set():
            # Asked twice: whoever asks doesn't want to wait for the drain.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._ended_by = number
        self._stop.set()

    def _on_hangup(self, _number: int, _frame: FrameType | None) -> None:
        self._hangup.set()

    def stop(self) -> None:
        """End `run` from another thread."""
        self._stop.set()

    def _reload_settings(self, assembly: Assembly) -> None:
        if self._reload is None:
            return
        try:
            wanted = self._reload()
        except Exception as error:  # noqa: BLE001 - a bad file must not end a running daemon
            logger.error("settings were not reloaded, the old ones stay: {}", error)
            return
        applied, waiting = assembly.apply(wanted)
        self._settings = wanted
        logger.info("settings reloaded; applied: {}; need a restart: {}", ", ".join(applied) or "none", ", ".join(waiting) or "none")
