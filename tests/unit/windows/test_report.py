"""The reported metrics roll with the window and forget nothing before its time."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dslmodel.ingest.spans import decode_spans
from dslmodel.records import Kind
from dslmodel.testing import SpanFactory, at, payload
from dslmodel.windows.aggregate import ReferenceAggregator
from dslmodel.windows.report import Report

WINDOW = 60.0


class Reported:
    def __init__(self) -> None:
        self.aggregator, self.report, self.make = ReferenceAggregator(decode_spans), Report(), SpanFactory(1).span

    def second(self, second: int, spans=(), window: float = WINDOW):
        """Receive spans of `service: [(ms, status)]` that ended just now, tick, and give the metrics."""
        for service, parts in dict(spans).items():
            built = [self.make("GET /", at(second) - round(ms * 1e6) - 1, ms, kind=Kind.SERVER, status=status) for ms, status in parts]
            self.aggregator.add(payload(built, service=service), at(second))
        self.report.add(self.aggregator.seal(at(second)), window)
        return self.report.metrics(window)


def test_metrics_are_of_the_window():
    r = Reported()
    metrics = r.second(1, {"web": [(10, "unset"), (20, "error"), (30, "unset"), (40, "ok")]})
    assert metrics.throughput_per_second == pytest.approx(4 / 60)
    assert metrics.error_rates == {"web": 0.25}
    assert metrics.span_counts == {"web": {"GET /": 4}}
    assert metrics.latency_ms["web"]["p50"] == pytest.approx(20, rel=0.01)
    assert metrics.latency_ms["web"]["p99"] == pytest.approx(40, rel=0.01)


def test_what_left_the_window_is_gone():
    r = Reported()
    r.second(1, {"web": [(10, "error")]})
    assert r.second(60).span_counts == {"web": {"GET /": 1}}
    metrics = r.second(62)
    assert metrics.span_counts == {}
    assert metrics.error_rates == {}
    assert metrics.latency_ms == {}
    assert metrics.requests == metrics.errors == metrics.throughput_per_second == 0.0


def test_smaller_window_holds_from_the_next_tick_on():
    r = Reported()
    r.second(1, {"web": [(10, "unset")]})
    r.second(20, {"web": [(10, "unset")]})
    assert r.second(21, window=10.0).span_counts == {"web": {"GET /": 1}}


@given(st.lists(st.lists(st.tuples(st.integers(1, 50), st.sampled_from(("unset", "error"))), max_size=4), min_size=1, max_size=20))
@hypothesis_settings(max_examples=25)
def test_rolling_sums_are_what_counting_anew_gives(seconds):
    rolling = Reported()
    for i, spans in enumerate(seconds):
        metrics = rolling.second(i + 1, {"web": spans}, 5.0)
    anew = Reported()
    first = max(0, len(seconds) - 6)
    for i, spans in enumerate(seconds[first:]):
        expected = anew.second(first + i + 1, {"web": spans}, 5.0)
    assert metrics.span_counts == expected.span_counts
    assert metrics.latency_ms == expected.latency_ms
    assert metrics.error_rates == pytest.approx(expected.error_rates)
