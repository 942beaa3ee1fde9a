"""The seam between engines: the reference aggregator and a native one do the same behind this Protocol."""

from typing import Protocol

from dslmodel.records import Acceptance, Payload, WindowBatch


class Aggregator(Protocol):
    """Counts spans into one-second windows."""

    @property
    def engine(self) -> str:
        """Which implementation runs: "reference" or "native"."""
        ...

    def add(self, payload: Payload, received_at: int) -> Acceptance:
        """Count a traces payload. Raises IngestError for bytes that don't decode; nothing of it is counted then."""
        ...

    def seal(self, now: int) -> WindowBatch:
        """What was counted since the last seal; exclusive times of spans that arrived long enough ago included."""
        ...
