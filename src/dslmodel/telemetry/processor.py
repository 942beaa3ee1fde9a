"""The span stream of this process, as a small object to ask and to feed."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from dslmodel.engine.in_process import InProcess
from dslmodel.engine.runtime import default_runtime
from dslmodel.errors import ConfigurationError
from dslmodel.ingest.buffer import Buffer
from dslmodel.ingest.documents import Batch
from dslmodel.records import Encoding, Snapshot
from dslmodel.settings import Settings, Telemetry

_SOURCE = "in_process"
_SERVICE = "unknown_service"  # OpenTelemetry's word for a span that names none


class TelemetryProcessor:
    """Feeds and reads the engine of one runtime. Any number of these may stand for the same engine; any thread may use them."""

    def __init__(self, runtime: InProcess) -> None:
        self._runtime = runtime

    @property
    def window_size(self) -> timedelta:
        """Span of the reported metrics. Detectors choose their own spans."""
        return timedelta(seconds=self._runtime.settings.telemetry.window_seconds)

    @window_size.setter
    def window_size(self, value: timedelta) -> None:
        if not isinstance(value, timedelta):
            raise ConfigurationError(f"window_size={value!r}: must be a timedelta, such as timedelta(seconds=30)")
        settings = self._runtime.settings
        try:
            telemetry = Telemetry(**settings.telemetry.model_dump() | {"window_seconds": value.total_seconds()})
        except ValidationError as error:
            rule = error.errors()[0]["msg"].lower()
            raise ConfigurationError(f"window_size={value}: {rule}, in seconds") from error
        self._runtime.configure(settings.model_copy(update={"telemetry": telemetry}))

    @property
    def settings(self) -> Settings:
        """The frozen settings in force."""
        return self._runtime.settings

    @property
    def is_running(self) -> bool:
        """Are spans being processed?"""
        return self._runtime.is_running

    @property
    def buffer(self) -> Buffer:
        """The queue to the engine, with its counts of what came and what was dropped."""
        return self._runtime.buffer

    def start(self) -> None:
        """Begin to process. A second call does nothing."""
        self._runtime.start()

    def stop(self) -> None:
        """Process what is queued and end. Subscriptions stay for the next start."""
        self._runtime.stop()

    def subscribe_to_metrics(self, callback: Callable[[Snapshot], object]) -> Callable[[], None]:
        """Call `callback` with a frozen snapshot at each health check (10 s by default), and start processing.

        It is called on the engine's thread: be quick. What it raises is counted and logged, never propagated.

        Returns:
            A function that ends the subscription.
        """
        return self._runtime.subscribe(callback)

    def snapshot(self) -> Snapshot | None:
        """The state after the last second's tick; None before the first. Its `at` tells how old it is."""
        return self._runtime.snapshot

    def get_health_score(self) -> float | None:
        """Health of the span stream in 0..1; None when nothing is known, also when nothing is running."""
        snapshot = self._runtime.snapshot
        return snapshot.health_score if snapshot is not None and self._runtime.is_running else None

    def ingest_span(self, span: Mapping[str, Any]) -> bool:
        """Take a hand-made span (`ingest.plain_spans` tells the names), a Jaeger row or an OTLP/JSON document.

        A name and a time are enough. It counts in the second of its end, like any span; without start, it waits for `start`.

        Returns:
            False when the queue was full and it was dropped; counted.

        Raises:
            IngestError: It is no span.
        """
        batch = Batch(service=_SERVICE)
        batch.add(dict(span))
        is_taken = True
        for signal, message in batch.requests():
            is_taken &= self.buffer.put(signal=signal, encoding=Encoding.JSON, body=b"", message=message, source=_SOURCE)
        return is_taken


def get_telemetry_processor() -> TelemetryProcessor:
    """The processor of this process's default runtime. Starts nothing."""
    return TelemetryProcessor(default_runtime())
