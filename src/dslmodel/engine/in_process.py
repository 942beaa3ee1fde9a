"""The engine inside somebody else's process: a buffer that takes inputs at once, and a loop that runs between start and stop."""

import threading
from collections.abc import Callable
from typing import Protocol

from dslmodel.clock import Clock
from dslmodel.engine.runner import Engine, Outputs, Runner, Subscriber
from dslmodel.engine.steady import SteadyClock
from dslmodel.ingest.buffer import Buffer
from dslmodel.records import Snapshot
from dslmodel.settings import Settings


class Pipeline(Engine, Protocol):
    """A pipeline whose knowledge outlives it, and whose settings can be swapped while it runs."""

    def load_baselines(self, data: bytes) -> None:
        """Take over what another one has learnt."""
        ...

    def configure(self, settings: Settings) -> None:
        """Use other settings from the next tick on."""
        ...


class InProcess:
    """Takes inputs through `buffer` from the start; processes them while it is running. Keeps nothing on disk.

    What comes before `start` waits in the buffer, bounded as ever. A second start goes on with what was learnt before.
    Not fork-safe: a child process must start its own.
    """

    def __init__(self, make_pipeline: Callable[[Settings], Pipeline], settings: Settings, *, clock: Clock | None = None) -> None:
        self._make_pipeline = make_pipeline
        self._settings = settings
        self._clock = clock or SteadyClock()
        self._lock = threading.RLock()
        self._pipeline: Pipeline | None = None
        self._runner: Runner | None = None
        self._last: Snapshot | None = None
        self._subscribers: list[Subscriber] = []
        self.buffer = Buffer(items=settings.limits.queue_items, size=settings.limits.queue_bytes, clock=self._clock)

    @property
    def settings(self) -> Settings:
        """The frozen settings in force."""
        return self._settings

    def configure(self, settings: Settings) -> None:
        """Swap the settings; a running pipeline uses the new ones from its next tick on."""
        with self._lock:
            self._settings = settings
            if self._pipeline is not None:
                self._pipeline.configure(settings)
            if self._runner is not None:
                self._runner.set_health_check_interval(settings.telemetry.health_check_interval_seconds)

    @property
    def is_running(self) -> bool:
        """Is the loop running?"""
        runner = self._runner
        return runner is not None and runner.is_alive

    @property
    def snapshot(self) -> Snapshot | None:
        """The state after the last tick, also when the loop has been stopped since; None before the first."""
        runner = self._runner
        return (runner.snapshot if runner is not None else None) or self._last

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` with a frozen snapshot at each health check, and start the loop if it isn't running.

        Returns:
            A function that ends the subscription.
        """
        with self._lock:
            self._subscribers.append(subscriber)
            self.start()

        def end() -> None:
            with self._lock:
                if subscriber in self._subscribers:
                    self._subscribers.remove(subscriber)

        return end

    def start(self) -> None:
        """Start the loop. A second call does nothing."""
        with self._lock:
            if self._runner is not None:
                return
            pipeline = self._make_pipeline(self._settings)
            if self._pipeline is not None:
                pipeline.load_baselines(self._pipeline.dump_baselines())
            interval = self._settings.telemetry.health_check_interval_seconds
            self._pipeline = pipeline
            self._runner = Runner(pipeline, self.buffer, self._clock, Outputs(health_check_interval_seconds=interval))
            self._runner.subscribe(self._publish)
            self._runner.start()

    def stop(self) -> None:
        """Process what is queued and end the loop. Subscriptions stay for the next start."""
        with self._lock:
            runner = self._runner
            self._runner = None
        if runner is not None:
            runner.stop()
            self._last = runner.snapshot or self._last

    def _publish(self, snapshot: Snapshot) -> None:
        failure: Exception | None = None
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(snapshot)
            except Exception as error:  # noqa: BLE001 - others' code: one that raises must not keep the snapshot from the next
                failure = error
        if failure is not None:
            raise failure  # the runner counts and logs it
