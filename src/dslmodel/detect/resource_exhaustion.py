"""Memory, processors and disks that are nearly used up."""

from collections.abc import Iterable

from dslmodel.clock import SECOND
from dslmodel.detect.base import Judgement, View, strength
from dslmodel.detect.resources import Usage
from dslmodel.records import Clause, Pattern

# resource: (ratio that is too much, seconds for which it must last, ratio below which it is over)
_LIMITS = {"memory": (0.90, 20, 0.85), "cpu": (0.95, 60, 0.90), "disk": (0.90, 20, 0.88)}
_GROWTH = 2.0  # of a resource without a known limit: twice its normal use, far out of its history
_GROWTH_DEVIATION = 6.0
_MIN_SAMPLES = 3
_COVERED = 0.75  # of the time that it must last: a process that has just started may be busy for a moment


class ResourceExhaustion:
    """Fires when use stays over a limit (memory and disk 90 %, processors 95 %), or doubles where no limit is known.

    Formula: min of the readings in the last 20 s (processors: 60 s), three that cover it, over the limit; without a limit, use at least
    twice the median and its logarithm six robust standard deviations out. Units: use / limit in 0..1, or bytes.

    >>> from dslmodel.detect.base import View
    >>> from dslmodel.detect.resources import Usage
    >>> full = Usage(
    ...     service="db",
    ...     instance="1",
    ...     resource="memory",
    ...     is_ratio=True,
    ...     normal=0.5,
    ...     deviation=9.0,
    ...     values=tuple((t * 10**9, 0.97) for t in range(0, 40, 10)),
    ... )
    >>> [
    ...     (j.service, j.fires)
    ...     for j in ResourceExhaustion().inspect(View(now=30 * 10**9, readings=(), callers={}, failing={}, usages=[full]))
    ... ]
    [('db', True)]
    """

    pattern = Pattern.RESOURCE_EXHAUSTION

    def inspect(self, view: View) -> Iterable[Judgement]:
        """One judgement per service that reports resources."""
        by_service: dict[str, list[Usage]] = {}
        for usage in view.usages:
            by_service.setdefault(usage.service, []).append(usage)
        for service, usages in sorted(by_service.items()):
            judged = [_judge(usage, view.now) for usage in usages]
            worst = max(judged, key=lambda j: (j[0], j[1], j[2]))
            usage = worst[3]
            yield Judgement(
                pattern=self.pattern,
                service=service,
                operation=f"{usage.resource} {usage.instance}".strip(),
                fires=worst[0],
                holds=any(j[1] for j in judged),
                score=round(worst[2], 4),
                started_at=usage.values[-min(len(usage.values), _MIN_SAMPLES)][0],
                window_seconds=float(_LIMITS.get(usage.resource, (0, 20, 0))[1]),
                summary=f"{service}: {usage.resource} of {usage.instance or 'its instance'} is at {_shown(usage)}",
                clauses=(Clause(name=f"{usage.resource} use", value=round(usage.values[-1][1], 4), rule=_rule(usage), holds=worst[0]),),
            )


def _judge(usage: Usage, now: int) -> tuple[bool, bool, float, Usage]:
    """(fires, holds, score, usage)."""
    newest = usage.values[-1][1]
    if usage.is_ratio:
        limit, lasting, over = _LIMITS.get(usage.resource, (0.95, 60, 0.9))
        since = now - (lasting + 1) * SECOND
        recent = [(at, value) for at, value in usage.values if at >= since]
        before = [value for at, value in usage.values if at < since]
        covers = len(recent) >= _MIN_SAMPLES and recent[-1][0] - recent[0][0] >= _COVERED * lasting * SECOND
        lasts = covers or (bool(recent) and bool(before) and before[-1] >= limit)
        return (
            lasts and min(value for _, value in recent) >= limit,
            newest >= over,
            min(1.0, 0.5 + 0.5 * max(0.0, newest - limit) / (1.0 - limit)),
            usage,
        )
    if usage.deviation is None or usage.normal <= 0:
        return False, False, 0.0, usage
    last = [value for _, value in usage.values[-_MIN_SAMPLES:]]
    grown = len(last) == _MIN_SAMPLES and min(last) >= _GROWTH * usage.normal and usage.deviation >= _GROWTH_DEVIATION
    return grown, newest >= 0.5 * (1 + _GROWTH) * usage.normal, strength(usage.deviation, _GROWTH_DEVIATION) if grown else 0.0, usage


def _shown(usage: Usage) -> str:
    newest = usage.values[-1][1]
    return f"{newest:.0%}" if usage.is_ratio else f"{newest / 2**20:.0f} MiB, normal is {usage.normal / 2**20:.0f} MiB"


def _rule(usage: Usage) -> str:
    return (
        f">= {_LIMITS.get(usage.resource, (0.95, 60, 0.9))[0]}" if usage.is_ratio else f">= {_GROWTH} times its normal {usage.normal:.0f}"
    )
