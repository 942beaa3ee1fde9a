"""What every receiver does with a body, whatever brought it: check, queue, pass on, count."""

import threading
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple, Protocol

from dslmodel.errors import IngestError
from dslmodel.ingest.buffer import Buffer
from dslmodel.ingest.otlp import Checked, check
from dslmodel.records import Encoding, Signal
from dslmodel.settings import Limits


class Transport(StrEnum):
    """Which receiver a request came through; also the `source` of its payload."""

    GRPC = "otlp_grpc"
    HTTP = "otlp_http"


class Count(StrEnum):
    """What is counted of the receivers. Everything from `rejected_items` on was not used."""

    REQUESTS = "requests"  # answered with success
    BYTES = "bytes"  # of those, as they arrived
    ITEMS = "items"  # of those, accepted: spans, data points, log records
    REJECTED_ITEMS = "rejected_items"  # invalid items in accepted requests (partial success)
    UNDECODABLE = "undecodable"  # requests that are not what they claim to be
    TOO_LARGE = "too_large"  # requests over a size limit, as they arrived, inflated or decoded
    UNSUPPORTED = "unsupported"  # requests of an unknown content type or encoding
    UNAUTHENTICATED = "unauthenticated"  # requests without the right token
    TIMED_OUT = "timed_out"  # requests whose body took too long to come
    ABORTED = "aborted"  # requests that the sender broke off
    OVERLOADED = "overloaded"  # requests refused because too much was being received at once
    QUEUE_FULL = "queue_full"  # requests refused because the pipeline's queue was full
    QUEUE_FULL_ITEMS = "queue_full_items"  # the items in them


class CountKey(NamedTuple):
    """What a number of `ReceiverStats` is about."""

    transport: Transport
    signal: Signal
    what: Count


class ReceiverStats:
    """Counts by transport and signal since the start. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[CountKey] = Counter()

    def add(self, transport: Transport, signal: Signal, count: Count, number: int = 1) -> None:
        """Count `number` more."""
        with self._lock:
            self._counts[CountKey(transport, signal, count)] += number

    def snapshot(self) -> Mapping[CountKey, int]:
        """All counts that are not 0, as they are now."""
        with self._lock:
            return dict(self._counts)

    def total(self, count: Count, *, transport: Transport | None = None, signal: Signal | None = None) -> int:
        """One count, summed over the transports and signals not given."""
        with self._lock:
            return sum(
                number
                for key, number in self._counts.items()
                if key.what is count and transport in {None, key.transport} and signal in {None, key.signal}
            )


class Busy(IngestError):
    """Can't be taken now; send it again after `retry_after_seconds`."""

    def __init__(self, message: str, *, retry_after_seconds: int, counted_as: Count = Count.QUEUE_FULL) -> None:
        super().__init__(message, status=503)
        self.counted_as = counted_as
        self.retry_after_seconds = retry_after_seconds


class Forward(Protocol):
    """Passes on what was accepted."""

    def offer(self, signal: Signal, encoding: Encoding, body: bytes) -> None:
        """Take a copy of an accepted request. Must neither block nor raise."""
        ...


_REFUSALS = {413: Count.TOO_LARGE, 415: Count.UNSUPPORTED, 401: Count.UNAUTHENTICATED, 408: Count.TIMED_OUT}


class Reception:
    """Takes decompressed bodies from any thread."""

    def __init__(self, *, buffer: Buffer, limits: Limits, stats: ReceiverStats, forward: Forward | None = None) -> None:
        self.limits = limits
        self.stats = stats
        self._buffer = buffer
        self._forward = forward

    def receive(self, body: bytes, *, signal: Signal, encoding: Encoding, transport: Transport, wire_bytes: int | None = None) -> Checked:
        """Check and queue one request, and offer it to the forwarder. `wire_bytes` is its size before decompression.

        Raises:
            IngestError: 400 or 413; counted by the caller through `refused`.
            Busy: the queue is full; its items are counted.
        """
        arrived = len(body) if wire_bytes is None else wire_bytes
        if arrived > self.limits.body_bytes:
            raise IngestError(f"body of {arrived} bytes is larger than {self.limits.body_bytes}: send smaller batches", status=413)
        checked = check(body, signal=signal, encoding=encoding, limits=self.limits)
        if not self._buffer.put(
            signal=signal, encoding=encoding, body=checked.body, message=checked.message, source=transport.value, size=checked.size
        ):
            self.stats.add(transport, signal, Count.QUEUE_FULL_ITEMS, checked.items)
            raise Busy("the queue is full: send it again later", retry_after_seconds=self._buffer.retry_after_seconds())
        if self._forward is not None:
            self._forward.offer(signal, encoding, body)
        for count, number in (
            (Count.REQUESTS, 1),
            (Count.BYTES, arrived),
            (Count.ITEMS, checked.items - checked.rejected),
            (Count.REJECTED_ITEMS, checked.rejected),
        ):
            if number:
                self.stats.add(transport, signal, count, number)
        return checked

    def refused(self, error: IngestError, *, signal: Signal, transport: Transport) -> None:
        """Count a request that is answered with an error."""
        count = error.counted_as if isinstance(error, Busy) else _REFUSALS.get(error.status, Count.UNDECODABLE)
        self.stats.add(transport, signal, count)

    def retry_after_seconds(self) -> int:
        """How long a sender that is refused for lack of room should wait."""
        return self._buffer.retry_after_seconds()
