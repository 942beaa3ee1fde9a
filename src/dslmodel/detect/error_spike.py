"""More errors than the baseline explains."""

from collections.abc import Iterable

from dslmodel.detect.base import Judgement, Reading, View
from dslmodel.detect.grouped import judge_services
from dslmodel.records import Pattern

_SHIFT = {"error_ratio": 0.02}


class ErrorSpike:
    """Fires when a service's error ratio is two points over its baseline and a binomial test leaves no doubt.

    Formula: z = sqrt(2 n KL(k/n || p)) >= 6.4 (tail below 1e-9; Chernoff 1952), and the ratio also stands out of its own history
    of windows (median, MAD). Of the service, of one of its operations, or of the calls to it as its callers saw them.
    Units: ratio of errors in requests. 1 of 2 failed never fires; 4 of 4 does.

    >>> from dslmodel.detect.base import Reading, Subject, View
    >>> bad = Reading(
    ...     subject=Subject("web"),
    ...     signal="error_ratio",
    ...     value=0.9,
    ...     normal=0.001,
    ...     shift=0.899,
    ...     z=30.0,
    ...     limit=6.4,
    ...     count=30,
    ...     at=60_000_000_000,
    ...     window_seconds=60,
    ... )
    >>> [(j.service, j.fires) for j in ErrorSpike().inspect(View(now=0, readings=[bad], callers={}, failing={}))]
    [('web', True)]
    """

    pattern = Pattern.ERROR_SPIKE

    def inspect(self, view: View) -> Iterable[Judgement]:
        """One judgement per service that has error readings."""
        own = {r.subject.service for r in view.readings if r.signal == "error_ratio" and not r.subject.client and _is_bad(r)}
        # What a service reports itself is better evidence than what its callers saw.
        readings = [r for r in view.readings if not (r.subject.client and r.subject.service in own)]
        return judge_services(self.pattern, readings, _SHIFT, _describe)


def _is_bad(reading: Reading) -> bool:
    return reading.z is not None and reading.z >= reading.limit


def _describe(reading: Reading) -> str:
    of = f" ({reading.subject.label})" if reading.subject.label else ""
    seen = f"{reading.value:.1%} of {reading.count:.0f} requests failed in {reading.window_seconds:g} s"
    return f"{reading.subject.service}{of}: {seen}, normal is {reading.normal:.2%}"
