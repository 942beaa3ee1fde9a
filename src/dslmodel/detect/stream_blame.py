"""Where trouble arises, from spans: exclusive time, gaps before the callee, errors that no callee explains, calls that are not made."""

from collections.abc import Iterable, Sequence

from dslmodel.clock import SECOND
from dslmodel.detect.base import Blame, Family, Reading
from dslmodel.detect.stream import ERRORS, EXPECTED, EXTRA_MS, NORMAL_MS, WEIGHT, Stream
from dslmodel.records import EdgeKey

_WINDOW = 10
_TIME_SHARE = 0.2  # of the normal time: less is how time wanders
_MIN_MISSING = 0.3
_MANY_CALLEES = 3
_MOST = 0.6


def blame(stream: Stream, now: int, readings: Sequence[Reading]) -> Iterable[Blame]:
    """What arose in the last ten seconds (of settled spans: in the ten before settling), by service and family."""
    second = now // SECOND
    yield from _time(stream, second)
    yield from _errors(stream, second)
    yield from _missing(stream, second, readings)


def _time(stream: Stream, second: int) -> Iterable[Blame]:
    lag = round(stream.settle_seconds) + 1
    work = stream.self_times.total(second - lag - _WINDOW, second - lag)
    for service, row in zip(stream.self_times.keys, work.tolist(), strict=True):
        if row[EXTRA_MS] > _TIME_SHARE * row[NORMAL_MS]:
            yield Blame(service=str(service), family=Family.TIME, amount=row[EXTRA_MS] / _WINDOW, note="exclusive time")
    waits = stream.gaps.total(second - _WINDOW, second)
    calls = stream.edges.total(second - _WINDOW, second)
    normal = {key: row[NORMAL_MS] for key, row in zip(stream.edges.keys, calls.tolist(), strict=True)}
    reporting = set(stream.services.keys)
    for edge, row in zip(stream.edges.keys, calls.tolist(), strict=True):
        if isinstance(edge, EdgeKey) and edge.server not in reporting and row[EXTRA_MS] > _TIME_SHARE * row[NORMAL_MS]:
            yield Blame(
                service=edge.server,
                family=Family.TIME,
                amount=row[EXTRA_MS] / _WINDOW,
                note=f"calls of {edge.client} to it, which sends no spans",
            )
    slow: dict[EdgeKey, float] = {}
    for edge, row in zip(stream.gaps.keys, waits.tolist(), strict=True):
        if isinstance(edge, EdgeKey) and row[EXTRA_MS] > _TIME_SHARE * max(row[NORMAL_MS], normal.get(edge, 0.0)):
            slow[edge] = row[EXTRA_MS] / _WINDOW
    active = [edge for edge, row in zip(stream.gaps.keys, waits.tolist(), strict=True) if isinstance(edge, EdgeKey) and row[WEIGHT] >= 1]
    for edge, amount in slow.items():
        if _is_callers_fault(edge, slow, active):
            yield Blame(service=edge.client, family=Family.TIME, amount=amount, note="time before and after most of its calls")
        else:
            yield Blame(service=edge.server, family=Family.TIME, amount=amount, note=f"time on the wire from {edge.client}")


def _is_callers_fault(edge: EdgeKey, slow: Iterable[EdgeKey], active: Iterable[EdgeKey]) -> bool:
    """Most calls of the client wait, to several callees, and that explains more than the callee's own slow calls do."""
    mine = [e for e in active if e.client == edge.client]
    theirs = [e for e in active if e.server == edge.server]
    waiting = set(slow)
    of_mine, of_theirs = sum(e in waiting for e in mine), sum(e in waiting for e in theirs)
    return of_mine >= _MANY_CALLEES and of_mine >= _MOST * len(mine) and of_mine > of_theirs


def _errors(stream: Stream, second: int) -> Iterable[Blame]:
    own = stream.services.total(second - _WINDOW, second)
    excess = {str(key): row[ERRORS] - row[EXPECTED] for key, row in zip(stream.services.keys, own.tolist(), strict=True)}
    seen = stream.edges.total(second - _WINDOW, second)
    handed_up: dict[str, float] = {}
    reported: dict[str, float] = {}
    for edge, row in zip(stream.edges.keys, seen.tolist(), strict=True):
        if isinstance(edge, EdgeKey):
            over = max(0.0, row[ERRORS] - row[EXPECTED])
            handed_up[edge.client] = handed_up.get(edge.client, 0.0) + over
            reported[edge.server] = reported.get(edge.server, 0.0) + over
    for service, over in sorted(excess.items()):
        amount = over - handed_up.get(service, 0.0)
        if amount > 0.5:
            yield Blame(service=service, family=Family.ERRORS, amount=amount / _WINDOW, note="errors that no callee explains")
    for service, over in sorted(reported.items()):
        amount = over - max(0.0, excess.get(service, 0.0))
        if amount > 0.5:
            yield Blame(service=service, family=Family.ERRORS, amount=amount / _WINDOW, note="calls to it failed that it did not report")


def _missing(stream: Stream, second: int, readings: Sequence[Reading]) -> Iterable[Blame]:
    calls = dict(zip(stream.edges.keys, stream.edges.total(second - 60, second)[:, WEIGHT].tolist(), strict=True))
    for reading in readings:
        if reading.z is None or reading.shift < _MIN_MISSING or reading.z < 0.5 * reading.limit:
            continue
        if reading.signal == "follows":
            callee = reading.subject.operation.removeprefix("→ ")
            expected = reading.normal * reading.count / reading.window_seconds
            still_called = (
                callee != reading.subject.operation and calls.get(EdgeKey(reading.subject.service, callee), 0.0) / 60 >= 0.5 * expected
            )
            service = callee if still_called else reading.subject.service
            note = (
                f"calls of {reading.subject.service} that it no longer answers"
                if still_called
                else f"{reading.subject.operation} no longer follows"
            )
            yield Blame(service=service, family=Family.MISSING, amount=reading.excess, note=note)
        elif reading.signal == "throughput":
            yield Blame(
                service=reading.subject.service, family=Family.RATE, amount=reading.normal - reading.value, note="requests no longer come"
            )
