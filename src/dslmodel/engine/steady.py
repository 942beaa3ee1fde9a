"""A wall clock that never goes back: what stamps inputs and what decides on ticks must agree on one order."""

import threading
import time
from collections.abc import Callable

# While the wall clock is behind, time goes on at half its pace: ticks never stop, and the lead shrinks.
_SLEW_DIVISOR = 2


class SteadyClock:
    """The wall clock made monotonic, shared by the receivers' buffer and the runner.

    A step forward (suspend, NTP) is followed at once. After a step back the clock goes on from where it was at half pace
    until the wall clock has caught up. Without it, an input could be stamped with a second that was already ticked.
    """

    def __init__(self, wall: Callable[[], int] = time.time_ns, elapsed: Callable[[], int] = time.monotonic_ns) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._lock = threading.Lock()
        self._mark = elapsed()
        self._last = wall()
        self._lead = 0

    def now(self) -> int:
        """Nanoseconds since the Unix epoch, never less than any answer before."""
        with self._lock:
            wall, mark = self._wall(), self._elapsed()
            if wall >= self._last:
                self._last = wall
            else:
                self._last += max(mark - self._mark, 0) // _SLEW_DIVISOR
            self._mark = mark
            self._lead = max(self._last - wall, 0)
            return self._last

    @property
    def lead_seconds(self) -> float:
        """How far this clock is ahead of the wall clock, as of the last reading; 0 unless the wall clock was set back."""
        return self._lead / 1e9
