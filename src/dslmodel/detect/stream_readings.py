"""Per-second sums -> readings: sliding windows of several lengths, each against what the same statistic did before.

A shift's deviation is z = (shift - median) / sqrt(scale^2 + floor^2 + variance / n): the history says how much the statistic wanders
by itself, the last term how much a window of n requests wanders by chance. Errors: the likelihood ratio of a binomial,
z = sqrt(2 n KL(k/n || p)) (Chernoff's bound of its tail is exp(-z^2/2)), n = requests seen, so that sampling doesn't make certain.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from dslmodel.clock import SECOND
from dslmodel.detect.base import Reading, Subject
from dslmodel.detect.missing import RATE_WINDOW, Missing
from dslmodel.detect.rings import Floats, Ring
from dslmodel.detect.stream import (
    ERRORS,
    EXPECTED,
    EXPECTED_OVER,
    KNOWN,
    OVER,
    RAW,
    SHIFT,
    TAIL,
    TAIL_VARIANCE,
    VARIANCE,
    WEIGHT,
    Stream,
)
from dslmodel.records import EdgeKey

LIMITS = {10: 9.0, 30: 7.0, 60: 6.0}  # window seconds: deviation from which it convinces; short windows wander more
ERROR_LIMIT = 6.4  # tail < 1e-9
COUNT_LIMIT = 6.0  # tail < 2e-8
RATIO_WINDOW = 60
SETTLING_SECONDS = 10
_FLOOR = 0.05
_TAIL_FLOOR = 0.02
_ERROR_FLOOR = 0.03  # of asin(sqrt(ratio))
_MIN_KNOWN = 3.0
_MIN_HISTORY = 5


class Statistic(NamedTuple):
    """One signal of many subjects in one window."""

    signal: str
    window: int
    names: Sequence[tuple[str, ...]]
    value: Floats  # what the history is of
    noise: Floats  # variance by chance
    floor: float
    limit: float
    enough: Floats  # requests that the value rests on
    certainty: Floats  # no deviation counts for more
    ring: Ring
    feature: int  # what the value is the mean of


class StreamReadings:
    """Reads a `Stream`; owns the samples that wait in quarantine before they are history."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._samples: list[tuple[tuple[str, ...], Hashable, float]] = []
        self._waiting: list[tuple[int, list[tuple[tuple[str, ...], Hashable, float]]]] = []
        self._ready: set[str] = set()
        self._missing = Missing(stream)

    # ------------------------------------------------------------ readings

    def read(self, now: int, watched: set[str]) -> list[Reading]:
        """Readings worth a detector's look: those at half their limit, and all of `watched` services."""
        second = now // SECOND
        self._samples = []
        readings: list[Reading] = []
        if second - self._stream.arrivals.alive_since < SETTLING_SECONDS:
            return readings  # the first data after a silence are those of what was quick to restart, or to export
        standing_out = set(watched)
        for window, limit in sorted(LIMITS.items(), reverse=True):
            found = [*self._levels(second, window, limit, standing_out), *self._errors(second, window, standing_out)]
            standing_out |= {reading.subject.service for reading in found}  # what its shorter windows say tells whether it goes on
            readings += found
        missing, samples = self._missing.read(now, watched, self._ready)
        self._samples += samples
        return readings + missing

    def _levels(self, second: int, window: int, limit: float, watched: set[str]) -> Iterable[Reading]:
        stream = self._stream
        for name, ring in (("latency", stream.services), ("call_latency", stream.edges), ("gap", stream.gaps)):
            if not ring.keys:
                continue
            total = ring.total(second - window, second)
            names = [_names(key) for key in ring.keys]
            known = np.maximum(total[:, KNOWN], 1e-9)
            seen = total[:, RAW] * total[:, KNOWN] / np.maximum(total[:, WEIGHT], 1e-9)  # spans, not what sampled ones stand for
            noise = total[:, [VARIANCE, TAIL_VARIANCE]] / known[:, None] / np.maximum(seen, 1e-9)[:, None]
            certainty = np.full(len(names), np.inf)
            yield from self._judge(
                Statistic(
                    f"{name}_shift", window, names, total[:, SHIFT] / known, noise[:, 0], _FLOOR, limit, seen, certainty, ring, SHIFT
                ),
                second,
                watched,
            )
            if name != "gap":
                # A mean excess of a few spans is not normally distributed: that so many are over p95 must itself be no chance.
                certainty = limit / COUNT_LIMIT * _over(total[:, OVER] / known, total[:, EXPECTED_OVER] / known, seen)
                yield from self._judge(
                    Statistic(
                        f"{name}_tail", window, names, total[:, TAIL] / known, noise[:, 1], _TAIL_FLOOR, limit, seen, certainty, ring, TAIL
                    ),
                    second,
                    watched,
                )

    def _judge(self, s: Statistic, second: int, watched: set[str]) -> Iterable[Reading]:
        """Compare with history, note samples, and make readings of what stands out."""
        keys = [(names, s.signal, s.window) for names in s.names]
        center, scale, count = self._stream.history.normal(keys)
        center = self._stream.seasons.highest(keys, center, second)
        usable = s.enough >= _MIN_KNOWN
        z = np.minimum((s.value - center) / np.sqrt(scale**2 + s.floor**2 + s.noise), s.certainty)
        for i in np.flatnonzero(usable).tolist():
            self._samples.append((s.names[i], keys[i], float(s.value[i])))
            is_watched = s.names[i][-1] in watched
            if not is_watched and z[i] < 0.5 * s.limit:
                continue
            learning = count[i] < _MIN_HISTORY or not self._is_ready(s.names[i])
            yield Reading(
                subject=_subject(s.names[i]),
                signal=s.signal,
                value=float(np.exp(s.value[i])),
                normal=float(np.exp(center[i])),
                shift=float(s.value[i] - center[i]),
                z=None if learning else float(z[i]),
                limit=s.limit,
                count=float(s.enough[i]),
                at=second * SECOND,
                window_seconds=s.window,
                started_at=self._onset(s.ring, i, (s.feature, KNOWN), second, s.window, float(s.value[i])) if z[i] >= s.limit else 0,
            )

    def _errors(self, second: int, window: int, watched: set[str]) -> Iterable[Reading]:
        stream = self._stream
        for ring in (stream.services, stream.operations, stream.edges):
            if not ring.keys:
                continue
            is_operation = ring is stream.operations
            total = ring.total(second - window, second)
            seen, weight = total[:, RAW], np.maximum(total[:, WEIGHT], 1e-9)
            ratio = np.clip(total[:, ERRORS] / weight, 0.0, 1.0)
            expected = np.clip(total[:, EXPECTED] / weight, 1e-6, 0.999)
            z = _over(ratio, expected, seen)
            names = [_names(key) for key in ring.keys]
            spread = np.arcsin(np.sqrt(ratio))
            if not is_operation:
                keys = [(name, "error_ratio", window) for name in names]
                center, scale, _ = stream.history.normal(keys)
                center = stream.seasons.highest(keys, center, second)
                wander = (spread - center) / np.sqrt(scale**2 + _ERROR_FLOOR**2 + 0.25 / np.maximum(seen, 1.0))
                z = np.minimum(z, 1.3 * np.maximum(wander, 0.0))
                self._samples += [(names[i], keys[i], float(spread[i])) for i in np.flatnonzero(seen > 0).tolist()]
            for i in np.flatnonzero(seen > 0).tolist():
                if (names[i][0] if is_operation else names[i][-1]) not in watched and z[i] < 0.5 * ERROR_LIMIT:
                    continue
                subject = Subject(names[i][0], "", names[i][1]) if is_operation else _subject(names[i])
                yield Reading(
                    subject=subject,
                    signal="error_ratio",
                    value=float(ratio[i]),
                    normal=float(expected[i]),
                    shift=float(ratio[i] - expected[i]),
                    z=float(z[i]) if self._is_ready(names[i] if not is_operation else names[i][:1]) else None,
                    limit=ERROR_LIMIT,
                    count=float(seen[i]),
                    at=second * SECOND,
                    window_seconds=window,
                    excess=float(total[i, ERRORS] - total[i, EXPECTED]) / window,
                    started_at=self._onset(ring, i, (ERRORS, WEIGHT), second, window, float(ratio[i])) if z[i] >= ERROR_LIMIT else 0,
                )

    @staticmethod
    def _onset(ring: Ring, slot: int, features: tuple[int, int], second: int, window: int, value: float) -> int:
        """When it began: the second from which the sums stay furthest over half of the window's value (Page 1954, backwards)."""
        rows = ring.seconds(slot, second - window, second)
        over = rows[:, features[0]] - 0.5 * value * rows[:, features[1]]
        return (second - window + int(np.argmax(np.cumsum(over[::-1])[::-1]))) * SECOND

    # ------------------------------------------------------------ learning

    def learn(self, now: int, is_clean: Callable[[str, int], bool]) -> None:
        """Once a block, after `read`: keep this tick's values, and learn those that have left quarantine clean."""
        second = now // SECOND
        stream = self._stream
        if second % stream.block_seconds:
            return
        self._waiting.append((second, self._samples))
        while self._waiting and self._waiting[0][0] <= second - stream.quarantine_seconds:
            at, samples = self._waiting.pop(0)
            for names, key, value in samples:
                if all(is_clean(name, at) for name in names):
                    stream.history.learn(key, value)
        self._ready = self._find_ready(second)

    def forget_service(self, service: str | None) -> None:
        """Unlearn a service, or everything: what waits in quarantine too, and nothing is ready before it is learnt anew."""
        self._waiting = [(at, [s for s in samples if service is not None and service not in s[0]]) for at, samples in self._waiting]
        self._ready = set() if service is None else self._ready - {service}

    def _find_ready(self, second: int) -> set[str]:
        stream = self._stream
        seen: dict[str, float] = {}
        for key, profile in stream.requests.items():
            service = str(key[0])  # type: ignore[index]  # keys of requests are SeriesKey
            seen[service] = seen.get(service, 0.0) + profile.seen
        return {
            service
            for service, first in stream.first_seen.items()
            if second - first >= stream.min_seconds and seen.get(service, 0.0) >= stream.min_spans
        }

    def ratios(self, now: int) -> tuple[float | None, float | None]:
        """(normal / actual latency, actual / normal throughput) of ready services; None when none is."""
        stream, second = self._stream, now // SECOND
        names = [str(key) for key in stream.services.keys]
        ready = np.array([name in self._ready for name in names], dtype=bool)
        if not ready.any():
            return None, None
        total = stream.services.total(second - RATIO_WINDOW, second)
        known = total[:, KNOWN] * ready
        center, _, _ = stream.history.normal([((name,), "latency_shift", 60) for name in names])
        slower = np.maximum(0.0, total[:, SHIFT] / np.maximum(total[:, KNOWN], 1e-9) - center)
        latency = float(known @ np.exp(-slower) / known.sum()) if known.sum() > 0 else None
        root, _, seen = stream.history.normal([((name,), "throughput", RATE_WINDOW) for name in names])
        normal = (root / 2.0) ** 2 / RATE_WINDOW * ready * (seen >= _MIN_HISTORY)
        actual = total[:, WEIGHT] / RATIO_WINDOW
        share = np.minimum(actual, normal)
        return latency, float(share.sum() / normal.sum()) if normal.sum() > 0 else None

    def learning(self) -> tuple[str, ...]:
        """Services seen whose baseline can't raise a finding yet."""
        return tuple(sorted(set(self._stream.first_seen) - self._ready))

    def _is_ready(self, names: tuple[str, ...]) -> bool:
        if len(names) == 1:
            return names[0] in self._ready
        profile = self._stream.calls.get(EdgeKey(*names))
        return profile is not None and profile.seen >= self._stream.min_spans and names[0] in self._ready


def _names(key: Any) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else tuple(key)


def _subject(names: tuple[str, ...]) -> Subject:
    return Subject(names[0]) if len(names) == 1 else Subject(names[1], names[0])


def _over(ratio: Floats, expected: Floats, seen: Floats) -> Floats:
    """sqrt(2 n KL): how certain it is that a ratio over `expected` is no chance; 0 below."""
    usual = np.clip(expected, 1e-6, 0.999)
    return np.where(ratio > usual, np.sqrt(2.0 * seen * _divergence(ratio, usual)), 0.0)


def _divergence(ratio: Floats, expected: Floats) -> Floats:
    """Kullback-Leibler divergence of Bernoulli laws."""
    inner = np.clip(ratio, 1e-12, 1.0 - 1e-12)
    divergence = inner * np.log(inner / expected) + (1.0 - inner) * np.log((1.0 - inner) / (1.0 - expected))
    return np.maximum(0.0, divergence)  # rounding takes equal laws a hair below zero
