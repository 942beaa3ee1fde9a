import threading

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind

from dslmodel.ingest.buffer import Buffer
from dslmodel.records import Encoding, Signal
from dslmodel.telemetry import TelemetrySpanProcessor


class Receiver:
    """Stands for a processor: only its queue is used."""

    def __init__(self, items=1000):
        self.buffer = Buffer(items=items, size=1 << 30)


class Blocked(Receiver):
    """A queue that lets nothing in until it is released."""

    def __init__(self):
        super().__init__()
        self.entered, self.release = threading.Event(), threading.Event()
        self.inner, self.buffer = self.buffer, self

    def put(self, **payload):
        self.entered.set()
        self.release.wait()
        return self.inner.put(**payload)


@pytest.fixture
def receiver():
    return Receiver()


def _provider(processor, **options):
    provider = TracerProvider(resource=Resource({"service.name": "cart"}), shutdown_on_exit=False, **options)
    provider.add_span_processor(processor)
    return provider


def _spans(receiver):
    return [
        span
        for item in receiver.buffer.drain(1 << 62)
        for resource in item.message.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def test_finished_spans_arrive_as_the_exporter_would_write_them(receiver):
    processor = TelemetrySpanProcessor(receiver)
    provider = _provider(processor)
    with provider.get_tracer("test").start_as_current_span("GET /", kind=SpanKind.SERVER, attributes={"a": 1}):
        pass
    assert provider.force_flush()
    (item,) = receiver.buffer.drain(1 << 62)
    assert (item.signal, item.encoding, item.source) == (Signal.TRACES, Encoding.PROTOBUF, "in_process")
    assert item.body == item.message.SerializeToString()
    (resource,) = item.message.resource_spans
    assert resource.resource.attributes[0].value.string_value == "cart"
    (span,) = resource.scope_spans[0].spans
    assert (span.name, span.kind, span.attributes[0].value.int_value) == ("GET /", 2, 1)
    provider.shutdown()


def test_spans_come_by_themselves_within_moments(receiver):
    provider = _provider(TelemetrySpanProcessor(receiver))
    provider.get_tracer("test").start_span("a").end()
    receiver.buffer.wait(1.5)
    assert [span.name for span in _spans(receiver)] == ["a"]
    provider.shutdown()


def test_shutdown_hands_over_what_is_queued_and_counts_what_comes_later(receiver):
    processor = TelemetrySpanProcessor(receiver)
    provider = _provider(processor)
    late = provider.get_tracer("test").start_span("late")
    for number in range(1200):
        provider.get_tracer("test").start_span(f"span {number}").end()
    provider.shutdown()
    processor.shutdown()
    late.end()
    assert len(_spans(receiver)) == 1200
    stats = processor.stats()
    assert (stats.handed_over, stats.queued, stats.dropped) == (1200, 0, 1)


def test_spans_that_are_not_sampled_do_not_count(receiver):
    provider = _provider(TelemetrySpanProcessor(receiver), sampler=ALWAYS_OFF)
    provider.get_tracer("test").start_span("a").end()
    provider.shutdown()
    assert _spans(receiver) == []


def test_the_application_never_waits_and_every_drop_is_counted():
    blocked = Blocked()
    processor = TelemetrySpanProcessor(blocked, queued_spans=600)
    provider = _provider(processor)
    tracer = provider.get_tracer("test")
    for number in range(512):
        tracer.start_span(f"first {number}").end()
    assert blocked.entered.wait(1.5)
    for number in range(700):
        tracer.start_span(f"more {number}").end()
    dropped = processor.stats().dropped
    assert dropped >= 100
    blocked.release.set()
    provider.shutdown()
    stats = processor.stats()
    assert (stats.dropped, stats.handed_over) == (dropped, 1212 - dropped)


def test_spans_that_find_the_engines_queue_full_are_counted():
    receiver = Receiver(items=1)
    processor = TelemetrySpanProcessor(receiver)
    provider = _provider(processor)
    for _ in range(3):
        provider.get_tracer("test").start_span("a").end()
        provider.force_flush()
    assert processor.stats().dropped == 2
    assert receiver.buffer.stats().dropped == {"traces": 2}
    provider.shutdown()
