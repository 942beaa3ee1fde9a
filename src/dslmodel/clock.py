"""The clock is a parameter everywhere, so that a recording replays to the same bytes.

Times are integer nanoseconds since the Unix epoch.
"""

import time
from typing import Protocol

SECOND = 1_000_000_000


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> int:
        """Nanoseconds since the Unix epoch."""
        ...


class SystemClock:
    """The machine's wall clock."""

    def now(self) -> int:
        """Nanoseconds since the Unix epoch."""
        return time.time_ns()


class VirtualClock:
    """A clock that moves only when it is told to; never backwards."""

    def __init__(self, now: int = 0) -> None:
        self._now = now

    def now(self) -> int:
        """Nanoseconds since the Unix epoch."""
        return self._now

    def advance_to(self, now: int) -> None:
        """Move to `now`; an earlier time leaves the clock where it is."""
        self._now = max(self._now, now)

    def advance(self, seconds: float) -> None:
        """Move forward by `seconds`."""
        self._now += round(seconds * SECOND)
