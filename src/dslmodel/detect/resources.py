"""Recent readings of memory, processors and disks by instance."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from dslmodel.clock import SECOND
from dslmodel.detect.history import History
from dslmodel.records import ResourceSample

_KEEP = 16
_APART_SECONDS = 5  # readings that come more often are thinned, so that those kept reach back further than any limit asks for
_MAX_RESOURCES = 20_000
_FORGET_SECONDS = 600
_MIN_HISTORY = 20
_FLOOR = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The last readings of one resource. `values`: ratios 0..1 where a limit is known, else bytes; (time, value), oldest first."""

    service: str
    instance: str
    resource: str
    is_ratio: bool
    values: tuple[tuple[int, float], ...]
    normal: float  # median of what it was; 0 while learning
    deviation: float | None  # of the newest value's logarithm, in robust standard deviations; None while learning


class Resources:
    """State of every resource that reports."""

    def __init__(self) -> None:
        self._recent: dict[tuple[str, str, str, bool], deque[tuple[int, float]]] = {}
        self._history = History()

    def observe(self, samples: Iterable[ResourceSample]) -> None:
        """Take readings; of one that has both, the ratio counts."""
        for sample in samples:
            value = sample.ratio if sample.ratio is not None else sample.value
            if value is None:
                continue
            key = (sample.service, sample.instance, sample.resource, sample.ratio is not None)
            if key not in self._recent and len(self._recent) >= _MAX_RESOURCES:
                oldest = next(iter(self._recent))
                del self._recent[oldest]
                self._history.forget([oldest])
            recent = self._recent.setdefault(key, deque(maxlen=_KEEP))
            if not recent or sample.at - recent[-1][0] >= _APART_SECONDS * SECOND:
                recent.append((sample.at, value))

    def usages(self) -> list[Usage]:
        """What every resource did lately."""
        keys = sorted(self._recent)
        center, scale, known = self._history.normal(keys)
        usages = []
        for i, key in enumerate(keys):
            values = tuple(self._recent[key])
            newest = float(np.log(max(values[-1][1], 1e-9)))
            is_known = known[i] >= _MIN_HISTORY
            usages.append(
                Usage(
                    service=key[0],
                    instance=key[1],
                    resource=key[2],
                    is_ratio=key[3],
                    values=values,
                    normal=float(np.exp(center[i])) if is_known else 0.0,
                    deviation=float((newest - center[i]) / np.sqrt(scale[i] ** 2 + _FLOOR**2)) if is_known else None,
                )
            )
        return usages

    def learn(self, now: int, is_clean: Callable[[str, int], bool]) -> None:
        """Every ten seconds: the newest value of each resource whose service is not in trouble becomes history."""
        second = now // SECOND
        if second % 10:
            return
        for key in [k for k, recent in self._recent.items() if recent[-1][0] < now - _FORGET_SECONDS * SECOND]:
            del self._recent[key]
            self._history.forget([key])
        for key, recent in self._recent.items():
            if recent[-1][0] > now - 10 * SECOND and is_clean(key[0], second):
                self._history.learn(key, float(np.log(max(recent[-1][1], 1e-9))))
