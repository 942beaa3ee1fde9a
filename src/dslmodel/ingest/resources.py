"""Metrics -> resource use (memory, CPU, disk); logs -> counts of records and errors. Other metrics are accepted and not read.

Names and attributes are those of the semantic conventions and of the Collector's hostmetrics, kubeletstats and docker_stats
receivers. A ratio is taken where one is reported, else worked out from use and limit of the same resource in the same payload.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dslmodel.clock import SECOND
from dslmodel.ingest.metric_points import Point, log_records, metric_points
from dslmodel.records import LogCount, Payload, ResourceSample

_ERROR = 17  # SEVERITY_NUMBER_ERROR; FATAL is above
_ERROR_TEXTS = ("ERR", "FATAL", "CRIT", "ALERT", "EMERG", "PANIC", "SEVERE")
_SERVICE_NAMES = (
    "service.name",
    "k8s.deployment.name",
    "k8s.container.name",
    "container.name",
    "k8s.pod.name",
    "k8s.node.name",
    "host.name",
)
_INSTANCE_NAMES = ("service.instance.id", "k8s.pod.name", "container.id", "host.name", "process.pid")
# Attributes that say which part of a whole a point is: the semantic conventions' name first, then the Collector's.
_MEMORY_STATE = ("system.memory.state", "state")
_CPU_STATE = ("cpu.mode", "system.cpu.state", "process.cpu.state", "state")
_CPU = ("cpu.logical_number", "system.cpu.logical_number", "cpu")
_DISK_STATE = ("system.filesystem.state", "state")
_IDLE = frozenset({"idle", "wait", "iowait"})
# File systems that are full by design.
_IMAGES = frozenset({"squashfs", "iso9660", "erofs", "cramfs", "romfs"})
_DELTA = 1  # AGGREGATION_TEMPORALITY_DELTA


class _Reading(NamedTuple):
    """Ratio of use to limit if known, bytes in use if known."""

    ratio: float | None
    value: float | None


@dataclass(frozen=True, slots=True)
class _Fraction:
    """A family of metrics that gives a ratio. `scale` turns a reported ratio into 0..1 (percent: 0.01)."""

    ratio: str = ""
    scale: float = 1.0
    used: str = ""
    limit: str = ""
    available: str = ""
    is_bytes: bool = True

    @property
    def names(self) -> Iterator[str]:
        return (name for name in (self.ratio, self.used, self.limit, self.available) if name)

    def read(self, points: Mapping[str, Sequence[Point]]) -> _Reading | None:
        """The reading of this family; None when the payload doesn't have it."""
        ratio, used, limit, available = (_latest(points.get(name, ())) for name in (self.ratio, self.used, self.limit, self.available))
        value = used if self.is_bytes else None
        if ratio is not None:
            return _Reading(ratio * self.scale, value)
        if limit and (used is not None or available is not None):
            return _Reading((limit - (available or 0) if used is None else used) / limit, value)
        if used is not None and available is not None and used + available > 0:
            return _Reading(used / (used + available), value)
        return None if value is None else _Reading(None, value)


def _latest(points: Iterable[Point]) -> float | None:
    newest = max(points, key=lambda point: point.at, default=None)
    return None if newest is None else newest.value


def _attribute(point: Point, names: Iterable[str]) -> str:
    return next((str(point.attributes[name]) for name in names if name in point.attributes), "")


def _newest(points: Iterable[Point], key: Callable[[Point], Any]) -> dict[Any, Point]:
    """The newest point of each key."""
    newest: dict[Any, Point] = {}
    for point in points:
        known = newest.get(key(point))
        if known is None or point.at >= known.at:
            newest[key(point)] = point
    return newest


# ---------------------------------------------------------------- whole machines: points are parts that add up


def _system_memory(points: Mapping[str, Sequence[Point]]) -> _Reading | None:
    usage = {state: point.value for state, point in _newest(points.get("system.memory.usage", ()), _memory_state).items()}
    used = usage.get("used", usage.get(""))
    reported = _newest(points.get("system.memory.utilization", ()), _memory_state)
    ratio = reported.get("used", reported.get(""))
    if ratio is not None:
        return _Reading(ratio.value, used)
    if used is None:
        return None
    # Slabs are part of the other states, so they are left out of the sum.
    parts = sum(usage.get(state, 0) for state in ("used", "free", "buffered", "buffers", "cached", "inactive"))
    total = _latest(points.get("system.memory.limit", ())) or usage.get("total") or (parts if "free" in usage else 0)
    return _Reading(used / total if total else None, used)


def _memory_state(point: Point) -> str:
    return _attribute(point, _MEMORY_STATE)


def _system_cpu(points: Mapping[str, Sequence[Point]]) -> _Reading | None:
    reported = points.get("system.cpu.utilization", ())
    # Only a delta says how busy the CPU was lately; a cumulative time says how busy it was since the machine started.
    times = [point for point in points.get("system.cpu.time", ()) if point.temporality == _DELTA]
    newest = _newest(reported or times, lambda point: (_attribute(point, _CPU), _attribute(point, _CPU_STATE)))
    if not newest:
        return None
    busy: dict[str, float] = defaultdict(float)
    idle: dict[str, float] = defaultdict(float)
    for (cpu, state), point in newest.items():
        (idle if state in _IDLE else busy)[cpu] += point.value
    total = sum(busy.values()) + sum(idle.values())
    if not reported or idle:
        return _Reading(sum(busy.values()) / total, None) if total > 0 else None
    return _Reading(sum(busy.values()) / len(busy), None)


def _process_cpu(points: Mapping[str, Sequence[Point]]) -> _Reading | None:
    newest = _newest(points.get("process.cpu.utilization", ()), lambda point: _attribute(point, _CPU_STATE))
    busy = [point.value for state, point in newest.items() if state not in _IDLE]
    return _Reading(sum(busy), None) if busy else None


def _system_disk(points: Mapping[str, Sequence[Point]]) -> _Reading | None:
    """The fullest file system that can be written to."""
    reported = _newest(
        filter(_is_writable, points.get("system.filesystem.utilization", ())), lambda p: (_disk(p), _attribute(p, _DISK_STATE))
    )
    ratios = [point.value for (_, state), point in reported.items() if state in {"", "used"}]
    parts: dict[Any, dict[str, float]] = defaultdict(dict)
    for point in filter(_is_writable, points.get("system.filesystem.usage", ())):
        parts[_disk(point)][_attribute(point, _DISK_STATE)] = point.value
    for part in parts.values():
        used, free = part.get("used"), part.get("free")
        if used is not None and free is not None and used + free > 0:
            ratios.append(used / (used + free))  # as df does: what is reserved for root is not to be had
    return _Reading(max(ratios), None) if ratios else None


def _disk(point: Point) -> tuple[str, str]:
    return _attribute(point, ("system.device", "device")), _attribute(point, ("system.filesystem.mountpoint", "mountpoint"))


def _is_writable(point: Point) -> bool:
    return (
        _attribute(point, ("system.filesystem.type", "type")) not in _IMAGES
        and _attribute(point, ("system.filesystem.mode", "mode")) != "ro"
    )


def _docker_cpu(points: Mapping[str, Sequence[Point]]) -> _Reading | None:
    """docker_stats reports percent of one CPU: a ratio only together with the number of CPUs the container may use."""
    percent = _latest(points.get("container.cpu.utilization", ()))
    cpus = _latest(points.get("container.cpu.limit", ())) or _latest(points.get("container.cpu.logical.count", ()))
    return None if percent is None or not cpus else _Reading(percent / 100 / cpus, None)


_Reader = Callable[[Mapping[str, Sequence[Point]]], _Reading | None]

# What says most about the nearness of a limit comes first; one reading per resource and payload.
_FRACTIONS: dict[str, Sequence[_Fraction]] = {
    "memory": (
        _Fraction(ratio="k8s.container.memory_limit_utilization", used="container.memory.working_set"),
        _Fraction(ratio="k8s.container.memory.limit.utilization", used="container.memory.working_set"),
        _Fraction(used="container.memory.usage.total", limit="container.memory.usage.limit"),
        _Fraction(ratio="container.memory.percent", scale=0.01),
        _Fraction(used="container.memory.working_set", available="container.memory.available"),
        _Fraction(used="container.memory.usage", limit="container.memory.limit", available="container.memory.available"),
        _Fraction(ratio="k8s.pod.memory_limit_utilization", used="k8s.pod.memory.working_set"),
        _Fraction(used="k8s.pod.memory.working_set", available="k8s.pod.memory.available"),
        _Fraction(used="k8s.node.memory.working_set", available="k8s.node.memory.available"),
    ),
    "cpu": (
        _Fraction(ratio="k8s.container.cpu_limit_utilization"),
        _Fraction(ratio="k8s.container.cpu.limit.utilization"),
        _Fraction(ratio="k8s.pod.cpu_limit_utilization"),
        _Fraction(used="container.cpu.usage", limit="container.cpu.limit", is_bytes=False),
        _Fraction(used="container.cpu.usage", limit="k8s.container.cpu.limit", is_bytes=False),
    ),
    "disk": (
        _Fraction(used="container.filesystem.usage", limit="container.filesystem.capacity"),
        _Fraction(used="k8s.pod.filesystem.usage", limit="k8s.pod.filesystem.capacity"),
        _Fraction(used="k8s.node.filesystem.usage", limit="k8s.node.filesystem.capacity"),
        _Fraction(limit="k8s.volume.capacity", available="k8s.volume.available"),
    ),
}
_READERS: dict[str, Sequence[_Reader]] = {
    "memory": (*(f.read for f in _FRACTIONS["memory"]), _system_memory, _Fraction(used="process.memory.usage").read),
    "cpu": (*(f.read for f in _FRACTIONS["cpu"]), _docker_cpu, _system_cpu, _process_cpu),
    "disk": (*(f.read for f in _FRACTIONS["disk"]), _system_disk),
}
_NAMES = frozenset(name for fractions in _FRACTIONS.values() for fraction in fractions for name in fraction.names) | {
    "system.memory.usage",
    "system.memory.utilization",
    "system.memory.limit",
    "system.cpu.utilization",
    "system.cpu.time",
    "system.filesystem.utilization",
    "system.filesystem.usage",
    "process.cpu.utilization",
    "process.memory.usage",
    "container.cpu.utilization",
    "container.cpu.logical.count",
}


def resource_samples(payload: Payload) -> list[ResourceSample]:
    """At most one sample of memory, CPU and disk for each resource in a metrics payload; [] for other signals."""
    samples: list[ResourceSample] = []
    for attributes, metrics in metric_points(payload, _NAMES):
        at = max((point.at for points in metrics.values() for point in points), default=0) or payload.received_at
        for resource, readers in _READERS.items():
            readings = [reading for reader in readers if (reading := reader(metrics)) is not None and _is_sound(reading)]
            best = next((reading for reading in readings if reading.ratio is not None), readings[0] if readings else None)
            if best is None:
                continue
            ratio = None if best.ratio is None else min(best.ratio, 1.0)
            service, instance = _first(attributes, _SERVICE_NAMES) or "unknown_service", _first(attributes, _INSTANCE_NAMES)
            samples.append(ResourceSample(service=service, instance=instance, resource=resource, at=at, ratio=ratio, value=best.value))
    return samples


def log_counts(payload: Payload) -> list[LogCount]:
    """Records and errors of a logs payload by service and second; [] for other signals.

    An error has severity number ERROR or above; a record without a number is judged by its severity text.
    """
    counts: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
    for attributes, records in log_records(payload):
        service = _first(attributes, _SERVICE_NAMES) or "unknown_service"
        for at, number, text in records:
            count = counts[service, (at or payload.received_at) // SECOND]
            count[0] += 1
            count[1] += number >= _ERROR or (number == 0 and text.upper().startswith(_ERROR_TEXTS))
    return [LogCount(service=s, second=second, records=n, errors=errors) for (s, second), (n, errors) in sorted(counts.items())]


def _is_sound(reading: _Reading) -> bool:
    return all(number is None or (math.isfinite(number) and number >= 0) for number in reading)


def _first(attributes: Mapping[str, Any], names: Iterable[str]) -> str:
    return next((str(attributes[name])[:200] for name in names if attributes.get(name) not in {None, ""}), "")
