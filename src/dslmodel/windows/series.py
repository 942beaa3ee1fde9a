"""Which series a span is counted under: known names, and `other` for what doesn't fit."""

from collections import Counter

from dslmodel.clock import SECOND
from dslmodel.records import SeriesKey
from dslmodel.windows.names import NameTemplates

OTHER = "other"
_IDLE_SECONDS = 3600
_SHARE_OF_SERVICES = 10  # at most a tenth of the series limit are services


class SeriesTable:
    """Interns series keys within limits. Names idle for an hour give their place back."""

    def __init__(self, *, max_series: int, max_operations: int) -> None:
        self._max_series = max_series
        self._max_operations = max_operations
        self._max_services = max(2, max_series // _SHARE_OF_SERVICES)
        self._templates = NameTemplates()
        self._known: dict[tuple[str, str, int, str], SeriesKey] = {}
        self._used_at: dict[SeriesKey, int] = {}
        self._operations: dict[str, Counter[str]] = {}  # {service: {operation: series, of all kinds and versions}}
        self.offenders: Counter[str] = Counter()
        self.overflowed = 0

    def key(self, service: str, name: str, kind: int, version: str, now: int) -> SeriesKey:
        """The series of a span; under `other` when its service, or all services, have too many."""
        wanted = (service, self._templates.of(name), kind, version)
        known = self._known.get(wanted)
        if known is None:
            known = self._admit(SeriesKey(*wanted))
            if known.operation == OTHER and wanted[1] != OTHER:
                self.overflowed += 1
                self.offenders[service] += 1
        self._used_at[known] = now
        return known

    def _admit(self, key: SeriesKey) -> SeriesKey:
        names = self._operations.get(key.service)
        if names is None and len(self._operations) >= self._max_services:
            return SeriesKey(OTHER, OTHER, key.kind, "")
        fits = names is None or key.operation in names or len(names) < self._max_operations  # a deploy brings no new names
        if fits and len(self._used_at) < self._max_series:
            self._known[key] = key
        else:  # of all versions: there may be as many of them as of names
            key = SeriesKey(key.service, OTHER, key.kind, "")
        if key not in self._used_at:
            self._operations.setdefault(key.service, Counter())[key.operation] += 1
        return key

    def forget_idle(self, now: int) -> None:
        """Drop series that nothing was counted under for an hour."""
        idle = [key for key, used in self._used_at.items() if used + _IDLE_SECONDS * SECOND < now]
        for key in idle:
            del self._used_at[key]
            self._known.pop(key, None)
            if key.service in self._operations:  # not so: `other`, of services that didn't fit
                names = self._operations[key.service]
                names[key.operation] -= 1
                if names[key.operation] <= 0:
                    del names[key.operation]
                if not names:
                    del self._operations[key.service]

    def take_offenders(self) -> tuple[tuple[str, int], ...]:
        """Services whose names overflowed since last asked, most first."""
        worst = tuple(self.offenders.most_common(10))
        self.offenders.clear()
        return worst
