"""One tick, in order: what is fed is counted, judged and told; nothing in the data makes it raise."""

import json

import pytest

from dslmodel.engine.runtime import build_pipeline
from dslmodel.errors import ConfigurationError
from dslmodel.records import Change, Command, CoordinationEvent, Encoding, HealthState, Kind, MeasuredEdge, MeasuredWindow, Payload, Signal
from dslmodel.settings import Detection, Settings
from dslmodel.settings import Telemetry as TelemetrySettings
from dslmodel.testing import SpanFactory, at, gauges, logs, payload
from tests.traffic import Call, Fault, Load, Operation, Service, System, Traffic, play, steady

pytestmark = pytest.mark.timeout(15)  # minutes of virtual time; less than two seconds on a machine that does nothing else

QUICK = Settings(detection=Detection(min_spans=30, min_seconds=30))
SERVICES = {
    "web": Service(operations={"GET /": Operation(median_ms=8, calls=[Call("db", "select")])}, interval_seconds=1.0),
    "db": Service(operations={"select": Operation(median_ms=3)}, interval_seconds=1.0),
}


def traffic(*faults: Fault, seed: int = 1) -> Traffic:
    return Traffic(System(services=SERVICES, loads=[Load(service="web", operation="GET /", rate=steady(10))], faults=faults), seed=seed)


def learnt(seconds: int = 90, *faults: Fault):
    pipeline, flow = build_pipeline(QUICK), traffic(*faults)
    ticks: list = []
    play(pipeline, flow, seconds, ticks.append)
    return pipeline, flow, ticks


def requests(count: int, second: float, *, status: str = "unset") -> Payload:
    make = SpanFactory(int(second)).span
    return payload([make("GET /", at(second - 0.1), 10, kind=Kind.SERVER, status=status) for _ in range(count)], service="web")


# ---------------------------------------------------------------- in


def test_each_signal_is_accepted_and_counted():
    pipeline = build_pipeline(QUICK)
    assert pipeline.feed(requests(3, 1)).accepted == 3
    assert pipeline.feed(gauges({"system.memory.utilization": 0.5}, at(1))).accepted == 1
    assert pipeline.feed(logs([9, 17, 21], at(1), service="web")).accepted == 3
    snapshot = pipeline.tick(at(2)).snapshot
    assert snapshot.tally.accepted == 3
    assert snapshot.log_errors == {"web": 2}


@pytest.mark.parametrize("signal", list(Signal))
@pytest.mark.parametrize("encoding", list(Encoding))
def test_nothing_in_the_data_makes_it_raise(signal, encoding):
    pipeline = build_pipeline(QUICK)
    empty = Payload(
        signal=signal,
        encoding=encoding,
        body=b"",
        message={} if encoding is Encoding.JSON else None,
        received_at=at(1),
        source="test",
    )
    assert pipeline.feed(empty).accepted == 0
    assert not pipeline.tick(at(2)).findings


def test_commands_about_unknown_findings_do_nothing():
    pipeline = build_pipeline(QUICK)
    for name in ("ack", "false_positive", "baseline_reset", "what"):
        pipeline.feed(Command(name=name, arguments={"id": "f-unknown", "service": None}, received_at=at(1)))
    assert not pipeline.tick(at(2)).findings
    pipeline.feed(Command(name="ack", arguments={}, received_at=at(2)))
    assert not pipeline.tick(at(3)).findings


def test_agents_are_counted():
    pipeline = build_pipeline(QUICK)
    event = CoordinationEvent(
        kind="agent", name="agent_a.json", change=Change.WRITTEN, document={"id": "a"}, modified_at=at(1), received_at=at(1)
    )
    pipeline.feed(event)
    assert pipeline.tick(at(2)).snapshot.agents["active"] == 1
    (found,) = pipeline.tick(at(90)).findings
    assert found.service == "agents"


# ---------------------------------------------------------------- out


def test_snapshot_tells_of_the_window():
    pipeline = build_pipeline(Settings(telemetry=TelemetrySettings(window_seconds=10)))
    pipeline.feed(requests(8, 1))
    pipeline.feed(requests(2, 1.5, status="error"))
    snapshot = pipeline.tick(at(2)).snapshot
    assert snapshot.window_seconds == 10
    assert snapshot.throughput_per_second == 1.0
    assert snapshot.error_rates == {"web": 0.2}
    assert snapshot.span_counts == {"web": {"GET /": 10}}
    assert snapshot.learning == ("web",)
    assert snapshot.health.components["error"] == 0.0
    assert snapshot.health.components["latency"] is None
    assert snapshot.engine == "reference"


def test_health_falls_with_a_fault_and_comes_back():
    pipeline, flow, ticks = learnt(90, Fault(service="db", started=90, ended=130, error_ratio=0.6))
    assert ticks[-1].snapshot.health.state is HealthState.OPTIMAL
    play(pipeline, flow, 130, ticks.append)
    assert ticks[-1].snapshot.health.state in {HealthState.DEGRADED, HealthState.CRITICAL}
    play(pipeline, flow, 215, ticks.append)
    assert ticks[-1].snapshot.health.state is HealthState.OPTIMAL


def test_a_tick_tells_only_what_changed_and_the_rest_can_be_asked_for():
    pipeline, flow, ticks = learnt(90, Fault(service="db", started=90, error_ratio=0.6))
    play(pipeline, flow, 110, ticks.append)
    opened = [f.id for tick in ticks for f in tick.findings if f.at == tick.snapshot.at]
    assert len(opened) == len(set(opened)) == len(pipeline.findings())
    assert {f.id for f in ticks[-1].snapshot.patterns} == set(opened)
    assert len(ticks[-1].snapshot.incidents) == 1
    assert list(pipeline.incidents()) == list(ticks[-1].snapshot.incidents)


def test_acknowledgement_is_told_in_the_next_tick():
    pipeline, flow, _ = learnt(110, Fault(service="db", started=90, error_ratio=0.6))
    target = pipeline.findings()[0]
    pipeline.feed(Command(name="ack", arguments={"id": target.id}, received_at=at(110)))
    changed = {f.id: f for f in pipeline.tick(at(111)).findings}
    assert changed[target.id].acknowledged_at == at(110)
    assert flow.seconds == 110


def test_findings_and_root_causes_are_plain_values():
    pipeline, _, _ = learnt(140, Fault(service="db", started=90, is_dead=True))
    values = [f.score for f in pipeline.findings()] + [c.score for i in pipeline.incidents() for c in i.root_causes]
    clauses = [c for f in pipeline.findings() for c in f.clauses]
    clauses += [c for i in pipeline.incidents() for cause in i.root_causes for c in cause.clauses]
    values += [c.value for c in clauses if isinstance(c.value, float)]
    assert values
    assert {type(value) for value in values} == {float}
    assert {type(c.holds) for c in clauses} == {bool}


# ---------------------------------------------------------------- baselines


def test_loaded_baselines_find_what_learnt_ones_do():
    pipeline, flow, _ = learnt(90, Fault(service="db", started=90, error_ratio=0.6))
    later = build_pipeline(QUICK)
    later.load_baselines(pipeline.dump_baselines())
    assert later.tick(at(90)).snapshot.learning == ()
    for second in range(91, 120):
        for item in flow.until(second):
            pipeline.feed(item)
            later.feed(item)
        pipeline.tick(at(second))
        later.tick(at(second))
    assert {(f.pattern, f.service) for f in later.findings()} == {(f.pattern, f.service) for f in pipeline.findings()} != set()


def test_baselines_survive_a_second_round():
    pipeline, _, _ = learnt(90)
    once = pipeline.dump_baselines()
    again = build_pipeline(QUICK)
    again.load_baselines(once)
    assert again.dump_baselines() == once
    assert again.describe_baselines() == [
        {**row, "state": again.describe_baselines()[i]["state"]} for i, row in enumerate(pipeline.describe_baselines())
    ]


@pytest.mark.parametrize(
    "data",
    [b"", b"rubbish", b"{}", b"[]", b"null", b"5", b'{"format": 99}', b'{"format": 1}', b'{"format": 1, "first_seen": []}', b"\xff\xfe"],
)
def test_baselines_that_are_none_are_refused_with_the_way_out(data):
    with pytest.raises(ConfigurationError, match="baseline reset"):
        build_pipeline(QUICK).load_baselines(data)


def test_reset_service_learns_anew_and_others_keep_what_they_know():
    pipeline, _, _ = learnt(90)
    pipeline.feed(Command(name="baseline_reset", arguments={"service": "web"}, received_at=at(90)))
    assert {row["service"] for row in pipeline.describe_baselines()} == {"db"}
    pipeline.feed(Command(name="baseline_reset", arguments={"service": None}, received_at=at(91)))
    assert pipeline.describe_baselines() == []


def test_description_is_of_the_service_asked_for():
    pipeline, _, _ = learnt(90)
    rows = pipeline.describe_baselines("db")
    assert [(row["service"], row["operation"], row["state"]) for row in rows] == [("db", "select", "ready")]
    assert rows[0]["typical_ms"] == pytest.approx(3, rel=0.3)
    json.dumps(rows)


# ---------------------------------------------------------------- windows of others


def rows(minute: int, *, p95: float = 20.0, count: float | None = 600.0, error_ratio: float | None = 0.001) -> list:
    start = at(minute * 60)
    window = MeasuredWindow(
        started_at=start,
        width_seconds=60,
        service="web",
        instance=None,
        operation=None,
        count=count,
        error_ratio=error_ratio,
        latency_ms={"p50": 10.0 + minute % 3 * 0.2, "p95": p95 + minute % 4 * 0.5},
        client_latency_ms={},
    )
    edge = MeasuredEdge(
        started_at=start, width_seconds=60, client="web", server="db", client_latency_ms={"p50": 5.0}, server_latency_ms={"p50": 4.0}
    )
    return [window, edge]


def judged(minutes: int, **bad):
    """`minutes` of good rows, then four of bad ones (minute -> row arguments)."""
    pipeline, found = build_pipeline(QUICK), []
    for minute in range(minutes + 4):
        for row in rows(minute, **(bad if minute >= minutes else {})):
            pipeline.feed(row)
        found += [(minute - minutes, f.pattern.value, f.service) for f in pipeline.tick(at(minute * 60 + 61)).findings if not f.resolved_at]
    return pipeline, found


@pytest.mark.parametrize(
    ("bad", "pattern"),
    [({"p95": 200.0}, "latency_increase"), ({"error_ratio": 0.5}, "error_spike"), ({"count": 20.0}, "throughput_drop")],
)
def test_two_bad_windows_in_a_row_are_a_finding(bad, pattern):
    _, found = judged(30, **bad)
    assert found
    assert found[0] == (1, pattern, "web")


def test_good_windows_are_none():
    pipeline, found = judged(30)
    assert not found
    assert pipeline.describe_baselines("web")[0]["state"] == "measured"


@pytest.mark.parametrize("missing", [{"count": None}, {"error_ratio": None}, {"count": None, "error_ratio": None}])
def test_what_is_not_measured_is_not_zero(missing):
    _, found = judged(30, **missing)
    assert not found


def test_one_bad_window_is_none():
    pipeline, found = build_pipeline(QUICK), []
    for minute in range(40):
        for row in rows(minute, p95=300.0 if minute == 30 else 20.0):
            pipeline.feed(row)
        found += pipeline.tick(at(minute * 60 + 61)).findings
    assert not found


def test_a_missing_row_is_no_finding():
    pipeline, found = build_pipeline(QUICK), []
    for minute in range(40):
        for row in rows(minute) if minute not in {30, 31} else ():
            pipeline.feed(row)
        found += pipeline.tick(at(minute * 60 + 61)).findings
    assert not found
