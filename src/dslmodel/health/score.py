"""Health of the span stream.

score = sum(weight * component) / sum(weight), over the components that are known:

    error       1 - min(1, 5 * errors / requests)             absolute: known from the first request on
    latency     mean over requests of min(1, normal / actual)  of services whose baseline is ready
    throughput  mean over services of min(1, actual / normal)  of services whose baseline is ready, weighted by their normal rate
    pattern     product over open findings of (1 - score / 2)

Nothing came in the window: nothing is known, and the score is None.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from dslmodel.health.state import state_of
from dslmodel.records import Health

_ERROR_SLOPE = 5.0  # a fifth of all requests failing is as bad as it gets


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What the score is made from. None = not known."""

    has_data: bool
    error_ratio: float | None
    latency_ratio: float | None  # normal / actual, 0..1
    throughput_ratio: float | None  # actual / normal, 0..1
    finding_scores: Iterable[float] = ()


def score(measures: Measures, weights: Mapping[str, float]) -> Health:
    """The score with its parts; `weights` by component name."""
    if not measures.has_data:
        return Health(score=None, state=state_of(None), components=dict.fromkeys(weights))
    components = {
        "error": None if measures.error_ratio is None else 1.0 - min(1.0, _ERROR_SLOPE * measures.error_ratio),
        "latency": measures.latency_ratio,
        "throughput": measures.throughput_ratio,
        "pattern": prod(1.0 - 0.5 * s for s in measures.finding_scores),
    }
    known = {name: value for name, value in components.items() if value is not None and weights.get(name, 0.0) > 0}
    whole = sum(weights[name] for name in known)
    value = sum(weights[name] * part for name, part in known.items()) / whole if whole else None
    rounded = None if value is None else round(min(1.0, max(0.0, value)), 4)
    return Health(score=rounded, state=state_of(rounded), components={n: None if v is None else round(v, 4) for n, v in components.items()})
