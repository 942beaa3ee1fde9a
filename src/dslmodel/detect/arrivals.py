"""When data arrive: how late each service's are, whether anything arrives at all, and what is wrong with the telemetry itself."""

from collections.abc import Iterable, Mapping

from dslmodel.clock import SECOND
from dslmodel.records import Tally, TelemetryHealth, Watermark

_SILENCE_SECONDS = 20.0  # of everything: longer than the longest usual export interval leaves room for
_MAX_LAG_SECONDS = 20
_SKEW_SECONDS = 60.0
_LOSS_RATIO = 0.05
_FORGET_SECONDS = 900


class Arrivals:
    """Learns each instance's export interval from its receipts."""

    def __init__(self) -> None:
        self._instances: dict[tuple[str, str], list[float]] = {}  # [received at, interval, skew], seconds
        self._newest = 0.0
        self._alive_since = 0
        self._silent_before = 0.0
        self._lost: tuple[float, float] = (0.0, 0.0)
        self._tallies: list[tuple[int, Tally]] = []

    def observe(self, watermarks: Iterable[Watermark], tally: Tally, now: int) -> None:
        """Take what one tick brought."""
        came = False
        for mark in watermarks:
            came = True
            received = mark.received_at / SECOND
            known = self._instances.get((mark.service, mark.instance))
            skew = (mark.received_at - mark.ended_at) / SECOND
            if known is None:
                self._instances[mark.service, mark.instance] = [received, 1.0, skew]
            else:
                gap = received - known[0]
                if gap > 0:
                    known[1] = max(min(gap, 1.5 * known[1] + 1.0, _MAX_LAG_SECONDS), 0.9 * known[1])  # one silence is no habit
                known[0], known[2] = received, skew
            self._newest = max(self._newest, received)
        second = now // SECOND
        if came and (not self._alive_since or second - self._silent_before > _SILENCE_SECONDS):
            self._alive_since = second
        if came:
            self._silent_before = second
        self._tallies.append((now, tally))
        while len(self._tallies) > 61:
            del self._tallies[0]
        if second % 60 == 0:
            for key in [k for k, v in self._instances.items() if v[0] < second - _FORGET_SECONDS]:
                del self._instances[key]

    def delays(self) -> Mapping[str, tuple[float, int]]:
        """{service: (longest export interval of its instances, seconds after which its data are complete)}, as far as habits tell."""
        worst: dict[str, float] = {}
        for (name, _), (_, interval, _) in self._instances.items():
            worst[name] = max(worst.get(name, 1.0), interval)
        return {name: (interval, min(_MAX_LAG_SECONDS, 2 + round(1.2 * interval))) for name, interval in worst.items()}

    @property
    def alive_since(self) -> int:
        """The second since which data have come without a silence of everything; 0 before the first."""
        return self._alive_since

    @property
    def newest(self) -> int:
        """The second of the newest receipt of anything: later seconds are unknown, not empty."""
        return int(self._newest)

    def is_silent(self, now: int) -> bool:
        """Nothing has come for so long that nothing can be said about anything."""
        return self._newest > 0 and now / SECOND - self._newest > _SILENCE_SECONDS

    def others_alive(self, service: str, now: int) -> bool:
        """Another service's data still come, so that this one's silence is its own."""
        second = now / SECOND
        return any(name != service and second - received <= _SILENCE_SECONDS for (name, _), (received, _, _) in self._instances.items())

    def health(self, now: int) -> TelemetryHealth:
        """Can the data be trusted?"""
        if not self._newest:
            return TelemetryHealth(state="unknown", problems=("no telemetry has arrived yet",))
        problems = []
        if self.is_silent(now):
            problems.append(
                f"no telemetry of any service for {now / SECOND - self._newest:.0f} s: services, exporters or collector may be down"
            )
        skewed = sorted(
            {
                name
                for (name, _), (received, _, skew) in self._instances.items()
                if abs(skew) > _SKEW_SECONDS and now / SECOND - received < 120
            }
        )
        problems += [
            f"{name}: spans end more than {_SKEW_SECONDS:.0f} s away from their receipt (clock skew, or late export)" for name in skewed[:5]
        ]
        first, last = self._tallies[0][1], self._tallies[-1][1]
        accepted = last.accepted - first.accepted
        late = last.late - first.late
        if accepted and late / accepted > _LOSS_RATIO:
            problems.append(f"{late} of the last {accepted} spans came too late to be counted")
        return TelemetryHealth(state="bad" if problems else "good", problems=tuple(problems))
