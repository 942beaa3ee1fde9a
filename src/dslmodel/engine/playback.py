"""A recording in real time: its inputs come out when their time comes, on a clock that started when the recording did."""

import heapq
import threading
from collections.abc import Iterator

from dslmodel.errors import IngestError
from dslmodel.ingest.buffer import Buffer
from dslmodel.ingest.lines import known_at
from dslmodel.records import Input


class Playback:
    """A queue for the runner that merges a recording with commands from people.

    Gives every input exactly in the second in which it was recorded, so that the result is that of the recorded run.
    """

    def __init__(self, recording: Iterator[Input], buffer: Buffer) -> None:
        self._recording = recording
        self._buffer = buffer
        self.failure: str | None = None  # why the recording ended before its end
        self._ahead: Input | None = next(recording, None)
        self._over = threading.Event()
        self.started_at = known_at(self._ahead) if self._ahead is not None else 0

    @property
    def is_over(self) -> bool:
        """Everything has been given out."""
        return self._over.is_set()

    def drain(self, before: int) -> list[Input]:
        """Everything recorded or commanded before a time, in order."""
        due: list[Input] = []
        while self._ahead is not None and known_at(self._ahead) < before:
            due.append(self._ahead)
            self._ahead = self._next()
        if self._ahead is None:
            self._over.set()
        commands = self._buffer.drain(before)
        return list(heapq.merge(due, commands, key=known_at)) if commands else due

    def _next(self) -> Input | None:
        try:
            return next(self._recording, None)
        except IngestError as error:
            self.failure = str(error)
            return None

    def wait(self, timeout_seconds: float) -> None:
        """Sleep until a command comes or the time is over."""
        self._buffer.wait(timeout_seconds)
