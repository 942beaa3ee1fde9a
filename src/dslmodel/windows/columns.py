"""Cells that are counted into, and their columns."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dslmodel.records import Columns


class Cell:
    """What was counted for one (second, key)."""

    __slots__ = ("count", "errors", "histogram", "weight")

    def __init__(self) -> None:
        self.count = 0
        self.weight = 0.0
        self.errors = 0.0
        self.histogram: dict[int, float] = {}

    def add(self, bucket: int, weight: float, is_error: bool) -> None:  # noqa: FBT001  # hot path: keywords cost a tenth of it
        """Count one span."""
        self.count += 1
        self.weight += weight
        if is_error:
            self.errors += weight
        histogram = self.histogram
        histogram[bucket] = histogram.get(bucket, 0.0) + weight


def to_columns(cells: Mapping[tuple[int, Any], Cell]) -> Columns:
    """Columns of {(second, key): cell}, in the order of first arrival."""
    keys: dict[Any, int] = {}
    index = [keys.setdefault(key, len(keys)) for _, key in cells]
    values = list(cells.values())
    sizes = np.fromiter((len(c.histogram) for c in values), dtype=np.int64, count=len(values))
    entries = int(sizes.sum())
    return Columns(
        keys=tuple(keys),
        second=np.fromiter((second for second, _ in cells), dtype=np.int64, count=len(values)),
        key=np.asarray(index, dtype=np.int32),
        count=np.fromiter((c.count for c in values), dtype=np.int64, count=len(values)),
        weight=np.fromiter((c.weight for c in values), dtype=np.float64, count=len(values)),
        errors=np.fromiter((c.errors for c in values), dtype=np.float64, count=len(values)),
        offset=np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(sizes))),
        bucket=np.fromiter((b for c in values for b in c.histogram), dtype=np.int32, count=entries),
        bucket_weight=np.fromiter((w for c in values for w in c.histogram.values()), dtype=np.float64, count=entries),
    )


def merge(parts: Sequence[Columns]) -> Columns:
    """One record that counts what `parts` count together; associative and commutative up to the order of rows."""
    cells: dict[tuple[int, Any], Cell] = {}
    for part in parts:
        for i, (second, key) in enumerate(rows_of(part)):
            cell = cells.setdefault((second, key), Cell())
            cell.count += int(part.count[i])
            cell.weight += float(part.weight[i])
            cell.errors += float(part.errors[i])
            for j in range(int(part.offset[i]), int(part.offset[i + 1])):
                bucket = int(part.bucket[j])
                cell.histogram[bucket] = cell.histogram.get(bucket, 0.0) + float(part.bucket_weight[j])
    return to_columns(cells)


def rows_of(columns: Columns) -> Iterable[tuple[int, Any]]:
    """(second, key) of every row."""
    return ((int(second), columns.keys[key]) for second, key in zip(columns.second.tolist(), columns.key.tolist(), strict=True))
