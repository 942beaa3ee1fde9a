"""Passes everything accepted on to another OTLP endpoint, from a bounded queue and a thread of its own. Never slows reception."""

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from dslmodel.records import Encoding, Signal

# One request is tried this long; then it makes room for the next.
_GIVE_UP_SECONDS = 300.0
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 30.0


class Answer(StrEnum):
    """What the next endpoint made of a request."""

    TAKEN = "taken"
    RETRY = "retry"
    REFUSED = "refused"


class Verdict(NamedTuple):
    """An answer, how long to wait if it says so, and its text."""

    answer: Answer
    wait_seconds: float | None = None
    text: str = ""


class Sender(Protocol):
    """Sends one request and waits for the answer. Never raises for what the other side does."""

    def send(self, signal: Signal, encoding: Encoding, body: bytes, timeout_seconds: float) -> Verdict:
        """Send an uncompressed body."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardStats:
    """What is queued, and what became of requests since the start, by signal."""

    items: int
    bytes: int
    sent: Mapping[str, int]
    dropped_full: Mapping[str, int]  # the oldest, to make room
    dropped_refused: Mapping[str, int]  # the endpoint refused them for good
    dropped_late: Mapping[str, int]  # retried too long, or left over at the stop
    retries: int
    last_error: str


class Forwarder:
    """Sends accepted requests in order, one at a time.

    When the queue is full the oldest request is dropped: after an outage of the next endpoint what is new matters more. A request
    may be delivered twice when its answer was lost, as OTLP allows.
    """

    def __init__(
        self,
        sender: Sender,
        *,
        queue_bytes: int,
        timeout_seconds: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sender = sender
        self._max_bytes = queue_bytes
        self._timeout_seconds = timeout_seconds
        self._now = now
        self._changed = threading.Condition()
        self._queue: deque[tuple[Signal, Encoding, bytes]] = deque()
        self._bytes = 0
        self._stop_at: float | None = None
        self._sent: Counter[str] = Counter()
        self._full: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._late: Counter[str] = Counter()
        self._retries = 0
        self._last_error = ""
        self._thread = threading.Thread(target=self._run, name="otlp-forward", daemon=True)
        self._thread.start()

    def offer(self, signal: Signal, encoding: Encoding, body: bytes) -> None:
        """Queue an accepted request. Neither blocks nor raises."""
        with self._changed:
            if self._stop_at is not None or len(body) > self._max_bytes:
                self._full[signal.value] += 1
                return
            while self._bytes + len(body) > self._max_bytes:
                oldest, _, dropped = self._queue.popleft()
                self._bytes -= len(dropped)
                self._full[oldest.value] += 1
            self._queue.append((signal, encoding, body))
            self._bytes += len(body)
            self._changed.notify()

    def stats(self) -> ForwardStats:
        """Counts since the start and what is queued now."""
        with self._changed:
            return ForwardStats(
                items=len(self._queue),
                bytes=self._bytes,
                sent=dict(self._sent),
                dropped_full=dict(self._full),
                dropped_refused=dict(self._refused),
                dropped_late=dict(self._late),
                retries=self._retries,
                last_error=self._last_error,
            )

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Send what is queued for at most `timeout_seconds`, count the rest as dropped, and end."""
        with self._changed:
            self._stop_at = self._now() + timeout_seconds
            self._changed.notify()
        self._thread.join(timeout_seconds + self._timeout_seconds + 1)
        self._sender.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and self._stop_at is None:
                    self._changed.wait()
                if not self._queue or (self._stop_at is not None and self._now() >= self._stop_at):
                    self._late.update(signal.value for signal, _, _ in self._queue)
                    self._queue.clear()
                    self._bytes = 0
                    return
                signal, encoding, body = self._queue.popleft()
                self._bytes -= len(body)
            outcome = self._deliver(signal, encoding, body)
            with self._changed:
                outcome[signal.value] += 1

    def _deliver(self, signal: Signal, encoding: Encoding, body: bytes) -> Counter[str]:
        """Send until there is a final answer; the counter that it belongs to."""
        give_up_at = self._now() + _GIVE_UP_SECONDS
        wait = _FIRST_WAIT_SECONDS
        while True:
            stop_at = self._stop_at
            left = self._timeout_seconds if stop_at is None else min(self._timeout_seconds, max(0.1, stop_at - self._now()))
            verdict = self._sender.send(signal, encoding, body, left)
            if verdict.answer is Answer.TAKEN:
                return self._sent
            self._last_error = verdict.text[:500]
            if verdict.answer is Answer.REFUSED:
                return self._refused
            # Jitter, so that many of us don't come back to a recovering endpoint at once.
            pause = wait * random.uniform(0.5, 1.5) if verdict.wait_seconds is None else verdict.wait_seconds  # noqa: S311  # no secret
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
            if self._now() + pause >= give_up_at or not self._pause(pause):
                return self._late
            self._retries += 1

    def _pause(self, seconds: float) -> bool:
        """Wait; False when the stop comes before the end of it."""
        end = self._now() + seconds
        with self._changed:
            while (left := end - self._now()) > 0:
                if self._stop_at is not None and self._stop_at < end:
                    return False
                self._changed.wait(left)
        return True
