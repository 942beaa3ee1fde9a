"""Requests, or calls, that take longer than their own kind of request or call normally takes."""

from collections.abc import Iterable

from dslmodel.detect.base import Judgement, Reading, View
from dslmodel.detect.grouped import judge_services
from dslmodel.records import Pattern

_FACTOR = 0.405  # ln 1.5
_SHIFT = {
    "latency_shift": _FACTOR,
    "latency_tail": 0.1,
    "call_latency_shift": _FACTOR,
    "call_latency_tail": 0.1,
    "gap_shift": _FACTOR,
    **{f"{name}_p{q}": _FACTOR for name in ("latency", "client_latency", "call", "served", "gap") for q in (50, 75, 90, 95, 99)},
}


class LatencyIncrease:
    """Fires when requests take half as long again as their own kind of request (or a tenth of them far longer than its p95).

    Formula: shift = mean of log(duration) - log(normal duration of the same operation); tail = mean of the log excess over the
    operation's p95. Each against the median and a robust scale of the same statistic in past windows, sampling noise included.
    Units: natural log of a ratio of durations. The finding is on the service that was slow to answer: for a call, the callee.

    >>> from dslmodel.detect.base import Reading, Subject, View
    >>> slow = Reading(
    ...     subject=Subject("db", client="web"),
    ...     signal="gap_shift",
    ...     value=3.0,
    ...     normal=1.0,
    ...     shift=1.1,
    ...     z=12.0,
    ...     limit=8.0,
    ...     count=50,
    ...     at=60_000_000_000,
    ...     window_seconds=10,
    ... )
    >>> [(j.service, j.operation, j.fires) for j in LatencyIncrease().inspect(View(now=0, readings=[slow], callers={}, failing={}))]
    [('db', 'web → db', True)]
    """

    pattern = Pattern.LATENCY_INCREASE

    def inspect(self, view: View) -> Iterable[Judgement]:
        """One judgement per service that has latency readings."""
        return judge_services(self.pattern, view.readings, _SHIFT, _describe)


def _describe(reading: Reading) -> str:
    of = f" ({reading.subject.label})" if reading.subject.label else ""
    what = reading.signal.replace("_", " ")
    if reading.signal.rsplit("_", 1)[-1].startswith("p"):
        return f"{reading.subject.service}{of}: {what} is {reading.value:.1f} ms, normal is {reading.normal:.1f} ms"
    times = reading.value / max(reading.normal, 1e-9)
    return f"{reading.subject.service}{of}: {what} is {times:.2f} times its normal over {reading.window_seconds:g} s"
