"""Requests that no longer come, and work that no longer follows from them."""

from collections.abc import Iterable

from dslmodel.detect.base import Judgement, Reading, View
from dslmodel.detect.grouped import judge_services
from dslmodel.records import Pattern

_SHIFT = {"throughput": 0.5, "follows": 0.5}


class ThroughputDrop:
    """Fires when at least half of a service's requests are missing, or half of the work that a kind of request always led to.

    Formula: counts are compared as 2 sqrt(n) (variance 1 for Poisson counts, Anscombe 1948) with the median and scale of past windows;
    what follows from requests, with the requests of the same kind in the same window, so that fewer requests are not a missing call.
    Units: share of the expected count that is missing. Needs data of others: silence of everything is no drop.

    >>> from dslmodel.detect.base import Reading, Subject, View
    >>> less = Reading(
    ...     subject=Subject("web"),
    ...     signal="throughput",
    ...     value=0.1,
    ...     normal=5.0,
    ...     shift=0.98,
    ...     z=9.0,
    ...     limit=6.0,
    ...     count=3,
    ...     at=60_000_000_000,
    ...     window_seconds=30,
    ... )
    >>> [(j.service, j.fires) for j in ThroughputDrop().inspect(View(now=0, readings=[less], callers={}, failing={}))]
    [('web', True)]
    """

    pattern = Pattern.THROUGHPUT_DROP

    def inspect(self, view: View) -> Iterable[Judgement]:
        """One judgement per service that has rate readings."""
        return judge_services(self.pattern, view.readings, _SHIFT, _describe)


def _describe(reading: Reading) -> str:
    if reading.signal == "follows":
        follower = reading.subject.operation
        return f"{reading.subject.service}: {follower} follows {reading.value:.2f} times per request, normal is {reading.normal:.2f}"
    return f"{reading.subject.service}: {reading.value:.2f} requests/s over {reading.window_seconds:g} s, normal is {reading.normal:.2f}"
