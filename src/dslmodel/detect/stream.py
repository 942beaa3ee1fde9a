"""Window batches -> per-second sums of deviations, and the baselines that they deviate from.

Every span is compared with the profile of its own kind of work before it is summed up, so that a changed mix of operations is
not a change of a service. The sums are additive: a late span is added to its second like any other.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from dslmodel.clock import SECOND
from dslmodel.detect.arrivals import Arrivals
from dslmodel.detect.history import History
from dslmodel.detect.profiles import LOG_MS, MS, Profile, Profiles
from dslmodel.detect.rings import Floats, Ints, Ring
from dslmodel.detect.season import Seasons
from dslmodel.records import Columns, EdgeKey, FollowKey, SeriesKey, WindowBatch

# Features of a ring of services or edges.
WEIGHT, RAW, ERRORS, EXPECTED, KNOWN, SHIFT, TAIL, VARIANCE, TAIL_VARIANCE, EXTRA_MS, NORMAL_MS, OVER, EXPECTED_OVER = range(13)
FEATURES = 13
_GAP_FLOOR = 0.25  # a gap is measured against a quarter of the call's usual duration: less is noise of two clocks
_FORGET_SECONDS = 3600
_KEEP_SECONDS = 14 * 86400  # a baseline that nothing came for
_MAX_PROFILES = 20_000  # of each kind, and of statistics with a history: what was learnt longest ago goes first
_MAX_HISTORIES = 50_000
_MAX_BLOCK_SECONDS = 10.0
_MAX_QUARANTINE_SECONDS = 45.0


class Stream:
    """State of everything learnt from spans. One writer; `observe` then `learn` then readings, each tick."""

    def __init__(self, *, min_spans: int, min_seconds: float, settle_seconds: float) -> None:
        self.min_spans = min_spans
        self.min_seconds = min_seconds
        self.settle_seconds = settle_seconds
        self.block_seconds = max(1, round(min(_MAX_BLOCK_SECONDS, min_seconds / 30)))
        self._quarantine = round(min(_MAX_QUARANTINE_SECONDS, min_seconds / 5))
        self.services = Ring(FEATURES)
        self.operations = Ring(FEATURES, np.float32)
        self.edges = Ring(FEATURES)
        self.gaps = Ring(FEATURES)
        self.self_times = Ring(FEATURES)
        self.settled = Ring(1)
        self.follows = Ring(1, np.float32)
        self.requests = Profiles()
        self.calls = Profiles()
        self.waits = Profiles()
        self.work = Profiles()
        self.history = History()
        self.seasons = Seasons(min_values=30)
        self.arrivals = Arrivals()
        self.first_seen: dict[str, int] = {}
        self.callers: dict[str, set[str]] = {}
        self.deployed_at: dict[str, tuple[int, str]] = {}
        self._versions: dict[tuple[str, str, int], SeriesKey] = {}

    # ------------------------------------------------------------ in

    def observe(self, batch: WindowBatch) -> None:
        """Add one batch to the rings and to the open block of the profiles."""
        second = batch.at // SECOND
        for ring in (self.services, self.operations, self.edges, self.gaps, self.self_times, self.settled, self.follows):
            ring.advance(second)
        self.arrivals.observe(batch.watermarks, batch.tally, batch.at)
        for key in batch.entries.keys:
            self._meet(key, second)
        for edge in batch.calls.keys:
            self.callers.setdefault(edge.server, set()).add(edge.client)
        self._add(batch.entries, self.requests, ((self.services, _service), (self.operations, _operation)))
        self._add(batch.calls, self.calls, ((self.edges, _itself),))
        self._add(batch.self_times, self.work, ((self.self_times, _service),))
        self._add_gaps(batch.gaps)
        _add_weights(batch.settled, self.settled, _operation)
        _add_weights(batch.follows, self.follows, _itself)

    def _meet(self, key: SeriesKey, second: int) -> None:
        """A new version of a service starts from its predecessor's expectations."""
        self.first_seen.setdefault(key.service, second)
        place = (key.service, key.operation, key.kind)
        before = self._versions.get(place)
        if before is not None and before.version != key.version and self.requests.get(key) is None:
            self.deployed_at[key.service] = (second, key.version)
            for profiles in (self.requests, self.work):
                known = profiles.get(before)
                if known is not None:
                    profiles.put(key, known.fork())
        self._versions[place] = key

    def _add(self, columns: Columns, profiles: Profiles, rings: Sequence[tuple[Ring, Callable[[Any], Hashable]]]) -> None:
        if not len(columns.second):
            return
        known = [profiles.get(key) for key in columns.keys]
        values = _features(columns, known)
        for ring, key_of in rings:
            slots = ring.slots([key_of(key) for key in columns.keys])[columns.key]
            ring.add(slots, columns.second, values)
        self._count(columns, profiles)

    @staticmethod
    def _count(columns: Columns, profiles: Profiles) -> None:
        ends = columns.offset.tolist()
        buckets, weights, errors = columns.bucket.tolist(), columns.bucket_weight.tolist(), columns.errors.tolist()
        for row, key in enumerate(columns.key.tolist()):
            span = slice(ends[row], ends[row + 1])
            profiles.count(columns.keys[key], zip(buckets[span], weights[span], strict=True), errors[row])

    def _add_gaps(self, columns: Columns) -> None:
        """Gaps are shifted by a quarter of the call's usual time, then compared like durations."""
        if not len(columns.second):
            return
        floors = np.array([self._gap_floor(edge) for edge in columns.keys])
        known = [self.waits.get(edge) if floors[i] > 0 else None for i, edge in enumerate(columns.keys)]
        values = _features(columns, known, floors)
        self.gaps.add(self.gaps.slots(columns.keys)[columns.key], columns.second, values)
        self._count(columns, self.waits)

    def _gap_floor(self, edge: EdgeKey) -> float:
        """Milliseconds; 0 while the call's usual time isn't known."""
        profile = self.calls.get(edge)
        return 0.0 if profile is None else _GAP_FLOOR * float(np.exp(profile.mu))

    # ------------------------------------------------------------ learning

    def learn(self, now: int, is_clean: Callable[[str, int], bool]) -> None:
        """Once a block: close it, and learn blocks that have left quarantine from services that were not in trouble then."""
        second = now // SECOND
        self.seasons.learn(second, self.history)
        if second % self.block_seconds:
            return

        def clean(key: Hashable, at: int) -> bool:
            return all(is_clean(name, at) for name in _services_of(key))

        for profiles in (self.requests, self.calls, self.waits, self.work):
            profiles.close_block(second)
            profiles.release(second - self._quarantine, clean)
        if second % 600 == 0:
            self._forget(second)

    def versions(self) -> list[SeriesKey]:
        """The newest version of every operation."""
        return list(self._versions.values())

    def remember_version(self, key: SeriesKey) -> None:
        """Take a loaded operation's version as its newest."""
        self._versions[key.service, key.operation, key.kind] = key

    @property
    def quarantine_seconds(self) -> int:
        """How long what was seen waits before it is taken as normal."""
        return self._quarantine

    def _forget(self, second: int) -> None:
        for ring in (self.operations, self.follows, self.settled, self.edges, self.gaps, self.services, self.self_times):
            ring.forget(second - _FORGET_SECONDS)
        current = set(self._versions.values())
        for profiles in (self.requests, self.work, self.calls, self.waits):
            known = sorted(profiles.items(), key=lambda item: item[1].learnt_at)
            stale = {key for key, profile in known if profile.learnt_at < second - _KEEP_SECONDS}
            stale |= {k for k, p in known if isinstance(k, SeriesKey) and k not in current and p.learnt_at < second - 86400}
            stale |= {key for key, _ in known[: max(0, len(known) - _MAX_PROFILES)]}
            profiles.forget(stale.__contains__)
        self.history.forget_oldest(_MAX_HISTORIES)
        self._forget_names()

    def _forget_names(self) -> None:
        """What is neither in a ring nor in a baseline is gone."""
        requests = {key for key, _ in self.requests.items() if isinstance(key, SeriesKey)}
        services = {str(key) for key in self.services.keys} | {key.service for key in requests}
        self.first_seen = {name: at for name, at in self.first_seen.items() if name in services}
        self.deployed_at = {name: at for name, at in self.deployed_at.items() if name in services}
        recent = set(self.operations.keys)
        self._versions = {p: key for p, key in self._versions.items() if key in requests or (key.service, key.operation) in recent}
        callers: dict[str, set[str]] = {}
        for edge in [*self.edges.keys, *(key for key, _ in self.calls.items())]:
            if isinstance(edge, EdgeKey):
                callers.setdefault(edge.server, set()).add(edge.client)
        self.callers = callers

    def forget_service(self, service: str | None) -> None:
        """Unlearn a service, or everything."""
        for profiles in (self.requests, self.calls, self.waits, self.work):
            profiles.forget(lambda key: service is None or service in _services_of(key))
        unlearnt = [key for key in self.history if service is None or service in _services_of(key)]
        self.history.forget(unlearnt)
        self.seasons.forget(unlearnt)
        for name in [n for n in self.first_seen if service in (None, n)]:
            del self.first_seen[name]


def _service(key: SeriesKey) -> Hashable:
    return key.service


def _operation(key: SeriesKey) -> Hashable:
    return (key.service, key.operation)


def _itself(key: Hashable) -> Hashable:
    return key


def _services_of(key: Any) -> tuple[str, ...]:
    """Whose trouble makes a key's data unfit to learn from."""
    if isinstance(key, EdgeKey):
        return (key.client, key.server)
    if isinstance(key, (SeriesKey, FollowKey)):
        return (key.service,)
    return tuple(key[0]) if isinstance(key, tuple) and isinstance(key[0], tuple) else (str(key[0]),)


def _features(columns: Columns, known: Sequence[Profile | None], floors: Floats | None = None) -> Floats:
    """[rows, FEATURES] of columns against the profiles of their keys. `floors` (ms by key): durations are log((d + floor) / ...)."""
    rows = len(columns.second)
    row: Ints = np.repeat(np.arange(rows), np.diff(columns.offset))
    key = columns.key[row]
    logs = LOG_MS[columns.bucket] if floors is None else np.log(MS[columns.bucket] + np.maximum(floors[key], 1e-6))
    is_known = np.array([p is not None for p in known])
    values = {name: np.array([getattr(p, name) if p is not None else 0.0 for p in known]) for name in _PROFILE_FIELDS}
    mu, tau = values["mu"], values["tau"]
    if floors is not None:  # the profile is of bare gaps: its middle, with the same floor added
        mu, tau = np.log(np.exp(mu) + np.maximum(floors, 1e-6)), np.log(np.exp(tau) + np.maximum(floors, 1e-6))
    weight = columns.bucket_weight * is_known[key]

    def total(of: Floats) -> Floats:
        return np.bincount(row, weights=of, minlength=rows).astype(np.float64)

    out = np.zeros((rows, FEATURES))
    out[:, WEIGHT], out[:, RAW], out[:, ERRORS] = columns.weight, columns.count, columns.errors
    out[:, EXPECTED] = columns.weight * values["error_ratio"][columns.key]
    out[:, KNOWN] = total(weight)
    out[:, SHIFT] = total(weight * (logs - mu[key]))
    out[:, TAIL] = total(weight * (np.maximum(0.0, logs - tau[key]) - values["tail_mean"][key]))
    out[:, VARIANCE] = out[:, KNOWN] * values["variance"][columns.key]
    out[:, TAIL_VARIANCE] = out[:, KNOWN] * values["tail_variance"][columns.key]
    out[:, EXTRA_MS] = total(weight * (MS[columns.bucket] - values["mean_ms"][key]))
    out[:, NORMAL_MS] = out[:, KNOWN] * values["mean_ms"][columns.key]
    out[:, OVER] = total(weight * (logs > tau[key]))
    out[:, EXPECTED_OVER] = out[:, KNOWN] * values["tail_share"][columns.key]
    return out


_PROFILE_FIELDS = ("mu", "tau", "variance", "tail_mean", "tail_variance", "tail_share", "mean_ms", "error_ratio")


def _add_weights(columns: Columns, ring: Ring, key_of: Callable[[Any], Hashable]) -> None:
    if len(columns.second):
        slots = ring.slots([key_of(key) for key in columns.keys])[columns.key]
        ring.add(slots, columns.second, columns.weight[:, None])
