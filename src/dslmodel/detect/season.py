"""What was normal at this hour of the week, in weeks past.

A jump that comes every Monday at nine is no finding: a signal must be out of what the last hour did *and* of what this hour does. Hours
are of UTC weeks. Each hour's center is the median that the history had at its end; weeks are averaged with a memory of about four.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dslmodel.detect.history import History

HOURS = 168
_HOUR_SECONDS = 3600
_MEMORY = 0.25  # weight of the newest week, from the fourth on
_MAX_KEYS = 20_000

Floats = NDArray[np.float64]


class Seasons:
    """Centers by key and hour of the week, of the keys of one history."""

    def __init__(self, *, min_values: int) -> None:
        """`min_values`: learnt within the hour; fewer don't tell what the hour is like."""
        self._min_values = min_values
        self._centers: dict[Hashable, NDArray[np.float32]] = {}  # [168]; NaN: never seen
        self._weeks: dict[Hashable, NDArray[np.int16]] = {}
        self._counts: dict[Hashable, int] = {}  # values in the history when the hour began

    def learn(self, second: int, history: History) -> None:
        """At the end of an hour: remember its centers."""
        if second % _HOUR_SECONDS:
            return
        hour = (second // _HOUR_SECONDS - 1) % HOURS
        keys = list(history)[-_MAX_KEYS:]
        center, _, counts = history.normal(keys)
        for i, key in enumerate(keys):
            if counts[i] - self._counts.get(key, 0) >= self._min_values:
                self._take(key, hour, float(center[i]))
        self._counts = {key: int(counts[i]) for i, key in enumerate(keys)}
        for key in [k for k in self._centers if k not in self._counts]:
            del self._centers[key], self._weeks[key]

    def _take(self, key: Hashable, hour: int, center: float) -> None:
        centers = self._centers.setdefault(key, np.full(HOURS, np.nan, dtype=np.float32))
        weeks = self._weeks.setdefault(key, np.zeros(HOURS, dtype=np.int16))
        weeks[hour] += 1
        weight = max(_MEMORY, 1.0 / float(weeks[hour]))
        before = 0.0 if np.isnan(centers[hour]) else float(centers[hour])
        centers[hour] = before + weight * (center - before)

    def highest(self, keys: Sequence[Hashable], center: Floats, second: int) -> Floats:
        """The higher of each center and the season's: for signals of which more is worse."""
        return np.fmax(center, self._at(keys, second))

    def lowest(self, keys: Sequence[Hashable], center: Floats, second: int) -> Floats:
        """The lower of each center and the season's: for signals of which less is worse."""
        return np.fmin(center, self._at(keys, second))

    def _at(self, keys: Sequence[Hashable], second: int) -> Floats:
        hour = (second // _HOUR_SECONDS) % HOURS
        return np.array([float(self._centers[key][hour]) if key in self._centers else np.nan for key in keys])

    def dump(self) -> list[list[Any]]:
        """[key, [[hour, center, weeks] …]] of every key, for JSON."""
        return [
            [key, [[h, float(centers[h]), int(self._weeks[key][h])] for h in np.flatnonzero(~np.isnan(centers)).tolist()]]
            for key, centers in self._centers.items()
        ]

    def load(self, key: Hashable, hours: Sequence[Sequence[float]]) -> None:
        """Take one key's row of `dump`."""
        centers = self._centers.setdefault(key, np.full(HOURS, np.nan, dtype=np.float32))
        weeks = self._weeks.setdefault(key, np.zeros(HOURS, dtype=np.int16))
        for hour, center, seen in hours:
            centers[int(hour)], weeks[int(hour)] = center, int(seen)

    def forget(self, keys: Sequence[Hashable]) -> None:
        """Unlearn keys."""
        for key in keys:
            self._centers.pop(key, None)
            self._weeks.pop(key, None)
            self._counts.pop(key, None)
