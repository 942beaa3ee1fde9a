"""What a statistic did before: rings of past values, their median and a robust scale.

The scale is the larger of 1.4826 * MAD and (q98 - median) / 2.05: both estimate a normal law's standard deviation, and the second
doesn't forget that a spiky signal is spiky. Median and MAD: Hampel, "The influence curve and its role in robust estimation", 1974.
"""

from base64 import b64decode, b64encode
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LENGTH = 240  # values remembered of one key: 40 minutes of 10-second windows, four hours of minutes
_UPPER = 0.98
_UPPER_SIGMAS = 2.0537

Floats = NDArray[np.float64]


class History:
    """Past values of one statistic for many keys."""

    def __init__(self) -> None:
        self._slots: dict[Hashable, int] = {}
        self._values: NDArray[np.float32] = np.full((64, LENGTH), np.inf, dtype=np.float32)
        self._count = np.zeros(64, dtype=np.int64)
        self._center: Floats = np.zeros(64)
        self._scale: Floats = np.zeros(64)
        self._mean: Floats = np.zeros(64)
        self._stale: set[int] = set()
        self._free: list[int] = []

    def learn(self, key: Hashable, value: float) -> None:
        """Remember one value of `key`."""
        slot = self._slots.pop(key, None)
        if slot is None:
            slot = self._admit()
        self._slots[key] = slot  # last in the order of `forget_oldest`
        self._values[slot, self._count[slot] % LENGTH] = value
        self._count[slot] += 1
        self._stale.add(slot)

    def __iter__(self) -> Iterator[Hashable]:
        """Every key that values are known of, learnt longest ago first."""
        return iter(list(self._slots))

    def count(self, key: Hashable) -> int:
        """How many values of `key` were learnt."""
        slot = self._slots.get(key)
        return 0 if slot is None else int(self._count[slot])

    def normal(self, keys: Sequence[Hashable]) -> tuple[Floats, Floats, Floats]:
        """(median, scale, values known) of each key; unknown keys have zeros."""
        self._refresh()
        slots = np.fromiter((self._slots.get(key, -1) for key in keys), dtype=np.int64, count=len(keys))
        known = slots >= 0
        return np.where(known, self._center[slots], 0.0), np.where(known, self._scale[slots], 0.0), np.where(known, self._count[slots], 0.0)

    def mean(self, keys: Sequence[Hashable]) -> Floats:
        """Mean of each key's values: for a ratio of few, whose median is biased. Unknown keys have zeros."""
        self._refresh()
        slots = np.fromiter((self._slots.get(key, -1) for key in keys), dtype=np.int64, count=len(keys))
        return np.where(slots >= 0, self._mean[slots], 0.0)

    def forget(self, keys: Iterable[Hashable]) -> None:
        """Unlearn keys; their places are reused by `_admit`."""
        for key in list(keys):
            slot = self._slots.pop(key, None)
            if slot is not None:
                self._count[slot] = 0
                self._values[slot] = np.inf
                self._stale.discard(slot)
                self._free.append(slot)

    def forget_oldest(self, most: int) -> None:
        """Unlearn the keys that were learnt longest ago, but for `most`."""
        self.forget(list(self._slots)[: max(0, len(self._slots) - most)])

    def _admit(self) -> int:
        slot = self._free.pop() if self._free else len(self._slots)
        if slot >= len(self._count):
            size = 2 * len(self._count)
            self._values = np.vstack((self._values, np.full((size // 2, LENGTH), np.inf, dtype=np.float32)))
            self._count = np.concatenate((self._count, np.zeros(size // 2, dtype=np.int64)))
            self._center = np.concatenate((self._center, np.zeros(size // 2)))
            self._scale = np.concatenate((self._scale, np.zeros(size // 2)))
            self._mean = np.concatenate((self._mean, np.zeros(size // 2)))
        return slot

    def _refresh(self) -> None:
        if not self._stale:
            return
        rows = np.fromiter(sorted(self._stale), dtype=np.int64, count=len(self._stale))
        self._stale.clear()
        count = np.minimum(self._count[rows], LENGTH)
        ordered = np.sort(self._values[rows].astype(np.float64), axis=1)
        center = _middle(ordered, count)
        with np.errstate(invalid="ignore"):
            away = np.sort(np.abs(ordered - center[:, None]), axis=1)
        upper = ordered[np.arange(len(rows)), np.minimum((_UPPER * count).astype(np.int64), count - 1)]
        self._center[rows] = center
        self._mean[rows] = np.where(np.isfinite(ordered), ordered, 0.0).sum(axis=1) / count
        self._scale[rows] = np.maximum(1.4826 * _middle(away, count), (upper - center) / _UPPER_SIGMAS)

    def dump(self) -> list[list[Any]]:
        """[key, values oldest first] of every key, for JSON: values as base64 of little-endian 32-bit floats, a tenth of their decimals."""
        rows = []
        for key, slot in self._slots.items():
            n = int(self._count[slot])
            values = self._values[slot] if n >= LENGTH else self._values[slot, :n]
            ordered = np.roll(values, -(n % LENGTH)) if n >= LENGTH else values
            rows.append([list(key) if isinstance(key, tuple) else key, b64encode(ordered.astype("<f4").tobytes()).decode()])
        return rows

    def load(self, key: Hashable, values: str | Sequence[float]) -> None:
        """Learn one row of `dump`; plain numbers are read, too."""
        known = np.frombuffer(b64decode(values, validate=True), dtype="<f4").tolist() if isinstance(values, str) else values
        for value in known:
            self.learn(key, float(value))


def _middle(ordered: Floats, count: NDArray[np.int64]) -> Floats:
    """Median of the first `count` values of each ascending row (the mean of the two middle ones)."""
    rows = np.arange(len(ordered))
    return np.asarray((ordered[rows, (count - 1) // 2] + ordered[rows, count // 2]) / 2.0)
