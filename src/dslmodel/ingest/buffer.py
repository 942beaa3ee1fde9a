"""The one queue between receivers (many threads) and the pipeline (one thread): bounded, ordered by receipt, every drop counted."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dslmodel.clock import SECOND, Clock, SystemClock
from dslmodel.records import Encoding, Input, Payload, Signal

# Drops and acceptances of inputs that are no OTLP payload (coordination events, commands) are counted under this name.
INPUTS = "inputs"
# What a message that never was bytes is taken to weigh when its maker doesn't say.
_UNKNOWN_SIZE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferStats:
    """What is queued now, and what came and went since the start, by signal (or `inputs`)."""

    items: int
    bytes: int  # estimated memory, decoded messages included
    accepted: Mapping[str, int]
    dropped: Mapping[str, int]


class Buffer:
    """A bounded queue that stamps `received_at`.

    The stamp is taken under the lock, never goes backwards, and never falls below the time of an earlier `drain`: so the order
    of stamps is the order of the queue, and once drained at real time T nothing stamped before T can still appear, even when
    the machine's clock is set back.
    """

    def __init__(self, *, items: int, size: int, clock: Clock | None = None) -> None:
        """Hold at most `items` inputs that weigh at most `size` bytes together."""
        self._max_items = items
        self._max_bytes = size
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        self._queue: deque[tuple[int, int, Input]] = deque()  # stamp, size, input
        self._bytes = 0
        self._stamp = 0
        self._drained_at = 0
        self._drain_rate = 0.0  # bytes per second, smoothed
        self._accepted: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()

    def put(self, *, signal: Signal, encoding: Encoding, body: bytes, message: Any, source: str, size: int | None = None) -> bool:
        """Queue a payload; False (and counted) when there is no room. `size` = memory it holds, if the caller knows better."""

        def make(received_at: int) -> Input:
            return Payload(signal=signal, encoding=encoding, body=body, message=message, received_at=received_at, source=source)

        return self._put(make, (len(body) or _UNKNOWN_SIZE) if size is None else size, signal.value)

    def put_input(self, make: Callable[[int], Input], size: int) -> bool:
        """Queue what `make(received_at)` returns; False (and counted) when there is no room. `make` runs under the lock: keep it light."""
        return self._put(make, size, INPUTS)

    def drain(self, before: int) -> list[Input]:
        """Take out everything received before the time `before`, in order."""
        taken: list[Input] = []
        with self._lock:
            now = self._clock.now()
            freed = 0
            while self._queue and self._queue[0][0] < before:
                _, size, item = self._queue.popleft()
                taken.append(item)
                freed += size
            self._bytes -= freed
            if before <= now:
                self._stamp = max(self._stamp, before)
            self._note_rate(now, freed)
        return taken

    def wait(self, timeout_seconds: float) -> None:
        """Return when something is queued, or after `timeout_seconds`."""
        with self._filled:
            if not self._queue:
                self._filled.wait(timeout_seconds)

    def stats(self) -> BufferStats:
        """Counts since the start and what is queued now."""
        with self._lock:
            return BufferStats(items=len(self._queue), bytes=self._bytes, accepted=dict(self._accepted), dropped=dict(self._dropped))

    def retry_after_seconds(self) -> int:
        """When there will be room again at the pace of the last drains: 1 to 60 seconds."""
        with self._lock:
            if self._drain_rate <= 0:
                return 5 if self._queue else 1
            return int(min(60.0, max(1.0, 0.5 * self._bytes / self._drain_rate)))

    def _put(self, make: Callable[[int], Input], size: int, name: str) -> bool:
        with self._filled:
            if len(self._queue) >= self._max_items or self._bytes + size > self._max_bytes:
                self._dropped[name] += 1
                return False
            self._stamp = max(self._stamp, self._clock.now())
            self._queue.append((self._stamp, size, make(self._stamp)))
            self._bytes += size
            self._accepted[name] += 1
            self._filled.notify()
        return True

    def _note_rate(self, now: int, freed: int) -> None:
        elapsed = (now - self._drained_at) / SECOND
        if elapsed <= 0:
            return
        if self._drained_at and freed:
            rate = freed / elapsed
            self._drain_rate = rate if not self._drain_rate else 0.7 * self._drain_rate + 0.3 * rate
        self._drained_at = now
