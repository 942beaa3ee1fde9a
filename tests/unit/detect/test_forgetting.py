"""Weeks of services, versions and callees that come and go: what is no longer there is let go of."""

import pytest

from dslmodel.clock import SECOND
from dslmodel.detect.measured import Measured
from dslmodel.detect.stream import Stream
from dslmodel.engine.runtime import build_pipeline
from dslmodel.records import Command, EdgeKey, Kind, MeasuredEdge, MeasuredWindow, SeriesKey
from dslmodel.settings import Detection, Settings
from dslmodel.testing import START, SpanFactory, at, payload

DAY = 86400
QUICK = Settings(detection=Detection(min_spans=10, min_seconds=30))


@pytest.fixture
def pipeline():
    return build_pipeline(QUICK)


def one_request(pipeline, second: float, service: str) -> None:
    make = SpanFactory(round(second)).span
    root = make("GET /", at(second - 0.5), 10, kind=Kind.SERVER)
    call = make("call", at(second - 0.6), 5, kind=Kind.CLIENT, parent=root, attributes={"server.address": f"of-{service}"})
    pipeline.feed(payload([root, call], service=service, received_at=at(second - 0.2)))


def run(pipeline, seconds) -> None:
    for second in seconds:
        pipeline.tick(at(second))


def stream_of(pipeline) -> Stream:
    return pipeline._detection.stream


def boundary(second: int) -> int:
    """The next tick, counted from START, at which a stage lets go."""
    start = START // 1_000_000_000
    return (start + second + 599) // 600 * 600 - start


def test_a_service_that_came_once_is_gone_after_its_baseline_is(pipeline):
    one_request(pipeline, 1, "brief")
    run(pipeline, range(1, 120))
    stream = stream_of(pipeline)
    assert "brief" in stream.first_seen
    assert stream.callers == {"of-brief": {"brief"}}
    run(pipeline, [boundary(2 * 3600)])
    assert "brief" in stream.first_seen, "its baseline is still there"
    run(pipeline, [boundary(15 * DAY)])
    assert stream.first_seen == {}
    assert stream.callers == {}
    assert stream.versions() == []
    assert list(stream.calls.items()) == []
    assert pipeline._detection._exemplars == {}


def test_the_profiles_learnt_longest_ago_give_way_to_a_flood(monkeypatch):
    monkeypatch.setattr("dslmodel.detect.stream._MAX_PROFILES", 10)
    stream = Stream(min_spans=10, min_seconds=30, settle_seconds=6)
    for i in range(50):
        stream.requests.count(SeriesKey("web", f"op{i}", 2, ""), [(500, 1.0)], 0.0)
        stream.calls.count(EdgeKey("web", f"host{i}"), [(500, 1.0)], 0.0)
        for profiles in (stream.requests, stream.calls):
            profiles.close_block(i + 1)
            profiles.release(i + 2, lambda _key, _at: True)
    stream._forget(60)
    assert [key.operation for key, _ in stream.requests.items()] == [f"op{i}" for i in range(40, 50)]
    assert sorted(stream.callers) == [f"host{i}" for i in range(40, 50)]


def test_windows_of_services_that_are_gone_are_forgotten():
    measured = Measured()
    minute = 60 * 1_000_000_000
    measured.observe(
        MeasuredWindow(
            started_at=START,
            width_seconds=60,
            service="web",
            instance=None,
            operation=None,
            count=10,
            error_ratio=0.0,
            latency_ms={"p50": 3.0},
            client_latency_ms={},
        )
    )
    measured.observe(
        MeasuredEdge(started_at=START, width_seconds=60, client="web", server="db", client_latency_ms={"p50": 3.0}, server_latency_ms={})
    )
    measured.read(START + minute)
    measured.learn(at(boundary(DAY)), lambda _name, _at: False)
    assert measured.latest
    assert measured.callers == {"db": {"web"}}
    measured.learn(at(boundary(15 * DAY)), lambda _name, _at: False)
    assert (measured.latest, measured.counts, measured.callers, measured.first_seen) == ({}, {}, {}, {})
    assert not measured.is_used


def test_after_a_reset_nothing_is_ready_and_nothing_waits(pipeline):
    for second in range(1, 121):
        for _ in range(3):
            one_request(pipeline, second, "web")
        run(pipeline, [second])
    assert pipeline._detection.learning() == ()
    pipeline.feed(Command(name="baseline_reset", arguments={"service": "web"}, received_at=at(120.5)))
    assert pipeline._detection._readings._ready == set()
    assert all("web" not in names for _, samples in pipeline._detection._readings._waiting for names, _, _ in samples)


def test_an_edge_without_numbers_stays_in_the_graph_for_two_weeks():
    measured = Measured()
    measured.observe(MeasuredEdge(started_at=0, width_seconds=60.0, client="web", server="db", client_latency_ms={}, server_latency_ms={}))
    for second in range(600, 14 * 86400, 7200):
        measured.read(second * SECOND)
        measured.learn(second // 600 * 600 * SECOND, lambda _service, _second: True)
    assert measured.callers == {"db": {"web"}}
    measured.learn((14 * 86400 + 1200) * SECOND, lambda _service, _second: True)
    assert measured.callers == {}
