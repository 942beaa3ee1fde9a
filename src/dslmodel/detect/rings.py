"""Per-second sums of some features for many keys, in one array; windows are sums over seconds."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SECONDS = 128  # the longest window, plus how late data may come, plus the lag of settled spans

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Ring:
    """The last 128 seconds of `features` sums per key. Adding commutes; adding to a second that is gone is refused and counted."""

    def __init__(self, features: int, dtype: type[np.floating[Any]] = np.float64) -> None:
        self._features = features
        self._dtype = dtype
        self._slots: dict[Hashable, int] = {}
        self.keys: list[Hashable] = []
        self._data: NDArray[np.floating[Any]] = np.zeros((SECONDS, 64, features), dtype=dtype)
        self._newest = 0
        self.used_at: list[int] = []
        self.too_late = 0

    def slots(self, keys: Sequence[Hashable]) -> Ints:
        """The rows of `keys`; new keys get one."""
        for key in keys:
            if key not in self._slots:
                self._slots[key] = len(self.keys)
                self.keys.append(key)
                self.used_at.append(0)
        if len(self.keys) > self._data.shape[1]:
            grown = np.zeros((SECONDS, max(2 * self._data.shape[1], len(self.keys)), self._features), dtype=self._dtype)
            grown[:, : self._data.shape[1]] = self._data
            self._data = grown
        return np.fromiter((self._slots[key] for key in keys), dtype=np.int64, count=len(keys))

    def advance(self, second: int) -> None:
        """Make room up to `second`; what is older than 128 seconds is forgotten."""
        if not self._newest:
            self._newest = second
        for passed in range(max(self._newest + 1, second - SECONDS + 1), second + 1):
            self._data[passed % SECONDS] = 0.0
        self._newest = max(self._newest, second)

    def add(self, slots: Ints, seconds: Ints, values: Floats) -> None:
        """Add rows of features. `slots`, `seconds`: [n]; `values`: [n, features]."""
        if not len(slots):
            return
        self.advance(int(seconds.max()))
        fits = seconds > self._newest - SECONDS
        if not fits.all():
            self.too_late += int((~fits).sum())
            slots, seconds, values = slots[fits], seconds[fits], values[fits]
        np.add.at(self._data, (seconds % SECONDS, slots), values)
        for slot in np.unique(slots).tolist():
            self.used_at[slot] = self._newest

    def total(self, first: int, last: int) -> Floats:
        """Sums over seconds first..last-1: [keys, features]. Seconds outside the ring count as zero."""
        low, high = max(first, self._newest - SECONDS + 1), min(last, self._newest + 1)
        if high <= low:
            return np.zeros((len(self.keys), self._features))
        seconds = np.arange(low, high) % SECONDS
        return np.asarray(self._data[seconds, : len(self.keys)].sum(axis=0, dtype=np.float64))

    def seconds(self, slot: int, first: int, last: int) -> Floats:
        """One key's sums of each second first..last-1, which must be within the ring: [seconds, features]."""
        return np.asarray(self._data[np.arange(first, last) % SECONDS, slot], dtype=np.float64)

    def forget(self, before: int) -> list[Hashable]:
        """Drop keys that nothing was added to since second `before`; returns them. Rows move."""
        keep = [i for i, used in enumerate(self.used_at) if used >= before]
        if len(keep) == len(self.keys):
            return []
        gone = [key for key, used in zip(self.keys, self.used_at, strict=True) if used < before]
        self._data = np.ascontiguousarray(self._data[:, keep]) if keep else np.zeros((SECONDS, 64, self._features), dtype=self._dtype)
        self.keys = [self.keys[i] for i in keep]
        self.used_at = [self.used_at[i] for i in keep]
        self._slots = {key: i for i, key in enumerate(self.keys)}
        return gone


def sum_by(groups: Ints, values: Floats, size: int) -> Floats:
    """Rows of `values` summed by group: [size, features]."""
    out = np.zeros((size, values.shape[1]))
    np.add.at(out, groups, values)
    return out
