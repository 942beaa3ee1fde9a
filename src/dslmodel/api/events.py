"""Server-sent events: what changed in each tick, to any number of slow or fast readers."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson

from dslmodel.api.shapes import finding_shape, health_shape, incident_shape, instant
from dslmodel.engine.runner import TickReport

MAX_READERS = 64
_QUEUE_LENGTH = 256
_KEEP_ALIVE_SECONDS = 15.0


class Hub:
    """Takes ticks from the pipeline's thread; gives each reader its own bounded queue in the event loop.

    A reader that is too slow loses its oldest events and is told how many. Never blocks the pipeline.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._readers: set[_Reader] = set()
        self._ticked = asyncio.Condition()
        self._at = 0
        self._closed = False

    @property
    def readers(self) -> int:
        """How many are connected."""
        return len(self._readers)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Deliver into this loop from now on."""
        self._loop = loop

    def publish(self, report: TickReport) -> None:
        """Hand one tick to the event loop. Called on the pipeline's thread."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        events = encode(report) if self._readers else []
        loop.call_soon_threadsafe(self._deliver, report.at, events)

    def _deliver(self, at: int, events: list[bytes]) -> None:
        self._at = at
        for reader in self._readers:
            reader.put(events)
        task = asyncio.ensure_future(self._notify())
        task.add_done_callback(lambda done: done.exception() if not done.cancelled() else None)

    async def _notify(self) -> None:
        async with self._ticked:
            self._ticked.notify_all()

    async def wait_for_tick_after(self, at: int, timeout_seconds: float) -> bool:
        """Wait until everything received before `at` has been ticked."""
        try:
            async with asyncio.timeout(timeout_seconds), self._ticked:
                await self._ticked.wait_for(lambda: self._at > at)
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """End all streams."""
        self._closed = True
        for reader in self._readers:
            reader.wake.set()

    async def stream(self) -> AsyncIterator[bytes]:
        """The events as one reader gets them, until it or the daemon goes away."""
        reader = _Reader()
        self._readers.add(reader)
        try:
            yield b"retry: 2000\n\n"
            while not self._closed:
                try:
                    async with asyncio.timeout(_KEEP_ALIVE_SECONDS):
                        await reader.wake.wait()
                except TimeoutError:
                    yield b": keep-alive\n\n"
                for event in reader.take():
                    yield event
        finally:
            self._readers.discard(reader)


class _Reader:
    """One connection's queue."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self._events: list[bytes] = []
        self._lost = 0

    def put(self, events: list[bytes]) -> None:
        self._events += events
        excess = len(self._events) - _QUEUE_LENGTH
        if excess > 0:
            del self._events[:excess]
            self._lost += excess
        self.wake.set()

    def take(self) -> list[bytes]:
        self.wake.clear()
        events, self._events = self._events, []
        if self._lost:
            events.insert(0, _event("lost", {"events": self._lost}))
            self._lost = 0
        return events


def encode(report: TickReport) -> list[bytes]:
    """A tick as events: `snapshot` always, `finding` and `incident` for each that changed."""
    snapshot = report.ticked.snapshot
    head: dict[str, Any] = {
        "at": instant(snapshot.at),
        **health_shape(snapshot.health),
        "throughput_per_second": round(snapshot.throughput_per_second, 3),
        "telemetry_health": snapshot.telemetry_health.state,
        "open_findings": len(snapshot.patterns),
        "open_incidents": len(snapshot.incidents),
    }
    events = [_event("snapshot", head)]
    events += [_event("finding", finding_shape(finding)) for finding in report.ticked.findings]
    events += [_event("incident", incident_shape(incident)) for incident in report.ticked.incidents]
    return events


def _event(name: str, data: object) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"
