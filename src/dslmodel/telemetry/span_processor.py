"""Spans of the OpenTelemetry SDK in this process -> the engine, without a network between them."""

import threading
import time
from collections import deque
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from dslmodel.records import Encoding, Signal
from dslmodel.telemetry.processor import TelemetryProcessor, get_telemetry_processor

_QUEUED_SPANS = 20_000
_BATCH_SPANS = 512
_DELAY_SECONDS = 0.2
# Decoded, a span takes some 3 times its bytes.
_EXPANSION = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanProcessorStats:
    """Where the spans went. Every one that ended is in one of these, or queued."""

    handed_over: int
    queued: int
    dropped: int  # the queue of this processor, or that of the engine, was full
    unencodable: int


class TelemetrySpanProcessor(SpanProcessor):
    """Hands finished, sampled spans to the engine of this process: `provider.add_span_processor(TelemetrySpanProcessor())`.

    `on_end` only queues. A thread encodes batches, at least five times a second, as an OTLP exporter would. When the
    queue is full, spans are dropped and counted; the application never waits and never sees an error.
    """

    def __init__(self, processor: TelemetryProcessor | None = None, *, queued_spans: int = _QUEUED_SPANS) -> None:
        """Feed `processor`, by default that of the default runtime. It isn't started by this."""
        self._processor = processor or get_telemetry_processor()
        self._capacity = queued_spans
        self._queue: deque[ReadableSpan] = deque()
        self._wake = threading.Condition()
        self._handing = threading.Lock()  # one batch at a time, so that flush returns after the last one
        self._is_down = False
        self._handed_over = self._dropped = self._unencodable = 0
        self._thread = threading.Thread(target=self._run, name="dslmodel-spans", daemon=True)
        self._thread.start()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing to do: only finished spans count."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a finished span; drop and count it when the queue is full."""
        if not span.context.trace_flags.sampled:
            return
        with self._wake:
            if self._is_down or len(self._queue) >= self._capacity:
                self._dropped += 1
                return
            self._queue.append(span)
            if len(self._queue) == _BATCH_SPANS:
                self._wake.notify()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Hand over what is queued now. False when that took longer than the timeout."""
        deadline = time.monotonic() + timeout_millis / 1000
        while self._hand_over():
            if time.monotonic() > deadline:
                return not self._queue
        return True

    def shutdown(self) -> None:
        """Hand over what is queued and end. What ends later is dropped and counted."""
        with self._wake:
            if self._is_down:
                return
            self._is_down = True
            self._wake.notify()
        self._thread.join(timeout=30)

    def stats(self) -> SpanProcessorStats:
        """Counts since the start."""
        return SpanProcessorStats(
            handed_over=self._handed_over, queued=len(self._queue), dropped=self._dropped, unencodable=self._unencodable
        )

    def _run(self) -> None:
        while not self._is_down:
            with self._wake:
                self._wake.wait_for(lambda: self._is_down or len(self._queue) >= _BATCH_SPANS, timeout=_DELAY_SECONDS)
            while self._hand_over():
                pass
        while self._hand_over():
            pass

    def _hand_over(self) -> bool:
        """Encode a batch and put it into the engine's queue; False when there was nothing to do."""
        with self._handing:
            with self._wake:
                spans = [self._queue.popleft() for _ in range(min(_BATCH_SPANS, len(self._queue)))]
            if not spans:
                return False
            if not self._put(spans):
                self._unencodable += sum(not self._put([span]) for span in spans)
        return True

    def _put(self, spans: list[ReadableSpan]) -> bool:
        """False when one of the spans can't be encoded (attributes that OTLP has no form for)."""
        try:
            request = encode_spans(spans)
        except Exception:  # noqa: BLE001 - the SDK's encoder raises bare Exception
            return False
        body = request.SerializeToString()
        is_taken = self._processor.buffer.put(
            signal=Signal.TRACES,
            encoding=Encoding.PROTOBUF,
            body=body,
            message=request,
            source="in_process",
            size=_EXPANSION * len(body),
        )
        if is_taken:
            self._handed_over += len(spans)
        else:
            self._dropped += len(spans)
        return True
