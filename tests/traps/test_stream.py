"""The traps of the stream, each through the whole engine on a virtual clock: what must not raise, and what must."""

from collections.abc import Sequence

import pytest

from dslmodel.clock import SECOND
from dslmodel.detect import DETECTORS
from dslmodel.detect.detection import Detection as Stage
from dslmodel.detect.detection import DetectionOptions
from dslmodel.engine.pipeline import Pipeline, Tick
from dslmodel.engine.runtime import build_pipeline
from dslmodel.ingest.times import parse_time
from dslmodel.records import Command, Finding, HealthState, Kind, Pattern
from dslmodel.settings import Detection, Settings
from dslmodel.testing import START, SpanFactory, at, gauges, payload
from tests.traffic import Call, Fault, Load, Operation, Rollout, Service, System, Traffic, play, steady

BROKEN_AT = 180  # learning is over, and the histories hold two minutes
QUICK = Settings(detection=Detection(min_spans=50, min_seconds=60))

SERVICES = {
    "web": Service(
        operations={
            "GET /": Operation(median_ms=8, calls=[Call("catalog", "list", 0.9), Call("session", "get")]),
            "POST /order": Operation(median_ms=15, calls=[Call("session", "get"), Call("order", "create")]),
        }
    ),
    "catalog": Service(operations={"list": Operation(median_ms=12, calls=[Call("store", "select")])}),
    "session": Service(operations={"get": Operation(median_ms=2)}),
    "order": Service(operations={"create": Operation(median_ms=20, calls=[Call("payment", "charge"), Call("store", "insert")])}),
    "payment": Service(operations={"charge": Operation(median_ms=80)}),
    "store": Service(operations={"select": Operation(median_ms=3), "insert": Operation(median_ms=5)}),
    "admin": Service(operations={"GET /admin": Operation(median_ms=30, calls=[Call("session", "get")])}),
}
EDGES = {
    "admin": ("session",),
    "catalog": ("store",),
    "order": ("payment", "store"),
    "web": ("catalog", "order", "session"),
}
LOADS = (
    Load(service="web", operation="GET /", rate=steady(6)),
    Load(service="web", operation="POST /order", rate=steady(3)),
    Load(service="admin", operation="GET /admin", rate=steady(0.02)),
)


class Run:
    """The shop's traffic through a pipeline, and what it raised."""

    def __init__(self, *, seed: int = 1, loads: Sequence[Load] = LOADS, settings: Settings = QUICK, **what) -> None:
        self.traffic = Traffic(System(services=SERVICES, loads=loads, **what), seed=seed)
        self.pipeline = build_pipeline(settings)
        self.ticks: list[Tick] = []

    def until(self, second: int) -> "Run":
        play(self.pipeline, self.traffic, second, self.ticks.append)
        return self

    @property
    def found(self) -> Sequence[Finding]:
        return self.pipeline.findings()

    @property
    def last(self) -> Tick:
        return self.ticks[-1]

    def pairs(self) -> list[tuple[Pattern, str]]:
        return [(finding.pattern, finding.service) for finding in self.found]


def told(findings: Sequence[Finding]) -> list[str]:
    """For a failing assertion: when and why."""
    return [f"{(finding.at - START) / SECOND:.0f} s: {finding.pattern} {finding.summary}" for finding in findings]


def quiet(pipeline: Pipeline, first: int, last: int) -> list[Tick]:
    return [pipeline.tick(at(second)) for second in range(first, last)]


# ---------------------------------------------------------------- what must not raise


def test_nothing_at_all_is_unknown_and_raises_nothing():
    ticks = quiet(build_pipeline(QUICK), 1, 100)
    assert not any(tick.findings or tick.incidents for tick in ticks)
    assert ticks[-1].snapshot.health_score is None
    assert ticks[-1].snapshot.health.state is HealthState.UNKNOWN
    assert ticks[-1].snapshot.telemetry_health.state == "unknown"


def test_unset_status_is_no_error():
    make, pipeline = SpanFactory(1).span, build_pipeline(QUICK)
    for second in range(1, 100):
        spans = [make("GET /", at(second - 0.5), 10, kind=Kind.SERVER) for _ in range(5)]
        pipeline.feed(payload(spans, service="web", received_at=at(second - 0.1)))
        tick = pipeline.tick(at(second))
    assert tick.snapshot.error_rates == {"web": 0.0}
    assert tick.snapshot.health_score == 1.0
    assert not pipeline.findings()


@pytest.mark.parametrize("seed", [1, 2])
def test_batches_of_five_seconds_from_instances_out_of_phase_raise_nothing(seed):
    run = Run(seed=seed).until(360)
    assert not told(run.found)
    assert run.last.snapshot.health_score > 0.9
    assert run.last.snapshot.telemetry_health.state == "good"


def test_rollout_of_two_services_beside_idle_ones_raises_nothing():
    run = Run(
        rollouts=[
            Rollout(service="catalog", started=BROKEN_AT, version="2", slower=0.9, step_seconds=20),
            Rollout(service="order", started=BROKEN_AT + 30, version="7", slower=1.1, step_seconds=20),
        ]
    ).until(360)
    assert not told(run.found)


@pytest.mark.parametrize("seed", [1, 2])
def test_sampler_changed_from_all_to_a_tenth_raises_nothing(seed):
    run = Run(seed=seed, kept=lambda second: 1.0 if second < BROKEN_AT else 0.1).until(360)
    assert not told(run.found)
    assert run.last.snapshot.throughput_per_second == pytest.approx(run.ticks[BROKEN_AT - 1].snapshot.throughput_per_second, rel=0.4)


def test_silence_of_everything_raises_nothing_and_is_told():
    run = Run(loads=[Load(service="web", operation="GET /", rate=lambda second: 6.0 if second < BROKEN_AT else 0.0)]).until(360)
    assert not told(run.found)
    assert run.last.snapshot.telemetry_health.state == "bad"
    assert run.last.snapshot.health_score is None


def test_outage_of_the_collector_raises_nothing_when_data_come_again():
    run = Run().until(BROKEN_AT)
    for second in range(BROKEN_AT, BROKEN_AT + 60):
        for _ in run.traffic.until(second + 1):
            pass  # lost
        run.ticks.append(run.pipeline.tick(at(second + 1)))
    assert run.last.snapshot.telemetry_health.state == "bad"
    run.until(BROKEN_AT + 180)
    assert not told(run.found)
    assert run.last.snapshot.telemetry_health.state == "good"


def test_lost_resource_metrics_raise_nothing():
    run = Run()
    for second in range(1, 120):
        for item in run.traffic.until(second):
            run.pipeline.feed(item)
        if second < 60 and second % 10 == 0:
            run.pipeline.feed(gauges({"system.memory.utilization": 0.95 if second > 50 else 0.5}, at(second), service="store"))
        run.pipeline.tick(at(second))
    assert not told(run.found)


def test_one_of_two_requests_that_fail_at_night_raises_nothing():
    make, pipeline = SpanFactory(1).span, build_pipeline(QUICK)
    for second in range(1, 420):
        count = 2 if second < 300 else int(second in {330, 345})
        spans = [make("GET /", at(second - 0.5), 10, kind=Kind.SERVER, status="error" if second == 330 else "unset") for _ in range(count)]
        other = [make("ping", at(second - 0.5), 1, kind=Kind.SERVER) for _ in range(3)]
        pipeline.feed(payload(other, service="other", received_at=at(second - 0.2)))
        if spans:
            pipeline.feed(payload(spans, service="web", received_at=at(second - 0.1)))
        pipeline.tick(at(second))
    assert not [f for f in pipeline.findings() if f.pattern is Pattern.ERROR_SPIKE]


# ---------------------------------------------------------------- what must


def test_half_a_request_a_second_at_ninety_percent_errors_is_found():
    loads = [Load(service="web", operation="GET /", rate=steady(0.5)), Load(service="admin", operation="GET /admin", rate=steady(0.5))]
    run = Run(loads=loads, faults=[Fault(service="web", started=300, error_ratio=0.9)]).until(360)
    assert [pair for pair in run.pairs() if pair[0] is not Pattern.ERROR_SPIKE] == []
    assert run.pairs() == [(Pattern.ERROR_SPIKE, "web")]
    assert run.found[0].at <= at(330)


def test_fault_is_found_within_two_ticks_of_its_first_bad_batch():
    fault = Fault(service="payment", started=BROKEN_AT, error_ratio=1.0)
    run = Run(loads=[Load(service="web", operation="POST /order", rate=steady(12))], faults=[fault]).until(BROKEN_AT)
    first_bad = None
    while not run.found and run.ticks[-1].snapshot.at < at(BROKEN_AT + 30):
        second = run.traffic.seconds + 1
        for item in run.traffic.until(second):
            resource = item.message.resource_spans[0]
            failed = sum(span.status.code == 2 for scope in resource.scope_spans for span in scope.spans)
            if failed >= 5 and first_bad is None:
                first_bad = item.received_at
            run.pipeline.feed(item)
        run.ticks.append(run.pipeline.tick(at(second)))
    assert first_bad is not None
    assert run.found[0].pattern is Pattern.ERROR_SPIKE
    assert run.found[0].at - first_bad <= 2.1 * SECOND


@pytest.mark.parametrize("with_kinds", [True, False], ids=["with kinds", "without kinds"])
def test_graph_is_complete(with_kinds):
    run = Run(with_kinds=with_kinds, loads=[*LOADS[:2], Load(service="admin", operation="GET /admin", rate=steady(0.5))]).until(60)
    assert run.last.snapshot.edges == EDGES


FAULTS = {
    "errors": (Fault(service="payment", started=BROKEN_AT, ended=BROKEN_AT + 60, error_ratio=0.5), Pattern.ERROR_SPIKE),
    "slow": (Fault(service="catalog", started=BROKEN_AT, ended=BROKEN_AT + 60, slower=5), Pattern.LATENCY_INCREASE),
    "wire": (Fault(service="session", started=BROKEN_AT, ended=BROKEN_AT + 60, wire_ms=50), Pattern.LATENCY_INCREASE),
    "dead": (Fault(service="session", started=BROKEN_AT, ended=BROKEN_AT + 60, is_dead=True), Pattern.ERROR_SPIKE),
    "not called": (Fault(service="session", started=BROKEN_AT, ended=BROKEN_AT + 60, is_forgotten=True), Pattern.THROUGHPUT_DROP),
}


@pytest.mark.parametrize(
    ("name", "with_kinds"),
    [*((name, True) for name in sorted(FAULTS)), ("errors", False), ("slow", False)],
    ids=[*sorted(FAULTS), "errors, without kinds", "slow, without kinds"],
)
def test_fault_is_found_where_it_is_closes_once_and_opens_one_incident(name, with_kinds):
    fault, pattern = FAULTS[name]
    run = Run(faults=[fault], with_kinds=with_kinds).until(BROKEN_AT + 160)
    assert pattern in {finding.pattern for finding in run.found}
    assert all(fault.started <= (finding.started_at - START) / SECOND + 65 for finding in run.found), told(run.found)
    assert len(set(run.pairs())) == len(run.pairs()), told(run.found)  # nothing reopens
    assert not run.last.snapshot.patterns
    (incident,) = run.pipeline.incidents()
    assert incident.resolved_at is not None
    causes = [cause.service for cause in incident.root_causes]
    assert causes[0] == fault.service or (name == "not called" and causes[0] == "web")


def test_what_failed_never_becomes_normal():
    run = Run(faults=[Fault(service="payment", started=BROKEN_AT, ended=BROKEN_AT + 120, error_ratio=0.5)]).until(BROKEN_AT - 5)

    def normal() -> dict[str, float]:
        return {row["service"]: row["error_ratio"] for row in run.pipeline.describe_baselines("payment")}

    before = normal()["payment"]
    run.until(BROKEN_AT + 115)
    assert next(finding.resolved_at for finding in run.found if finding.service == "payment") is None
    assert normal()["payment"] <= before + 0.003
    run.until(BROKEN_AT + 240)
    assert normal()["payment"] <= before + 0.003


def test_false_positive_closes_and_does_not_open_again():
    run = Run(faults=[Fault(service="payment", started=BROKEN_AT, error_ratio=0.5)]).until(BROKEN_AT + 20)
    finding = next(f for f in run.found if f.service == "payment" and f.pattern is Pattern.ERROR_SPIKE)
    run.pipeline.feed(Command(name="false_positive", arguments={"id": finding.id}, received_at=at(BROKEN_AT + 20)))
    run.until(BROKEN_AT + 70)
    mine = [f for f in run.found if f.service == "payment" and f.pattern is Pattern.ERROR_SPIKE]
    assert len(mine) == 1
    assert mine[0].false_positive_at == at(BROKEN_AT + 20)
    assert mine[0].resolved_at is not None


def test_a_faulty_detector_blinds_no_other():
    class Broken:
        pattern = Pattern.LATENCY_INCREASE

        def inspect(self, view):
            raise ZeroDivisionError("oops")

    run = Run(faults=[Fault(service="payment", started=BROKEN_AT, error_ratio=0.5)])
    run.pipeline._detection = Stage([Broken(), *DETECTORS], DetectionOptions(min_spans=50, min_seconds=60), parse_time)
    run.until(BROKEN_AT + 20)
    assert Pattern.ERROR_SPIKE in {f.pattern for f in run.found}
    assert run.pipeline.faults == {"latency_increase": "ZeroDivisionError: oops"}
