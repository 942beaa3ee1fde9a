"""Where trouble arises, from windows of others: what a service's slowness, or its errors, have over what its callees' explain."""

from collections.abc import Iterable, Mapping, Sequence

from dslmodel.clock import SECOND
from dslmodel.detect.base import Blame, Family, Reading
from dslmodel.detect.measured import LIMIT, Latest, Measured

_HALF = 0.5


def blame(measured: Measured, now: int, readings: Sequence[Reading]) -> Iterable[Blame]:
    """What arose in the newest windows, by service and family."""
    if not readings:
        return
    fresh = {
        place: latest
        for place, latest in measured.latest.items()
        if latest.at > now - round(1.5 * latest.width_seconds * SECOND) and latest.z is not None and latest.z >= _HALF * LIMIT
    }
    yield from _time(measured, fresh)
    yield from _errors(measured, fresh)
    for reading in readings:
        if reading.z is None or reading.z < _HALF * reading.limit or reading.shift <= 0:
            continue
        lost = max(0.0, reading.normal - reading.value)
        if reading.signal == "follows":
            amount = lost * reading.count / reading.window_seconds
            yield Blame(
                service=reading.subject.service, family=Family.MISSING, amount=amount, note=f"{reading.subject.label} no longer follows"
            )
        elif reading.signal == "throughput":
            yield Blame(
                service=reading.subject.service, family=Family.RATE, amount=lost / reading.window_seconds, note="requests no longer come"
            )


def _time(measured: Measured, fresh: Mapping[tuple[tuple[str, ...], str], Latest]) -> Iterable[Blame]:
    served: dict[str, float] = {}
    called: dict[tuple[str, str], float] = {}
    waited: dict[str, float] = {}
    for (names, signal), latest in fresh.items():
        more = max(0.0, latest.value - latest.normal)
        if names[-1] == "edge":
            client, server = names[0], names[1]
            if signal.startswith("served"):
                served[server] = max(served.get(server, 0.0), more)
            elif signal.startswith("call"):
                called[client, server] = max(called.get((client, server), 0.0), more)
            elif signal.startswith("gap"):
                waited[server] = max(waited.get(server, 0.0), more)
        elif signal.startswith(("latency", "client_latency")):
            served[names[0]] = max(served.get(names[0], 0.0), more)
    for service in sorted({*served, *waited}):
        callees = [server for server, clients in measured.callers.items() if service in clients and server != service]
        explained = sum(max(called.get((service, c), 0.0), served.get(c, 0.0)) * _calls_per_request(measured, service, c) for c in callees)
        slower = served.get(service, 0.0)
        # Squared: quantiles don't add up, so a remainder is believed only as far as it is the greater part.
        own = slower * max(0.0, 1.0 - explained / slower) ** 2 if slower > 0 else 0.0
        amount = own + waited.get(service, 0.0)
        if amount > 0:
            note = "slower than its callees explain" if own >= waited.get(service, 0.0) else "time on the wire before it"
            yield Blame(service=service, family=Family.TIME, amount=amount, note=note)


def _calls_per_request(measured: Measured, client: str, server: str) -> float:
    """At least 1: a callee that is asked several times for one request explains several times its own slowness."""
    callers = measured.callers.get(server, set())
    asked = sum(measured.counts[c][1] for c in callers if c in measured.counts)
    if server not in measured.counts or client not in measured.counts or asked <= 0:
        return 1.0
    return max(1.0, measured.counts[server][1] / asked)


def _errors(measured: Measured, fresh: Mapping[tuple[tuple[str, ...], str], Latest]) -> Iterable[Blame]:
    over: dict[str, float] = {}
    for (names, signal), latest in fresh.items():
        if signal.startswith("error_ratio"):
            rate = measured.counts[names[0]][1] / measured.counts[names[0]][2] if names[0] in measured.counts else 1.0
            over[names[0]] = max(over.get(names[0], 0.0), (latest.value - latest.normal) * rate)
    for service, amount in sorted(over.items()):
        callees = [server for server, clients in measured.callers.items() if service in clients and server != service]
        own = amount - sum(over.get(callee, 0.0) for callee in callees)
        if own > 0:
            yield Blame(service=service, family=Family.ERRORS, amount=own, note="errors that no callee explains")
