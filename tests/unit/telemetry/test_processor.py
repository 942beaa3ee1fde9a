"""The facade over a runtime with a small pipeline of its own, on a clock that the test moves."""

import threading
from datetime import timedelta

import pytest

from dslmodel.engine.in_process import InProcess
from dslmodel.errors import ConfigurationError, IngestError
from dslmodel.records import Acceptance, Health, HealthState, Signal, Snapshot, Tally, TelemetryHealth
from dslmodel.settings import Settings
from dslmodel.telemetry import TelemetryProcessor, get_telemetry_processor
from dslmodel.testing import at, clock_at, use_runtime

SPAN = {"name": "job", "start_time": at(999), "duration_ms": 5}


class Ticked:
    findings = ()
    incidents = ()

    def __init__(self, snapshot):
        self.snapshot = snapshot


class CountingPipeline:
    """Counts inputs; health is 1 / inputs."""

    def __init__(self, settings):
        self.settings = settings
        self.inputs = []
        self.learnt = b""
        self.ticked = threading.Event()

    def feed(self, item):
        self.inputs.append(item)
        return Acceptance(accepted=1)

    def tick(self, now):
        self.ticked.set()
        score = 1 / len(self.inputs) if self.inputs else None
        return Ticked(
            Snapshot(
                at=now,
                health=Health(score=score, state=HealthState.UNKNOWN),
                telemetry_health=TelemetryHealth(state="unknown"),
                window_seconds=self.settings.telemetry.window_seconds,
                throughput_per_second=0.0,
                span_counts={},
                error_rates={},
                latency_ms={},
                patterns=(),
                incidents=(),
                learning=(),
                edges={},
                tally=Tally(accepted=0, rejected=0, windowed=0, late=0, own=0, overflowed=0, joins_missed=0),
                log_errors={},
                agents={},
                engine="reference",
            )
        )

    def dump_baselines(self):
        return b"learnt by " + self.learnt

    def load_baselines(self, data):
        self.learnt = data

    def configure(self, settings):
        self.settings = settings


class World:
    def __init__(self):
        self.clock = clock_at(1000)
        self.pipelines = []
        self.runtime = InProcess(self._make, Settings(), clock=self.clock)
        self.processor = TelemetryProcessor(self.runtime)

    def _make(self, settings):
        self.pipelines.append(CountingPipeline(settings))
        return self.pipelines[-1]


@pytest.fixture
def world():
    made = World()
    yield made
    made.processor.stop()


def test_questions_start_nothing(world):
    assert world.processor.get_health_score() is None
    assert world.processor.snapshot() is None
    assert world.processor.window_size == timedelta(seconds=60)
    assert world.processor.ingest_span(SPAN)
    assert not world.processor.is_running
    assert world.pipelines == []


def test_spans_that_came_before_the_start_are_processed_after_it(world):
    world.processor.ingest_span(SPAN)
    world.processor.start()
    world.processor.start()
    world.processor.stop()
    (pipeline,) = world.pipelines
    (item,) = pipeline.inputs
    assert (item.signal, item.source, item.received_at) == (Signal.TRACES, "in_process", at(1000))
    assert item.message["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"] == "job"


def test_subscribing_starts_and_gives_snapshots_until_it_is_ended(world):
    seen, came = [], threading.Event()

    def on_metrics(metrics):
        seen.append(metrics.health_score)
        came.set()

    end = world.processor.subscribe_to_metrics(on_metrics)
    assert world.processor.is_running
    world.processor.ingest_span(SPAN)
    world.clock.advance(11)  # past one health check
    assert came.wait(1.5)
    assert seen == [1.0]
    end()
    end()
    world.clock.advance(20)
    world.processor.stop()
    assert seen == [1.0]


def test_a_subscriber_that_raises_keeps_nothing_from_the_next(world):
    came = threading.Event()

    def broken(metrics):
        raise ValueError("mine")

    world.processor.subscribe_to_metrics(broken)
    world.processor.subscribe_to_metrics(lambda _: came.set())
    world.clock.advance(11)
    assert came.wait(1.5)
    assert world.processor.is_running


def test_health_is_unknown_again_after_the_stop_but_the_last_snapshot_stays(world):
    world.processor.ingest_span(SPAN)
    world.processor.start()
    world.clock.advance(2)
    assert world.pipelines[0].ticked.wait(1.5)
    world.processor.stop()
    assert world.processor.get_health_score() is None
    assert world.processor.snapshot().health_score == 1.0


def test_a_second_start_goes_on_with_what_was_learnt(world):
    world.processor.start()
    world.processor.stop()
    world.processor.start()
    world.processor.stop()
    assert [pipeline.learnt for pipeline in world.pipelines] == [b"", b"learnt by "]


def test_the_window_can_be_set_before_and_while_it_runs(world):
    world.processor.window_size = timedelta(seconds=30)
    world.processor.start()
    assert world.pipelines[0].settings.telemetry.window_seconds == 30
    world.processor.window_size = timedelta(minutes=5)
    assert world.processor.window_size == timedelta(minutes=5)
    assert world.pipelines[0].settings.telemetry.window_seconds == 300
    assert world.processor.settings.telemetry.health_check_interval_seconds == 10


@pytest.mark.parametrize(
    ("value", "says"),
    [(30, "must be a timedelta"), (timedelta(0), "greater than or equal to 1"), (timedelta(days=1), "less than or equal")],
)
def test_a_window_that_cannot_be_is_refused_with_value_and_rule(world, value, says):
    with pytest.raises(ConfigurationError, match=says):
        world.processor.window_size = value
    assert world.processor.window_size == timedelta(seconds=60)


def test_what_is_no_span_is_refused(world):
    with pytest.raises(IngestError, match="no known shape"):
        world.processor.ingest_span({"x": 1})
    assert world.processor.buffer.stats().items == 0


def test_a_span_that_finds_the_queue_full_is_dropped_and_counted():
    settings = Settings(limits={"queue_items": 2})
    processor = TelemetryProcessor(InProcess(CountingPipeline, settings, clock=clock_at(0)))
    assert [processor.ingest_span(SPAN) for _ in range(3)] == [True, True, False]
    assert processor.buffer.stats().dropped == {"traces": 1}


def test_the_default_runtime_is_the_one_in_use(world):
    with use_runtime(world.runtime):
        get_telemetry_processor().window_size = timedelta(seconds=7)
        get_telemetry_processor().ingest_span(SPAN)
    assert world.processor.window_size == timedelta(seconds=7)
    assert world.processor.buffer.stats().items == 1
