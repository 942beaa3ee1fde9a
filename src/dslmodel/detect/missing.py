"""What no longer comes: requests of a service, and work that used to follow from a request.

Counts: 2 sqrt(n) has variance 1 for a Poisson count (Anscombe 1948), times what one span stands for when it is sampled. Followers: the
likelihood ratio of a binomial (up to one per request) or Poisson law, with the scale of the ratio's own history.
"""

from collections.abc import Hashable, Iterable, Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from dslmodel.clock import SECOND
from dslmodel.detect.base import Reading, Subject
from dslmodel.detect.rings import SECONDS, Floats
from dslmodel.detect.stream import RAW, WEIGHT, Stream
from dslmodel.records import FollowKey

RATE_WINDOW = 30
RATE_WINDOWS = (5, 10, RATE_WINDOW)
RATE_LIMIT = 6.0
FOLLOW_LIMIT = 5.0
_SHORT_EXPECTED = 30.0  # requests that a window shorter than the usual must expect
_SHORT_INTERVALS = 2.0  # and how many export intervals it must hold
_FOLLOW_FLOOR = 0.05
_MIN_ASKED = 3.0
_MIN_EXPECTED = 8.0  # calls, below which a missing one says little
_MIN_HISTORY = 5

Sample = tuple[tuple[str, ...], Hashable, float]  # (services, key in the history, value)


class Missing:
    """Reads what is missing from a `Stream`; keeps nothing."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def read(self, now: int, watched: AbstractSet[str], ready: AbstractSet[str]) -> tuple[list[Reading], list[Sample]]:
        """Readings of what stands out or is watched, and a sample of every value for the history."""
        readings: list[Reading] = []
        samples: list[Sample] = []
        if not self._stream.arrivals.is_silent(now):
            for window in reversed(RATE_WINDOWS):  # what stands out in a long window is read in the shorter ones too
                found = list(self._rates(window, now, watched, ready, samples))
                watched = watched | {reading.subject.service for reading in found}
                readings += found
            readings += self._follows(now, watched, ready, samples)
        return readings, samples

    # ------------------------------------------------------------ requests

    def _rates(self, window: int, now: int, watched: AbstractSet[str], ready: AbstractSet[str], samples: list[Sample]) -> Iterable[Reading]:
        stream, second = self._stream, now // SECOND
        names, counts = self._counts(window, second)
        if not names:
            return
        keys = [((name,), "throughput", window) for name in names]
        center, scale, known = stream.history.normal(keys)
        center = stream.seasons.lowest(keys, center, second)
        root = 2.0 * np.sqrt(counts)
        z = (center - root) / np.sqrt(scale**2 + self._chance(names, second))
        normal = (center / 2.0) ** 2
        for i, name in enumerate(names):
            samples.append(((name,), keys[i], float(root[i])))
            is_telling = window == RATE_WINDOW or normal[i] >= _SHORT_EXPECTED
            if not is_telling or (name not in watched and z[i] < 0.5 * RATE_LIMIT):
                continue
            is_ready = known[i] >= _MIN_HISTORY and name in ready and (counts[i] > 0 or stream.arrivals.others_alive(name, now))
            yield Reading(
                subject=Subject(name),
                signal="throughput",
                value=float(counts[i]) / window,
                normal=float(normal[i]) / window,
                shift=float(1.0 - counts[i] / max(normal[i], 1e-9)),
                z=float(z[i]) if is_ready else None,
                limit=RATE_LIMIT,
                count=float(normal[i]),
                at=second * SECOND,
                window_seconds=window,
            )

    def _counts(self, window: int, second: int) -> tuple[list[str], Floats]:
        """Requests of the newest complete window of each service whose data are old enough to have one."""
        stream, arrivals = self._stream, self._stream.arrivals
        names: list[str] = []
        counts: list[float] = []
        totals: dict[int, Floats] = {}
        delays = arrivals.delays()
        for slot, key in enumerate(stream.services.keys):
            name = str(key)
            interval, lag = delays.get(name, (1.0, 20))
            last = min(second, arrivals.newest) - lag
            if last - window <= max(arrivals.alive_since, stream.first_seen.get(name, second)):
                continue
            if window < RATE_WINDOW and window < _SHORT_INTERVALS * interval:
                continue
            if last not in totals:
                totals[last] = stream.services.total(last - window, last)
            names.append(name)
            counts.append(float(totals[last][slot, WEIGHT]))
        return names, np.array(counts)

    def _chance(self, names: Sequence[str], second: int) -> Floats:
        """Variance of 2 sqrt(count) by chance: what one span stands for, on the mean of the last two minutes."""
        stream = self._stream
        slots = stream.services.slots(names)
        lately = stream.services.total(second - SECONDS, second + 1)[slots]
        return np.maximum(1.0, lately[:, WEIGHT] / np.maximum(lately[:, RAW], 1.0))

    # ------------------------------------------------------------ followers

    def _follows(self, now: int, watched: AbstractSet[str], ready: AbstractSet[str], samples: list[Sample]) -> Iterable[Reading]:
        stream, second = self._stream, now // SECOND
        lag = round(stream.settle_seconds) + max((lag for _, lag in stream.arrivals.delays().values()), default=2)
        first = second - lag - RATE_WINDOW
        if not stream.follows.keys or first <= stream.arrivals.alive_since:
            return
        settled = dict(zip(stream.settled.keys, stream.settled.total(first, second - lag)[:, 0].tolist(), strict=True))
        found = stream.follows.total(first, second - lag)[:, 0].tolist()
        rows = [
            (key, settled.get((key.service, key.operation), 0.0), follows)
            for key, follows in zip(stream.follows.keys, found, strict=True)
            if isinstance(key, FollowKey)
        ]
        rows = [row for row in rows if row[1] >= _MIN_ASKED]
        keys = [((key.service,), "follows", key.operation, key.follower) for key, _, _ in rows]
        mean = stream.history.mean(keys)
        _, scale, known = stream.history.normal(keys)
        for i, (key, requests, follows) in enumerate(rows):
            ratio, usual = follows / requests, float(mean[i])
            samples.append(((key.service,), keys[i], ratio))
            z = _deviation(ratio, usual, requests, float(scale[i]))
            is_telling = usual * requests >= _MIN_EXPECTED or (usual > 0.9 and requests >= 0.5 * _MIN_EXPECTED)
            if key.service not in watched and (z < 0.5 * FOLLOW_LIMIT or not is_telling):
                continue
            yield Reading(
                subject=Subject(key.service, "", key.follower),
                signal="follows",
                value=ratio,
                normal=usual,
                shift=1.0 - ratio / max(usual, 1e-9),
                z=z if known[i] >= _MIN_HISTORY and is_telling and key.service in ready else None,
                limit=FOLLOW_LIMIT,
                count=requests,
                at=second * SECOND,
                window_seconds=RATE_WINDOW,
                started_at=first * SECOND,
                excess=max(0.0, usual * requests - follows) / RATE_WINDOW,
            )


def _deviation(ratio: float, usual: float, requests: float, scale: float) -> float:
    """How far `ratio` followers per request are below `usual`."""
    if ratio >= usual or usual <= 0.0:
        return 0.0
    if usual <= 1.0:
        p = min(usual, 0.999)
        kept = ratio * np.log(ratio / p) if ratio > 0 else 0.0
        deviance = 2.0 * requests * float(kept + (1.0 - ratio) * np.log((1.0 - ratio) / (1.0 - p)))
    else:
        deviance = 2.0 * requests * (usual - ratio + (ratio * float(np.log(ratio / usual)) if ratio > 0 else 0.0))
    by_chance = 1.0 / max(deviance, 1e-12)
    by_habit = ((scale + _FOLLOW_FLOOR * usual) / (usual - ratio)) ** 2
    return float(1.0 / np.sqrt(by_chance + by_habit))
