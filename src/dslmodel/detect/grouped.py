"""Readings of one service -> a judgement, the same way for every detector that works on readings."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from dslmodel.clock import SECOND
from dslmodel.detect.base import Judgement, Reading, clauses_of, strength
from dslmodel.records import Pattern

HOLD_RATIO = 0.5  # an open finding stays while half of what opened it is left: opening and closing are different conditions
_MAX_CLAUSES = 20
_ENOUGH = 5  # requests


def judge_services(
    pattern: Pattern, readings: Iterable[Reading], fire_shift: Mapping[str, float], describe: Callable[[Reading], str]
) -> Iterable[Judgement]:
    """One judgement per service that has readings of the signals in `fire_shift` ({signal: smallest shift that matters})."""
    by_service: dict[str, list[Reading]] = {}
    for reading in readings:
        if reading.signal in fire_shift:
            by_service.setdefault(reading.subject.service, []).append(reading)
    for service in sorted(by_service):
        yield _judge(pattern, service, by_service[service], fire_shift, describe)


def _judge(
    pattern: Pattern, service: str, readings: Sequence[Reading], fire_shift: Mapping[str, float], describe: Callable[[Reading], str]
) -> Judgement:
    def ratio(reading: Reading) -> float:
        """Over 1: fires. The deviation and the shift must both be enough."""
        if reading.z is None:
            return 0.0
        return min(reading.z / reading.limit, reading.shift / fire_shift[reading.signal])

    current: dict[tuple[object, str], Reading] = {}
    for reading in readings:  # the shortest window that holds enough tells whether it goes on
        place = (reading.subject, reading.signal)
        known = current.get(place)
        if known is None or _is_newer(reading, known):
            current[place] = reading
    going_on = {place for place, reading in current.items() if ratio(reading) >= HOLD_RATIO}
    firing = [r for r in readings if ratio(r) >= 1.0 and (r.subject, r.signal) in going_on]
    best = max(firing or readings, key=lambda r: (ratio(r), r.subject, r.signal))
    shown = sorted(firing or [best], key=lambda r: -ratio(r))
    return Judgement(
        pattern=pattern,
        service=service,
        operation=best.subject.label,
        fires=bool(firing),
        holds=bool(going_on),
        score=round(float(strength(best.z or 0.0, best.limit)), 4),
        started_at=min(
            (r.started_at or r.at - round(r.window_seconds * SECOND) for r in firing if _is_shortest(r, firing)), default=best.at
        ),
        window_seconds=best.window_seconds,
        summary=describe(best),
        clauses=tuple(clause for r in shown for clause in clauses_of(r, fire_shift[r.signal]))[:_MAX_CLAUSES],
    )


def _is_newer(reading: Reading, than: Reading) -> bool:
    """Shorter windows tell of now; one with few requests tells less than a longer one."""
    if (reading.count >= _ENOUGH) != (than.count >= _ENOUGH):
        return reading.count >= _ENOUGH
    shorter = reading.window_seconds < than.window_seconds
    return shorter if reading.count >= _ENOUGH else not shorter


def _is_shortest(reading: Reading, of: Sequence[Reading]) -> bool:
    """Longer windows may reach back to trouble that was over before."""
    return reading.window_seconds == min(r.window_seconds for r in of)
