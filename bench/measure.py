"""Samples taken in turn, and what is said of them: median and quartiles."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table: the median of the samples with their first and third quartile."""

    label: str
    unit: str
    samples: Sequence[float]

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """First quartile, median, third quartile."""
        if len(self.samples) == 1:
            return (self.samples[0],) * 3
        low, middle, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return low, middle, high


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One benchmark's tables."""

    name: str
    title: str
    what: str  # what was measured, in words, with the payload
    rows: Sequence[Row]


def interleave(rounds: int, works: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Take one sample of each in turn, `rounds` times, so that what else the machine does meets all of them alike."""
    samples: dict[str, list[float]] = {label: [] for label in works}
    for _ in range(rounds):
        for label, work in works.items():
            samples[label].append(work())
    return samples


def ratios(samples: Sequence[float], base: Sequence[float]) -> list[float]:
    """Sample by sample against the base of the same round."""
    return [sample / other for sample, other in zip(samples, base, strict=True)]


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that `share` of all do not exceed."""
    return sorted(samples)[min(len(samples) - 1, max(0, -(-round(share * 100) * len(samples) // 100) - 1))]


def number(value: float) -> str:
    """A number as people read it: three significant digits, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
