"""Level baselines: what one kind of request or call normally takes and how often it fails.

A profile is a histogram that forgets (half-life one hour, but for its last 200 spans), so a slow change becomes normal and a fault
that is quarantined does not.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

HALF_LIFE_SECONDS = 3600.0
_TAIL = 0.95
_KEPT_WEIGHT = 200.0  # spans that time alone does not take away: what works once a night knows the next night what is normal
_FORK_WEIGHT = 200.0  # spans that a forked profile counts for: its own soon outweigh them
_PRIOR = 0.5  # Jeffreys prior of the error ratio

Floats = NDArray[np.float64]
Clean = Callable[[Hashable, int], bool]  # (key, second): nothing was wrong with the key's service around then
Wanted = Callable[[Hashable], bool]

# Natural logarithm of a bucket's middle, in milliseconds: the scale on which durations are compared.
LOG_MS: Floats = (np.arange(4096) - 0.5) / 64.0 * np.log(2.0) - np.log(1e6)
MS: Floats = np.exp(LOG_MS)


class Profile:
    """What is normal for one key. Derived numbers are natural logs of milliseconds unless they say otherwise."""

    __slots__ = (
        "calls",
        "errors",
        "histogram",
        "learnt_at",
        "mean_ms",
        "mu",
        "seen",
        "tail_mean",
        "tail_share",
        "tail_variance",
        "tau",
        "variance",
    )

    def __init__(self) -> None:
        self.histogram: dict[int, float] = {}
        self.errors = 0.0
        self.calls = 0.0
        self.seen = 0.0  # spans ever learnt, for readiness
        self.learnt_at = 0
        self.mu = 0.0  # mean log duration
        self.variance = 0.0
        self.tau = 0.0  # log of the 95th percentile
        self.tail_mean = 0.0  # mean of max(0, log duration - tau)
        self.tail_variance = 0.0
        self.tail_share = 0.0  # of durations over tau
        self.mean_ms = 0.0

    @property
    def error_ratio(self) -> float:
        """Posterior mean of the error ratio."""
        return (self.errors + _PRIOR) / (self.calls + 2 * _PRIOR)

    def learn(self, histogram: Mapping[int, float], errors: float, second: int) -> None:
        """Add what was counted up to `second`, and let what is older fade."""
        if self.learnt_at and second > self.learnt_at:
            kept = min(1.0, _KEPT_WEIGHT / self.calls) if self.calls else 1.0
            fade = max(0.5 ** ((second - self.learnt_at) / HALF_LIFE_SECONDS), kept)
            self.histogram = {b: w * fade for b, w in self.histogram.items() if w * fade > 1e-3}
            self.errors *= fade
            self.calls *= fade
        self.learnt_at = max(self.learnt_at, second)
        for bucket, weight in histogram.items():
            self.histogram[bucket] = self.histogram.get(bucket, 0.0) + weight
        total = sum(histogram.values())
        self.errors += errors
        self.calls += total
        self.seen += total
        self._derive()

    def fork(self) -> "Profile":
        """The start of a new version's profile: the same expectations, held lightly."""
        child = Profile()
        lighter = min(1.0, _FORK_WEIGHT / self.calls) if self.calls else 1.0
        child.histogram = {b: w * lighter for b, w in self.histogram.items()}
        child.errors, child.calls = self.errors * lighter, self.calls * lighter
        child.seen, child.learnt_at = self.seen, self.learnt_at
        child._derive()  # its own class
        return child

    def _derive(self) -> None:
        if not self.histogram:
            return
        buckets = np.fromiter(sorted(self.histogram), dtype=np.int64, count=len(self.histogram))
        weights = np.fromiter((self.histogram[b] for b in buckets.tolist()), dtype=np.float64, count=len(buckets))
        share = weights / weights.sum()
        logs = LOG_MS[buckets]
        self.mu = float(share @ logs)
        self.variance = float(share @ (logs - self.mu) ** 2)
        self.tau = float(logs[min(int(np.searchsorted(np.cumsum(share), _TAIL)), len(logs) - 1)])
        over = np.maximum(0.0, logs - self.tau)
        self.tail_mean = float(share @ over)
        self.tail_share = float(share @ (logs > self.tau))
        self.tail_variance = float(share @ (over - self.tail_mean) ** 2)
        self.mean_ms = float(share @ MS[buckets])

    def dump(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "histogram": [[b, round(w, 6)] for b, w in sorted(self.histogram.items())],
            "errors": self.errors,
            "calls": self.calls,
            "seen": self.seen,
            "learnt_at": self.learnt_at,
        }

    @classmethod
    def load(cls, document: Mapping[str, Any]) -> "Profile":
        """From `dump`."""
        profile = cls()
        profile.histogram = {int(b): float(w) for b, w in document["histogram"]}
        profile.errors, profile.calls = float(document["errors"]), float(document["calls"])
        profile.seen, profile.learnt_at = float(document["seen"]), int(document["learnt_at"])
        profile._derive()  # its own class
        return profile


class Profiles:
    """Profiles by key, learnt from blocks that waited in quarantine."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Profile] = {}
        self._block: dict[Hashable, tuple[dict[int, float], float]] = {}
        self._waiting: list[tuple[int, dict[Hashable, tuple[dict[int, float], float]]]] = []

    def get(self, key: Hashable) -> Profile | None:
        """The profile of a key, if it has one."""
        return self._known.get(key)

    def put(self, key: Hashable, profile: Profile) -> None:
        """Set a key's profile (a fork, or a loaded one)."""
        self._known[key] = profile

    def count(self, key: Hashable, histogram: Iterable[tuple[int, float]], errors: float) -> None:
        """Count into the open block."""
        counted = self._block.get(key)
        if counted is None:
            counted = self._block[key] = ({}, 0.0)
        mine, before = counted
        for bucket, weight in histogram:
            mine[bucket] = mine.get(bucket, 0.0) + weight
        if errors:
            self._block[key] = (mine, before + errors)

    def close_block(self, second: int) -> None:
        """What was counted since the last call goes into quarantine."""
        if self._block:
            self._waiting.append((second, self._block))
            self._block = {}

    def release(self, before: int, is_clean: Clean) -> None:
        """Learn blocks closed before second `before`, but for keys that were in trouble around them."""
        while self._waiting and self._waiting[0][0] < before:
            second, block = self._waiting.pop(0)
            for key, (histogram, errors) in block.items():
                if is_clean(key, second):
                    profile = self._known.get(key)
                    if profile is None:
                        profile = self._known[key] = Profile()
                    profile.learn(histogram, errors, second)

    def forget(self, wanted: Wanted) -> None:
        """Drop the profiles, and what waits, of keys that `wanted` says true to."""
        for key in [k for k in self._known if wanted(k)]:
            del self._known[key]
        for block in (self._block, *(block for _, block in self._waiting)):
            for key in [k for k in block if wanted(k)]:
                del block[key]

    def items(self) -> Iterable[tuple[Hashable, Profile]]:
        """Every key with its profile."""
        return self._known.items()
