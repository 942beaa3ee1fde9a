"""What detectors see and say: a reading is one signal of one subject against its baseline, a judgement is a detector's answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from dslmodel.detect.fleet import Agent
from dslmodel.detect.resources import Usage
from dslmodel.records import Clause, Pattern


class Subject(NamedTuple):
    """Whose signal it is: a service; with `client`, the calls that `client` makes to it; with `operation`, one kind of work in it."""

    service: str
    client: str = ""
    operation: str = ""

    @property
    def label(self) -> str | None:
        """The `operation` of a finding on this subject."""
        if self.client:
            return f"{self.client} → {self.service}"
        return self.operation or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One signal of one subject in one window, against what is normal for it.

    `shift` is how far the signal is from its baseline on the signal's own scale (log for durations: ln 2 = twice as slow),
    positive is worse. `z` is the shift in robust standard deviations of what the same statistic did before, sampling noise of
    this window included; None while learning. `limit` is the z from which the window alone is convincing.
    """

    subject: Subject
    signal: str
    value: float  # in the signal's unit
    normal: float  # the baseline in the same unit
    shift: float
    z: float | None
    limit: float
    count: float  # requests (or calls) in the window
    at: int
    window_seconds: float
    started_at: int = 0  # when it began, where the data tell; 0: the start of the window
    excess: float = 0.0  # how much of it is too much per second, in a unit that adds up: errors or calls
    evidence: Sequence[Clause] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A detector's opinion of one service now. `fires` opens a finding; an open one stays until `holds` is false for a while."""

    pattern: Pattern
    service: str
    operation: str | None
    fires: bool
    holds: bool
    score: float  # 0..1
    started_at: int
    window_seconds: float
    summary: str
    clauses: Sequence[Clause]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything a detector may look at in one tick."""

    now: int
    readings: Sequence[Reading]
    callers: Mapping[str, frozenset[str]]  # {service: services that call it}
    failing: Mapping[str, int]  # services with an open error_spike, and since when
    open: frozenset[tuple[Pattern, str]] = frozenset()  # (pattern, service) of open findings
    agents: Sequence[Agent] = ()
    usages: Sequence[Usage] = ()


class Family(StrEnum):
    """Kinds of trouble whose amounts add up within a kind."""

    ERRORS = "errors"  # failed requests per second
    TIME = "time"  # milliseconds of exclusive time per second
    MISSING = "missing"  # calls per second that should have followed
    RATE = "rate"  # requests per second that should have come


@dataclass(frozen=True, slots=True, kw_only=True)
class Blame:
    """So much of the trouble arose in this service itself, in nobody it calls."""

    service: str
    family: Family
    amount: float
    note: str


class Detector(Protocol):
    """Pure: the same view gives the same judgements; keeps no state."""

    @property
    def pattern(self) -> Pattern:
        """The pattern of every judgement it makes."""
        ...

    def inspect(self, view: View) -> Iterable[Judgement]:
        """Judgements on the subjects that the view has readings of; a subject without readings gets none."""
        ...


def strength(z: float, limit: float) -> float:
    """A score in 0..1 from how far z is over its limit: .5 at the limit, .75 at twice, .9 at five times."""
    return 1.0 - 0.5 * limit / z if z > limit else max(0.0, 0.5 * z / limit)


def clauses_of(reading: Reading, fire_shift: float) -> tuple[Clause, ...]:
    """The two conditions every reading is held to, with their values."""
    z = reading.z if reading.z is not None else None
    return (
        Clause(
            name=f"{reading.signal} deviation",
            value=None if z is None else round(z, 2),
            rule=f">= {reading.limit:g} robust standard deviations",
            holds=z is not None and z >= reading.limit,
        ),
        Clause(
            name=f"{reading.signal} shift",
            value=round(reading.shift, 4),
            rule=f">= {round(fire_shift, 4):g}",
            holds=reading.shift >= fire_shift,
        ),
        Clause(name=f"{reading.signal} value", value=round(reading.value, 4), rule=f"normal {round(reading.normal, 4):g}", holds=True),
        Clause(name="samples", value=round(reading.count, 3), rule=f"in {reading.window_seconds:g} s", holds=True),
        *reading.evidence,
    )
