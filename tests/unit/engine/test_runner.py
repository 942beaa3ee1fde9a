"""The live loop: order of feeding and ticking, catching up, what it outlives, what it remembers."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dslmodel.clock import SECOND, VirtualClock
from dslmodel.engine.runner import Outputs, Runner
from dslmodel.errors import AuditError
from dslmodel.ingest.buffer import Buffer
from dslmodel.records import Acceptance, Command
from tests.unit.api.samples import Ticked, finding, snapshot

START = 1_800_000_000 * SECOND


@dataclass
class Trace:
    """A pipeline that writes down what is done to it."""

    steps: list = field(default_factory=list)
    changes: dict = field(default_factory=dict)  # second -> findings that change then
    bad_names: set = field(default_factory=set)
    bad_ticks: set = field(default_factory=set)

    def feed(self, item):
        if item.name in self.bad_names:
            raise RuntimeError(item.name)
        self.steps.append(("feed", item.received_at, item.name))
        return Acceptance(accepted=2, rejected=1)

    def tick(self, now):
        if now in self.bad_ticks:
            raise RuntimeError("tick")
        self.steps.append(("tick", now, ""))
        return Ticked(snapshot(now), self.changes.get(now, ()), ())

    def dump_baselines(self):
        return b"learnt"

    def describe_baselines(self, service=None):
        return [{"service": service}]

    @property
    def ticks(self):
        return [at for kind, at, _ in self.steps if kind == "tick"]


@dataclass
class Memory:
    """A store that can be full."""

    is_full: bool = False
    findings: list = field(default_factory=list)
    baselines: list = field(default_factory=list)

    def record(self, findings, incidents):
        if self.is_full:
            raise AuditError("the disk is full")
        self.findings.append([f.id for f in findings])

    def save_baselines(self, data):
        if self.is_full:
            raise AuditError("the disk is full")
        self.baselines.append(data)


@dataclass
class Reel:
    """A recording that can break."""

    fails_at: int = 1 << 62
    written: list = field(default_factory=list)
    is_closed: bool = False

    def write(self, item):
        if len(self.written) >= self.fails_at:
            raise AuditError("the recording can't keep up")
        self.written.append(item)

    def close(self):
        self.is_closed = True


def put(buffer, name="ack"):
    return buffer.put_input(lambda at: Command(name=name, arguments={}, received_at=at), 100)


def make(pipeline=None, **outputs):
    clock = VirtualClock(START)
    buffer = Buffer(items=100_000, size=1 << 30, clock=clock)
    pipeline = pipeline or Trace()
    return pipeline, buffer, clock, Runner(pipeline, buffer, clock, Outputs(**outputs))


def replayed(items, first_tick, last_tick):
    """The same inputs by the rule of replay: all that is stamped < T, then tick(T), second by second."""
    pipeline, queue = Trace(), list(items)
    for tick_at in range(first_tick, last_tick + 1, SECOND):
        while queue and queue[0].received_at < tick_at:
            pipeline.feed(queue.pop(0))
        pipeline.tick(tick_at)
    return pipeline.steps


@given(
    st.lists(st.tuples(st.sampled_from(["put", "wait", "run"]), st.integers(0, 3 * SECOND)), max_size=60),
    st.integers(0, SECOND - 1),
)
def test_what_is_stamped_before_a_second_is_fed_before_its_tick_and_the_rest_after(actions, offset):
    clock = VirtualClock(START + offset)
    buffer = Buffer(items=1000, size=1 << 20, clock=clock)
    pipeline, reel = Trace(), Reel()
    runner = Runner(pipeline, buffer, clock, Outputs(tape=reel))
    first = runner.next_tick_at
    for action, nanoseconds in actions:
        if action == "put":
            put(buffer)
        elif action == "wait":
            clock.advance_to(clock.now() + nanoseconds)
        else:
            runner.advance()
    runner.stop()
    assert pipeline.steps == replayed(reel.written, first, pipeline.ticks[-1])
    assert len(reel.written) == buffer.stats().accepted.get("inputs", 0)


def test_every_second_of_a_stall_is_ticked_in_order():
    pipeline, buffer, clock, runner = make()
    put(buffer)
    clock.advance(3600)
    put(buffer, "late")
    clock.advance(0.5)
    runner.advance()
    assert pipeline.ticks == [START + n * SECOND for n in range(1, 3601)]
    assert pipeline.steps[0] == ("feed", START, "ack")
    assert pipeline.steps[-1] == ("feed", START + 3600 * SECOND, "late")


def test_advance_says_how_long_until_the_next_tick():
    _, _, clock, runner = make()
    clock.advance(0.25)
    assert runner.advance() == pytest.approx(0.75)


def test_stop_feeds_what_is_queued_and_ticks_once_more():
    memory, reel = Memory(), Reel()
    pipeline, buffer, clock, runner = make(keeper=memory, tape=reel)
    clock.advance(0.3)
    put(buffer)
    assert runner.stop()
    assert pipeline.steps == [("feed", START + 300_000_000, "ack"), ("tick", START + SECOND, "")]
    assert memory.baselines == [b"learnt"]
    assert reel.is_closed


def test_an_input_that_breaks_the_pipeline_is_counted_and_the_loop_goes_on():
    pipeline, buffer, clock, runner = make(Trace(bad_names={"bad"}))
    for name in ("good", "bad", "good"):
        put(buffer, name)
    clock.advance(1)
    runner.advance()
    assert [step[0] for step in pipeline.steps] == ["feed", "feed", "tick"]
    stats = runner.stats
    assert (stats.inputs, stats.accepted, stats.rejected, stats.pipeline_errors, stats.ticks) == (3, 4, 2, 1, 1)


def test_a_tick_that_breaks_is_counted_and_the_next_one_comes():
    pipeline, _, clock, runner = make(Trace(bad_ticks={START + SECOND}))
    clock.advance(2)
    runner.advance()
    assert pipeline.ticks == [START + 2 * SECOND]
    assert runner.stats.pipeline_errors == 1
    assert runner.snapshot.at == START + 2 * SECOND


def test_subscribers_get_a_snapshot_at_each_health_check_and_their_errors_are_counted():
    _, _, clock, runner = make(health_check_interval_seconds=10)
    seen = []

    def broken(_snapshot):
        raise ValueError("mine")

    runner.subscribe(broken)
    end = runner.subscribe(seen.append)
    clock.advance(25)
    runner.advance()
    end()
    clock.advance(10)
    runner.advance()
    assert [s.at // SECOND % 100 for s in seen] == [10, 20]
    assert [score for _, score in runner.history()] == [0.72] * 3
    assert runner.stats.observer_errors == 3


def test_what_changed_is_stored_and_what_cannot_be_stored_is_tried_again_in_its_newest_version():
    memory = Memory(is_full=True)
    changes = {START + SECOND: [finding("a")], START + 2 * SECOND: [finding("a", score=0.5), finding("b")]}
    _, _, clock, runner = make(Trace(changes=changes), keeper=memory)
    clock.advance(2)
    runner.advance()
    assert runner.has_unsaved
    memory.is_full = False
    clock.advance(1)
    runner.advance()
    assert memory.findings == [["a", "b"]]
    assert not runner.has_unsaved
    assert runner.stats.store_errors == 2


def test_baselines_are_saved_every_ten_minutes_and_when_the_disk_is_full_the_loop_goes_on():
    memory = Memory()
    pipeline, _, clock, runner = make(keeper=memory)
    clock.advance(1800)
    runner.advance()
    assert len(memory.baselines) == 3
    memory.is_full = True
    clock.advance(600)
    runner.advance()
    assert len(pipeline.ticks) == 2400


def test_a_recording_that_breaks_ends_and_detection_goes_on():
    reel = Reel(fails_at=1)
    pipeline, buffer, clock, runner = make(tape=reel)
    for _ in range(3):
        put(buffer)
    clock.advance(1)
    runner.advance()
    assert [step[0] for step in pipeline.steps] == ["feed"] * 3 + ["tick"]
    assert runner.stats.recording_errors == 1


def test_questions_are_answered_between_ticks_and_their_errors_go_back():
    _, _, _, runner = make()
    good = runner.ask(lambda pipeline: pipeline.describe_baselines("web"))
    bad = runner.ask(lambda pipeline: pipeline.no_such_thing)
    runner.advance()
    assert good.result(timeout=0) == [{"service": "web"}]
    with pytest.raises(AttributeError):
        bad.result(timeout=0)


def test_observers_get_every_tick_with_what_it_cost():
    _, buffer, clock, runner = make()
    reports = []
    runner.observe(reports.append)
    put(buffer)
    clock.advance(2.5)
    runner.advance()
    assert [(r.at - START, r.inputs, r.lag_seconds) for r in reports] == [(SECOND, 1, 1.5), (2 * SECOND, 0, 0.5)]


def test_the_thread_ticks_by_itself_and_ends_when_stopped():
    clock = VirtualClock(START)
    buffer = Buffer(items=10, size=1 << 20, clock=clock)
    pipeline = Trace(changes={START + SECOND: [finding("a")]})
    runner = Runner(pipeline, buffer, clock, Outputs(keeper=Memory()))
    runner.start()
    runner.start()
    assert runner.is_alive
    clock.advance(1)
    put(buffer)
    assert runner.stop(timeout_seconds=2)
    assert not runner.is_alive
    assert pipeline.ticks[-1] == START + 2 * SECOND
