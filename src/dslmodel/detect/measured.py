"""Windows that others aggregated -> readings. Quantiles without histograms, minutes instead of seconds, null = not measured.

A lone window of quantiles says little (a p99 of twenty requests is their maximum), so a signal is the lesser of two windows in a
row, compared with the median and scale of the same statistic in the past: what is spiky by nature has a history of lone spikes,
not of pairs. Durations are compared as logarithms.
"""

from collections.abc import Callable, Hashable
from typing import NamedTuple

import numpy as np

from dslmodel.clock import SECOND
from dslmodel.detect.base import Reading, Subject
from dslmodel.detect.history import History
from dslmodel.detect.season import Seasons
from dslmodel.records import MeasuredEdge, MeasuredWindow

LIMIT = 6.0
_MIN_HISTORY = 10
_FLOORS = {"error_ratio": 0.03, "throughput": 1.0, "follows": 0.15}
_LATENCY_FLOOR = 0.15
_OFFSET_MS = 0.5  # added before the logarithm: below it, durations are clock noise
_GAP_SHARE = 0.25
_MIN_EXPECTED = 8.0
_UNKNOWN_COUNT = 50.0
_KEEP_SECONDS = 14 * 86400  # what nothing came for
_MAX_HISTORIES = 20_000

Names = tuple[str, ...]  # (service, instance), (client, server, "edge") or (service, *callers, "follows")


class _Value(NamedTuple):
    signal: str
    statistic: float  # higher is worse
    noise: float  # variance by chance
    samples: float
    unit: Callable[[float], float]  # back to the signal's unit


class Latest(NamedTuple):
    """The newest window of one signal: its value and what is normal, in the signal's unit, and when it ends."""

    value: float
    normal: float
    at: int
    width_seconds: float
    z: float | None


class Measured:
    """State of everything learnt from windows of others."""

    def __init__(self) -> None:
        self._windows: list[MeasuredWindow] = []
        self._edges: list[MeasuredEdge] = []
        self._before: dict[tuple[Names, str], tuple[int, float, float]] = {}  # end, statistic, width
        self.pairs = History()
        self.singles = History()
        self.seasons = Seasons(min_values=10)
        self._waiting: list[tuple[int, int, Names, str, float, float | None]] = []
        self._current: dict[tuple[Names, str], Reading] = {}
        self.latest: dict[tuple[Names, str], Latest] = {}
        self.counts: dict[str, tuple[int, float, float]] = {}  # service: end, count, width
        self.callers: dict[str, set[str]] = {}
        self._called_at: dict[tuple[str, str], int] = {}  # (client, server): end of the newest edge row, numbers or not
        self.first_seen: dict[str, int] = {}

    @property
    def is_used(self) -> bool:
        """Any window was ever observed."""
        return bool(self.first_seen)

    def observe(self, item: MeasuredWindow | MeasuredEdge) -> None:
        """Take one row; it is judged in the next `read`."""
        if isinstance(item, MeasuredEdge):
            self._edges.append(item)
            self.callers.setdefault(item.server, set()).add(item.client)
            self._called_at[item.client, item.server] = item.started_at + round(item.width_seconds * SECOND)
        else:
            self._windows.append(item)

    def read(self, now: int) -> list[Reading]:
        """What is current of every service that rows were observed of since the last call: rows of one minute don't all come at once."""
        fresh = self._judge_rows()
        self._current = {p: r for p, r in self._current.items() if r.at > now - round(0.75 * r.window_seconds * SECOND)}
        return [r for r in self._current.values() if r.subject.service in fresh]

    def _judge_rows(self) -> set[str]:
        readings: list[Reading] = []
        totals: dict[tuple[str, int], list[float]] = {}
        for window in self._windows:
            end = window.started_at + round(window.width_seconds * SECOND)
            self.first_seen.setdefault(window.service, end // SECOND)
            if window.count is not None:
                total = totals.setdefault((window.service, end), [0.0, window.width_seconds])
                total[0] += window.count
            names = (window.service, window.instance or "")
            subject = Subject(window.service, "", window.operation or "")
            for value in self._of_window(window):
                readings += self._judge(names, subject, value, end, window.width_seconds)
        for (service, end), (count, width) in totals.items():
            self.counts[service] = (end, count, width)
        for service, end in totals:
            readings += self._followed(service, end)
        for edge in self._edges:
            end = edge.started_at + round(edge.width_seconds * SECOND)
            for value in self._of_edge(edge):
                readings += self._judge(
                    (edge.client, edge.server, "edge"), Subject(edge.server, edge.client), value, end, edge.width_seconds
                )
        self._windows, self._edges = [], []
        return {r.subject.service for r in readings}

    # ------------------------------------------------------------ values

    def _of_window(self, window: MeasuredWindow) -> list[_Value]:
        count = window.count if window.count is not None else _UNKNOWN_COUNT
        operation = f" {window.operation}" if window.operation else ""
        values = [_latency(f"latency_{q}{operation}", ms, count) for q, ms in window.latency_ms.items()]
        if window.service not in self.callers:  # else the edges tell how its callers see it
            values += [_latency(f"client_latency_{q}{operation}", ms, count) for q, ms in window.client_latency_ms.items()]
        if window.error_ratio is not None and count > 0:
            ratio = min(max(window.error_ratio, 0.0), 1.0)
            values.append(
                _Value(f"error_ratio{operation}", float(np.arcsin(np.sqrt(ratio))), 0.25 / count, count, lambda x: float(np.sin(x) ** 2))
            )
        if window.count is not None and not operation:
            values.append(_Value("throughput", -2.0 * float(np.sqrt(max(window.count, 0.0))), 1.0, window.count, lambda x: (x / 2.0) ** 2))
        return values

    def _of_edge(self, edge: MeasuredEdge) -> list[_Value]:
        values = [_latency(f"call_{q}", ms, _UNKNOWN_COUNT) for q, ms in edge.client_latency_ms.items()]
        values += [_latency(f"served_{q}", ms, _UNKNOWN_COUNT) for q, ms in edge.server_latency_ms.items()]
        names = (edge.client, edge.server, "edge")
        for q, ms in edge.client_latency_ms.items():
            served = edge.server_latency_ms.get(q)
            usual, _, known = self.singles.normal([(names, f"call_{q}")])
            if served is not None and known[0] >= _MIN_HISTORY:
                offset = _OFFSET_MS + _GAP_SHARE * float(np.exp(usual[0]))
                values.append(_latency(f"gap_{q}", max(0.0, ms - served), _UNKNOWN_COUNT, offset))
        return values

    def _followed(self, service: str, end: int) -> list[Reading]:
        """A service's requests against those of all its callers, in the same window."""
        callers = sorted(self.callers.get(service, ()))
        asked = [self.counts[c][1] for c in callers if c in self.counts and abs(self.counts[c][0] - end) < 2 * SECOND]
        _, count, width = self.counts[service]
        if not callers or len(asked) < len(callers) or sum(asked) < _MIN_EXPECTED:
            return []
        statistic = -float(np.log((count + 1.0) / (sum(asked) + 1.0)))
        culprit = callers[0] if len(callers) == 1 else service
        subject = Subject(culprit, "", f"→ {service}" if culprit != service else "")
        value = _Value("follows", statistic, 1.0 / max(count, _MIN_EXPECTED), sum(asked), lambda x: float(np.exp(-x)))
        return self._judge((service, *callers, "follows"), subject, value, end, width)

    # ------------------------------------------------------------ judging

    def _judge(self, names: Names, subject: Subject, value: _Value, end: int, width: float) -> list[Reading]:
        place = (names, value.signal)
        before = self._before.get(place)
        self._before[place] = (end, value.statistic, width)
        is_pair = before is not None and end - before[0] <= 1.5 * width * SECOND
        pair = min(value.statistic, before[1]) if is_pair and before is not None else None
        self._waiting.append((end, round(2 * width), names, value.signal, value.statistic, pair))
        base = value.signal.split(" ", 1)[0]
        single_center, _, single_known = self.singles.normal([place])
        normal = value.unit(float(single_center[0])) if single_known[0] else value.unit(value.statistic)
        if pair is None:
            self.latest[place] = Latest(value.unit(value.statistic), normal, end, width, None)
            return []
        center, scale, known = self.pairs.normal([place])
        center = self.seasons.highest([place], center, end // SECOND)
        floor = _FLOORS.get(base, _LATENCY_FLOOR)
        z = float((pair - center[0]) / np.sqrt(scale[0] ** 2 + floor**2 + value.noise))
        is_known = known[0] >= _MIN_HISTORY
        self.latest[place] = Latest(value.unit(value.statistic), normal, end, width, z if is_known else None)
        usual, seen = value.unit(float(center[0])), value.unit(pair)
        shift = {"error_ratio": seen - usual, "throughput": 1.0 - seen / max(usual, 1e-9), "follows": 1.0 - seen / max(usual, 1e-9)}.get(
            base, pair - float(center[0])
        )
        reading = Reading(
            subject=subject,
            signal=base,
            value=seen,
            normal=usual,
            shift=float(shift),
            z=z if is_known else None,
            limit=LIMIT,
            count=value.samples,
            at=end,
            window_seconds=2 * width,
        )
        self._current[place] = reading
        return [reading]

    # ------------------------------------------------------------ learning

    def learn(self, now: int, is_clean: Callable[[str, int], bool]) -> None:
        """Learn rows that are two windows old and came from services that were not in trouble around them."""
        second = now // SECOND
        self.seasons.learn(second, self.pairs)
        if second % 600 == 0:
            self._forget(second - _KEEP_SECONDS)
        if not self._waiting or self._waiting[0][0] // SECOND + self._waiting[0][1] > second:
            return
        kept = []
        for row in self._waiting:
            end, quarantine, names, signal, statistic, pair = row
            if end // SECOND + quarantine > second:
                kept.append(row)
                continue
            services = names[:-1] if names[-1] in ("edge", "follows") else names[:1]
            if all(is_clean(name, end // SECOND) for name in services):
                self.singles.learn((names, signal), statistic)
                if pair is not None:
                    self.pairs.learn((names, signal), pair)
        self._waiting = kept

    def _forget(self, before: int) -> None:
        """Let go of signals last seen before second `before`, and of names that nothing is known of."""
        oldest = before * SECOND
        self._before = {place: last for place, last in self._before.items() if last[0] >= oldest}
        self.latest = {place: latest for place, latest in self.latest.items() if latest.at >= oldest}
        self.counts = {service: count for service, count in self.counts.items() if count[0] >= oldest}
        for history in (self.pairs, self.singles):
            history.forget_oldest(_MAX_HISTORIES)
        known = {names for names, _ in self.latest} | {_first(key) for key in self.singles}
        services = {names[0] for names in known if len(names) == 2} | set(self.counts)
        self.first_seen = {service: second for service, second in self.first_seen.items() if service in services}
        edges = [(client, server) for server, clients in self.callers.items() for client in sorted(clients)]
        # A loaded edge was not called yet: its time begins at the first look.
        called = {edge: self._called_at.get(edge, (before + _KEEP_SECONDS) * SECOND) for edge in edges}
        self._called_at = {edge: at for edge, at in called.items() if at >= oldest}
        self.callers = {}
        for client, server in self._called_at:
            self.callers.setdefault(server, set()).add(client)

    def normals(self, service: str) -> dict[str, float]:
        """{signal: its normal value} of a service's own windows."""
        return {
            signal: round(latest.normal, 4)
            for (names, signal), latest in sorted(self.latest.items())
            if names[0] == service and len(names) == 2
        }

    def forget_service(self, service: str | None) -> None:
        """Unlearn a service, or everything."""
        for history in (self.pairs, self.singles):
            unlearnt = [key for key in history if service is None or service in _first(key)]
            history.forget(unlearnt)
            self.seasons.forget(unlearnt)
        for name in [n for n in self.first_seen if service in (None, n)]:
            del self.first_seen[name]


def _first(key: Hashable) -> tuple[str, ...]:
    return tuple(key[0]) if isinstance(key, tuple) else ()


def _latency(signal: str, ms: float, count: float, offset: float = _OFFSET_MS) -> _Value:
    noise = 1.0 / max(count, 1.0) if count < _UNKNOWN_COUNT else 0.0
    return _Value(signal, float(np.log(max(ms, 0.0) + offset)), noise, count, lambda x: float(np.exp(x)) - offset)
