"""One coordination directory: what is in it, what changed, what could not be read. Knows names and signatures, not contents."""

import os
import stat
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dslmodel.clock import SECOND

_NEVER = 1 << 63
TELEMETRY = "telemetry"
LINES = "lines"
COORDINATION_KINDS = frozenset({"agent", "work", "claimed", "completed"})


class State(StrEnum):
    """Can a directory be read?"""

    UNSEEN = "unseen"
    READABLE = "readable"
    MISSING = "missing"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """How a coordination directory is watched.

    Attributes:
        late_seconds: telemetry older than this when the directory is first seen is history: counted, not read.
        unreadable_seconds: a file that does not parse is taken to be half-written for this long before it is reported.
        scan_seconds: least time between two looks at the whole directory. They find what notifications missed (network file
            systems, overflow); on large directories they are rarer, so that they take at most 5 % of a core.
        use_polling: don't ask the system for notifications.
        file_bytes, line_bytes: the largest file and line that is read.
        files: how many files are kept track of; others are left out and counted.
        queued_items, queued_bytes: files wait on the disk while the queue to the pipeline holds this much.
        service: service.name of telemetry that names none.
    """

    late_seconds: float = 30
    unreadable_seconds: float = 5
    scan_seconds: float = 2
    use_polling: bool = False
    file_bytes: int = 16 * 1024 * 1024
    line_bytes: int = 64 * 1024 * 1024
    files: int = 500_000
    queued_items: int = 5_000
    queued_bytes: int = 128 * 1024 * 1024
    service: str = "coordination"


@dataclass(slots=True)
class _Failing:
    signature: int
    first_at: int
    due_at: int
    tries: int = 1
    is_reported: bool = False


def kind_of(name: str) -> str | None:
    """What a file is by its name: a coordination kind, "telemetry", "lines" (*.jsonl); None for files of others."""
    if name.endswith(".jsonl"):
        return None if name.startswith(".") else LINES
    if not name.endswith(".json"):
        return None
    kind = name.partition("_")[0]
    return kind if kind in COORDINATION_KINDS or kind == TELEMETRY else None


class Directory:
    """Names in, names out: `scan_some` finds changed files, `take` gives the next to read, the reader says how it went.

    A file costs its name and one integer (signature and the scan that saw it last), so that 100,000 of them are some 20 MB.
    """

    def __init__(self, path: Path, options: WatchOptions) -> None:
        self.path = path
        self.state = State.UNSEEN
        self.problem = ""
        self.history_before = 0
        self.history_files = 0
        self.overflow = 0
        self.identity: tuple[int, int] | None = None
        self.scan_duration = 0.0
        self.scan_seconds = options.scan_seconds
        self._options = options
        self._known: dict[str, int] = {}
        self._pending: deque[str] = deque()
        self._queued: set[str] = set()
        self._failing: dict[str, _Failing] = {}
        self._entries: Iterator[os.DirEntry[str]] | None = None
        self._next_scan_at = 0
        self._is_scan_wanted = False
        self._next_due_at = _NEVER
        self._generation = 0
        self._overflowing = 0
        self._is_first_scan = True
        self._first_lines: set[str] = set()

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    @property
    def waiting(self) -> int:
        """Files that are known to have changed and wait to be read."""
        return len(self._pending)

    @property
    def is_scanning(self) -> bool:
        """Is a look at the whole directory under way?"""
        return self._entries is not None

    # ------------------------------------------------------------ finding what changed

    def scan_some(self, now: int, limit: int) -> None:
        """Look at up to `limit` entries, beginning a new scan when one is due."""
        started = time.perf_counter()
        is_due = self._is_scan_wanted or now >= self._next_scan_at
        if self._entries is None and not (is_due and self._begin(now)):
            return
        try:
            for _ in range(limit):
                entry = next(self._entries or iter(()), None)
                if entry is None:
                    self._end(now, time.perf_counter() - started)
                    break
                self._look_at(entry)
        except OSError as error:
            self._give_up(State.UNREADABLE, error, now)
        self.scan_duration += time.perf_counter() - started

    def request_scan(self) -> None:
        """Look at everything with the next steps, from the beginning."""
        self._is_scan_wanted = True

    def note(self, name: str) -> None:
        """A file may have changed, appeared or gone."""
        if kind_of(name) is not None:
            self._enqueue(name)

    def look_again(self, name: str, signature: int, at: int) -> None:
        """Look at a file again at some time, though nothing may have changed."""
        self._known[name] = signature << 1 | self._generation
        self._failing[name] = _Failing(signature=signature, first_at=at, due_at=at)
        self._next_due_at = min(self._next_due_at, at)

    def take(self, now: int) -> str | None:
        """The next file to look at."""
        if self._next_due_at <= now:
            for name in [name for name, failing in self._failing.items() if failing.due_at <= now]:
                self._enqueue(name)
            self._next_due_at = min((failing.due_at for failing in self._failing.values() if failing.due_at > now), default=_NEVER)
        if not self._pending:
            return None
        name = self._pending.popleft()
        self._queued.discard(name)
        return name

    # ------------------------------------------------------------ what the reader says

    def is_unchanged(self, name: str, signature: int) -> bool:
        """Was the file read, or given up, with this very signature?"""
        known = self._known.get(name)
        return known is not None and known >> 1 == signature and name not in self._failing

    def done(self, name: str, signature: int) -> None:
        """The file was read, or there is nothing in it for us."""
        self._known[name] = signature << 1 | self._generation
        self._failing.pop(name, None)

    def was_there_before(self, name: str) -> bool:
        """Was this file of lines found by the first scan? Asked once, when it is first opened."""
        was_there = name in self._first_lines
        self._first_lines.discard(name)
        return was_there

    def forget(self, name: str) -> bool:
        """The file is gone. True when it was known."""
        self._failing.pop(name, None)
        return self._known.pop(name, None) is not None

    def failed(self, name: str, signature: int, now: int, *, is_final: bool) -> bool:
        """The file can't be read as it is. It is tried again when it changes, and for a while by age.

        A failure that lasts is final when the file's content is to blame. When the system is, it may pass: tried on, rarely.

        Returns:
            True when this failure has lasted and is to be reported: once.
        """
        failing = self._failing.get(name)
        if failing is None or failing.signature != signature:
            failing = self._failing[name] = _Failing(signature=signature, first_at=now, due_at=0)
        failing.tries += 1
        has_lasted = now - failing.first_at >= self._options.unreadable_seconds * SECOND
        wait = 60.0 if has_lasted else min(0.05 * 2**failing.tries, 1.0)
        failing.due_at = now + round(wait * SECOND)
        self._next_due_at = min(self._next_due_at, failing.due_at)
        self._known[name] = signature << 1 | self._generation
        if not has_lasted:
            return False
        if is_final:
            self._failing.pop(name)
        is_news = not failing.is_reported
        failing.is_reported = True
        return is_news

    # ------------------------------------------------------------ inside

    def _begin(self, now: int) -> bool:
        try:
            found = self.path.stat()
            self._entries = os.scandir(self.path)
        except (FileNotFoundError, NotADirectoryError) as error:
            self._give_up(State.MISSING, error, now)
            return False
        except OSError as error:
            self._give_up(State.UNREADABLE, error, now)
            return False
        self.identity = (found.st_dev, found.st_ino)
        self.state, self.problem = State.READABLE, ""
        self.scan_duration = 0.0
        self._is_scan_wanted = False
        self._overflowing = 0
        self._generation ^= 1
        if self._is_first_scan and not self.history_before:
            self.history_before = max(now - round(self._options.late_seconds * SECOND), 1)
        return True

    def _give_up(self, state: State, error: OSError, now: int) -> None:
        # What was there stays known: a directory that can't be reached is no news of its files.
        self.state, self.problem, self.identity = state, error.strerror or str(error), None
        self._close()
        self._next_scan_at = now + SECOND

    def _end(self, now: int, last_part: float) -> None:
        self._close()
        self._is_first_scan = False
        self.overflow = self._overflowing
        rest = max(self.scan_seconds, 20 * (self.scan_duration + last_part))
        self._next_scan_at = now + round(rest * SECOND)
        # What the scan did not meet is gone, as the reader will find.
        for name in [name for name, value in self._known.items() if value & 1 != self._generation]:
            self._enqueue(name)

    def _close(self) -> None:
        close = getattr(self._entries, "close", None)
        if close is not None:
            close()
        self._entries = None

    def close(self) -> None:
        """End a scan that is under way."""
        self._close()

    def _look_at(self, entry: os.DirEntry[str]) -> None:
        name = entry.name
        kind = kind_of(name)
        if kind is None:
            return
        try:
            found = entry.stat()
        except OSError:
            found = None  # gone since, a link to nowhere, or forbidden: reading will tell
        known = self._known.get(name)
        if known is not None:
            if found is not None and known >> 1 == signature_of(found):
                self._known[name] = known >> 1 << 1 | self._generation
                return
            self._known[name] = known >> 1 << 1 | self._generation
        elif len(self._known) + len(self._queued) >= self._options.files:
            self._overflowing += 1
            return
        elif self._is_first_scan and found is not None:
            if self._is_history(kind, found):
                self.history_files += 1
                self.done(name, signature_of(found))
                return
            if kind == LINES:
                self._first_lines.add(name)
        self._enqueue(name)

    def _is_history(self, kind: str, found: os.stat_result) -> bool:
        # Lines may be appended to an old file at any time, so its end must be found: the reader does that.
        return kind == TELEMETRY and stat.S_ISREG(found.st_mode) and found.st_mtime_ns < self.history_before

    def _enqueue(self, name: str) -> None:
        if name not in self._queued:
            self._queued.add(name)
            self._pending.append(name)


def signature_of(found: os.stat_result) -> int:
    """A number that changes when the file does: size, times of content and of rights, and which file it is."""
    return hash((found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev)) & ((1 << 60) - 1)
