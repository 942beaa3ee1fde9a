"""The four tiers of a health score."""

from dslmodel.records import HealthState

_TIERS = ((0.3, HealthState.CRITICAL), (0.6, HealthState.DEGRADED), (0.9, HealthState.HEALTHY))


def state_of(score: float | None) -> HealthState:
    """Half-open tiers: [0, .3) critical, [.3, .6) degraded, [.6, .9) healthy, [.9, 1] optimal; None is unknown."""
    if score is None:
        return HealthState.UNKNOWN
    return next((state for limit, state in _TIERS if score < limit), HealthState.OPTIMAL)
