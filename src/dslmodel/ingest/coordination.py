"""Coordination directories -> the buffer: telemetry files as OTLP/JSON payloads, agent and work files as coordination events.

`telemetry_*.json` and `*.jsonl` hold telemetry (`documents` tells the shapes), `agent_*`, `work_*`, `claimed_*` and `completed_*.json`
one JSON object each. Other programs write here in any way they like, so:

* What is half-written is tried again, on change and by age, and reported once when it stays so. It is read when it changes.
* Lines are taken when they are whole, each once: through growth, truncation, rotation and renaming. A span or metrics object that
  is found again in a file that was written anew is not taken twice.
* At the start (of the watcher, or when a directory appears) agent and work files all give events, so that the state is known;
  telemetry older than the late limit is history: counted, not taken.
* A directory that is missing is waited for, never created. One that can't be reached is no news of its files: nothing is
  taken as deleted.
* When the queue is full, files wait where they are.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from watchfiles import watch

from dslmodel.clock import Clock, SystemClock
from dslmodel.errors import ConfigurationError
from dslmodel.ingest.directory import COORDINATION_KINDS, Directory, State, WatchOptions, kind_of
from dslmodel.ingest.directory_reader import Counts, DirectoryReader, Event, Request, Tools
from dslmodel.records import Change, CoordinationEvent, Encoding, Input, Signal

__all__ = ["CoordinationStats", "CoordinationWatcher", "Sink", "WatchOptions"]

_SOURCE = "coordination"
_ENTRIES_A_STEP = 1000
_FILES_A_STEP = 100
_BYTES_A_STEP = 32 * 1024 * 1024  # of memory that what was read takes
_REMEMBERED = 100_000
_POLLING_SECONDS = 0.5
_RETRY_NOTIFICATIONS_SECONDS = 60.0


class Fill(Protocol):
    """How full a queue is."""

    @property
    def items(self) -> int: ...
    @property
    def bytes(self) -> int: ...


class Sink(Protocol):
    """Where inputs go: `ingest.buffer.Buffer`."""

    def put(self, *, signal: Signal, encoding: Encoding, body: bytes, message: Any, source: str, size: int | None = None) -> bool:
        """Queue a payload; False when there is no room."""
        ...

    def put_input(self, make: Callable[[int], Input], size: int) -> bool:
        """Queue what `make(received_at)` returns; False when there is no room."""
        ...

    def stats(self) -> Fill:
        """What is queued now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinationStats:
    """What is watched, and what came of it since the start.

    Attributes:
        directories: by path: "watched", "polled", "unseen", "missing" or "unreadable".
        files: files that are known; `waiting` of them changed and are to be read.
        events, requests: put into the queue.
        taken, repeated, history: spans, metrics objects and OTLP requests of metrics or logs: new, found again, older than the start.
        history_files, history_bytes: telemetry that was not read, since it was there and old at the start.
        truncated: files of lines that were cut and begun anew.
        overflow: files beyond the limit, left out.
        delayed: times that files had to wait for the queue.
        unusable: files and lines that could not be used, by reason; `problems` names the last ones.
        failures: errors of the watcher itself.
    """

    directories: Mapping[str, str]
    files: int
    waiting: int
    events: int
    requests: int
    taken: int
    repeated: int
    history: int
    history_files: int
    history_bytes: int
    truncated: int
    overflow: int
    delayed: int
    unusable: Mapping[str, int]
    problems: Mapping[str, str]
    failures: int


class CoordinationWatcher:
    """Watches directories in a thread of its own (`start`, `stop`), or step by step when a test drives it (`step`)."""

    def __init__(
        self,
        directories: Sequence[str | os.PathLike[str]],
        sink: Sink,
        *,
        clock: Clock | None = None,
        options: WatchOptions | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        """Nothing is read before `start` or `step`.

        Args:
            directories: they need not exist.
            sink: the queue to the pipeline.
            clock: the one that stamps the queue's items; ages of files are told by it.
            options: limits and intervals.
            report: gets a sentence for each file that can't be used.
        """
        paths = list(dict.fromkeys(Path(os.path.abspath(path)) for path in directories))  # noqa: PTH100 - links stay as they are given
        if not paths:
            raise ConfigurationError("no coordination directory: name at least one")
        self._sink = sink
        self._clock = clock or SystemClock()
        self._options = options or WatchOptions()
        self._report = report or _no_report
        self._counts = Counts()
        tools = Tools(options=self._options, novelty=_Recent(_REMEMBERED), counts=self._counts, report=self._report)
        self._readers = [DirectoryReader(Directory(path, self._options), tools) for path in paths]
        self._outbox: deque[Request | Event] = deque()
        self._events = self._requests = self._delayed = self._failures = 0
        self._is_notified = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------ step by step

    def scan(self) -> None:
        """Look at everything with the next steps, whether it is due or not."""
        for reader in self._readers:
            reader.directory.request_scan()

    def note(self, path: str | os.PathLike[str]) -> None:
        """Something happened to this file."""
        parent, name = os.path.split(path)
        for reader in self._readers:
            if os.fspath(reader.directory.path) == parent:
                reader.directory.note(name)

    def step(self) -> bool:
        """Do a bounded piece of what there is to do.

        Returns:
            True when there is more to do at once; False when all is done for now, or the queue is full.
        """
        if not self._deliver():
            return False
        now = self._clock.now()
        for reader in self._readers:
            reader.directory.scan_some(now, _ENTRIES_A_STEP)
        self._read_some(now)
        return self._deliver() and any(reader.directory.waiting or reader.directory.is_scanning for reader in self._readers)

    def stats(self) -> CoordinationStats:
        """Counts since the start. May be called from any thread."""
        counts, directories = self._counts, [reader.directory for reader in self._readers]
        return CoordinationStats(
            directories={str(directory.path): self._state(directory) for directory in directories},
            files=sum(map(len, directories)),
            waiting=sum(directory.waiting for directory in directories) + len(self._outbox),
            events=self._events,
            requests=self._requests,
            taken=counts.taken,
            repeated=counts.repeated,
            history=counts.history,
            history_files=sum(directory.history_files for directory in directories),
            history_bytes=counts.history_bytes,
            truncated=counts.truncated,
            overflow=sum(directory.overflow for directory in directories),
            delayed=self._delayed,
            unusable=dict(counts.unusable),
            problems=dict(counts.problems),
            failures=self._failures,
        )

    def _state(self, directory: Directory) -> str:
        if directory.state is not State.READABLE:
            return directory.state.value
        return "watched" if self._is_notified else "polled"

    def _read_some(self, now: int) -> None:
        left, size = _FILES_A_STEP, 0
        for reader in self._readers:
            while left > 0 and size < _BYTES_A_STEP:
                name = reader.directory.take(now)
                if name is None:
                    break
                outputs = self._alone(reader, reader.read(name, now))
                left -= 1
                size += sum(output.size for output in outputs)
                self._outbox.extend(outputs)

    def _alone(self, reader: DirectoryReader, outputs: list[Request | Event]) -> list[Request | Event]:
        """Without deletions of files that another directory still has: that one's content counts from now on."""
        if len(self._readers) == 1:
            return outputs
        kept = []
        for output in outputs:
            others = [other.directory for other in self._readers if other is not reader and _is_deletion_in(output, other.directory)]
            for directory in others:
                directory.forget(output.event.name)  # type: ignore[union-attr]  # deletions are events
                directory.note(output.event.name)  # type: ignore[union-attr]
            if not others:
                kept.append(output)
        return kept

    def _deliver(self) -> bool:
        """Put what was read into the queue, as far as there is room."""
        while self._outbox:
            fill = self._sink.stats()
            if fill.items >= self._options.queued_items or fill.bytes >= self._options.queued_bytes or not self._put(self._outbox[0]):
                self._delayed += 1
                return False
            self._outbox.popleft()
        return True

    def _put(self, output: Request | Event) -> bool:
        if isinstance(output, Event):
            is_taken = self._sink.put_input(partial(_stamped, output.event), output.size)
            self._events += is_taken
            return is_taken
        signal, message, size = output
        is_taken = self._sink.put(signal=signal, encoding=Encoding.JSON, body=b"", message=message, source=_SOURCE, size=size)
        self._requests += is_taken
        return is_taken

    # ------------------------------------------------------------ by itself

    def start(self) -> None:
        """Watch in a thread. A second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="coordination", daemon=True)
            self._thread.start()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """Look once more at everything, so that what was written before the stop is taken, and end."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        poll_until = 0.0
        while not self._stopping.is_set():
            try:
                paths = [reader.directory.path for reader in self._readers if reader.directory.state is State.READABLE]
                if not paths or self._options.use_polling or time.monotonic() < poll_until:
                    self._poll()
                else:
                    self._follow(paths)
            except (OSError, RuntimeError) as error:  # watchfiles raises either
                poll_until = time.monotonic() + _RETRY_NOTIFICATIONS_SECONDS
                self._report(f"the system gives no notifications ({error}); looking every {_POLLING_SECONDS:g} s instead")
            except Exception as error:  # noqa: BLE001 - a dead watcher would be silence that looks like peace
                self._failures += 1
                self._report(f"watching failed and goes on ({type(error).__name__}: {error})")
                self._stopping.wait(1.0)
        self.scan()
        self._work(2.0, at_stop=True)
        for reader in self._readers:
            reader.close()

    def _poll(self) -> None:
        self._set_notified(is_notified=False)
        self._work(0.2)
        self._stopping.wait(0.1)

    def _follow(self, paths: Sequence[Path]) -> None:
        """Work upon notifications, until the directories are other ones than those that are followed."""
        identities = self._identities()
        # The timeout is the pace of retries by age, of scans and of working off a backlog.
        for changes in watch(
            *paths,
            watch_filter=_concerns_us,
            debounce=100,
            step=20,
            rust_timeout=100,
            yield_on_timeout=True,
            stop_event=self._stopping,
            recursive=False,
            ignore_permission_denied=True,
        ):
            if not self._is_notified:
                self._set_notified(is_notified=True)
                self.scan()  # what happened before the system began to notify
            for _, path in changes:
                self.note(path)
            self._work(0.2)
            if self._identities() != identities:
                return

    def _set_notified(self, *, is_notified: bool) -> None:
        self._is_notified = is_notified
        for reader in self._readers:
            scan_seconds = self._options.scan_seconds
            reader.directory.scan_seconds = scan_seconds if is_notified else min(_POLLING_SECONDS, scan_seconds)

    def _identities(self) -> list[tuple[int, int] | None]:
        return [reader.directory.identity for reader in self._readers]

    def _work(self, seconds: float, *, at_stop: bool = False) -> None:
        deadline = time.monotonic() + seconds
        while self.step() and time.monotonic() < deadline and (at_stop or not self._stopping.is_set()):
            pass


class _Recent:
    """The last keys that were asked for, at least half of `capacity`."""

    def __init__(self, capacity: int) -> None:
        self._half = capacity // 2
        self._young: set[int] = set()
        self._old: set[int] = set()

    def is_new(self, key: int) -> bool:
        if key in self._young:
            return False
        was_old = key in self._old
        self._young.add(key)
        if len(self._young) >= self._half:
            self._young, self._old = set(), self._young
        return not was_old


def _concerns_us(_: object, path: str) -> bool:
    return kind_of(os.path.basename(path)) is not None  # noqa: PTH119 - called for every change


def _is_deletion_in(output: Request | Event, directory: Directory) -> bool:
    """Is this the deletion of a file that `directory` has as well?"""
    if not isinstance(output, Event) or output.event.change is not Change.DELETED:
        return False
    return output.event.kind in COORDINATION_KINDS and output.event.name in directory


def _stamped(event: CoordinationEvent, received_at: int) -> CoordinationEvent:
    return replace(event, received_at=received_at)


def _no_report(_: str) -> None:
    pass
