"""A recording replays to the same bytes, whatever its encoding was, and to what the live run found."""

from pathlib import Path

import orjson
import pytest

from dslmodel.api.shapes import replay_shape
from dslmodel.clock import VirtualClock
from dslmodel.engine.replay import ReplayResult, replay, run
from dslmodel.engine.runner import Outputs, Runner
from dslmodel.engine.runtime import build_pipeline
from dslmodel.errors import ConfigurationError
from dslmodel.ingest.buffer import Buffer
from dslmodel.ingest.files import Recorder
from dslmodel.ingest.lines import Header, write_document
from dslmodel.records import Command, Input
from dslmodel.settings import Detection, Settings
from dslmodel.testing import START, at
from tests.traffic import Call, Fault, Load, Operation, Service, System, Traffic, steady

pytestmark = pytest.mark.timeout(15)

QUICK = Settings(detection=Detection(min_spans=30, min_seconds=30))
SYSTEM = System(
    services={
        "web": Service(operations={"GET /": Operation(median_ms=8, calls=[Call("db", "select")])}, instances=2, interval_seconds=2.0),
        "db": Service(operations={"select": Operation(median_ms=3)}, interval_seconds=2.0),
    },
    loads=[Load(service="web", operation="GET /", rate=steady(6))],
    faults=[Fault(service="db", started=80, ended=95, error_ratio=0.7)],
)
SECONDS = 140


def inputs(seconds: int = SECONDS) -> list[Input]:
    return list(Traffic(SYSTEM, seed=3).until(seconds))


def written(path: Path, items: list[Input]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(write_document(item)) + b"\n" for item in items))
    return path


def content(result: ReplayResult) -> bytes:
    return orjson.dumps([replay_shape(result.findings, result.incidents), result.ended_at])


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("recording") / "day.jsonl", inputs())


def test_two_replays_give_the_same_bytes(recording):
    one = replay([recording], QUICK)
    assert one.findings
    assert one.incidents
    assert content(one) == content(replay([recording], QUICK))


def test_protobuf_and_json_of_the_same_traffic_find_the_same(recording):
    found: list = []
    run(build_pipeline(QUICK), inputs(), lambda tick: found.extend(tick.findings), started_at=None)
    last = {finding.id: finding for finding in found}
    assert list(last.values()) == list(replay([recording], QUICK).findings)


def test_recording_in_two_files_is_merged_by_time(recording, tmp_path):
    lines = recording.read_bytes().splitlines(keepends=True)
    halves = [tmp_path / "even.jsonl", tmp_path / "odd.jsonl"]
    for i, half in enumerate(halves):
        half.write_bytes(b"".join(lines[i::2]))
    assert content(replay(halves, QUICK)) == content(replay([recording], QUICK))


def test_every_second_is_ticked_through_gaps_too():
    ticks: list[int] = []
    items = inputs(40)
    late = Command(name="ack", arguments={"id": None}, received_at=at(100.5))
    last = run(build_pipeline(QUICK), [*items, late], lambda tick: ticks.append(tick.snapshot.at))
    assert ticks == [ticks[0] + i * 1_000_000_000 for i in range(len(ticks))]
    assert ticks[-1] == last == at(101)


def test_nothing_recorded_is_an_empty_result(tmp_path):
    (tmp_path / "empty.jsonl").write_bytes(b"")
    result = replay([tmp_path / "empty.jsonl"], QUICK)
    assert (result.findings, result.incidents, result.ended_at) == ((), (), 0)


def test_known_baselines_find_what_began_before_anything_could_be_learnt(tmp_path):
    items = inputs()
    pipeline = build_pipeline(QUICK)
    run(pipeline, [item for item in items if item.received_at < at(78)], lambda tick: tick)
    rest = written(tmp_path / "rest.jsonl", [item for item in items if item.received_at >= at(70)])
    assert not replay([rest], QUICK).findings
    assert {finding.service for finding in replay([rest], QUICK, pipeline.dump_baselines()).findings} >= {"db"}


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_file_that_is_none_is_refused(tmp_path, name):
    with pytest.raises(ConfigurationError):
        replay([tmp_path / name], QUICK)


def test_live_run_and_the_replay_of_its_recording_find_the_same(tmp_path):
    clock = VirtualClock(START + 123)
    buffer = Buffer(items=10_000, size=1 << 26, clock=clock)
    pipeline = build_pipeline(QUICK)
    header = Header(version="test", settings=QUICK.model_dump(mode="json"), baselines=pipeline.dump_baselines(), started_at=clock.now())
    tape = Recorder(tmp_path / "live.jsonl.gz", header, clock=clock)
    runner = Runner(pipeline, buffer, clock, Outputs(tape=tape))
    for item in inputs():
        while clock.now() + 250_000_000 < item.received_at:
            clock.advance(0.25)
            runner.advance()
        clock.advance_to(item.received_at)
        buffer.put(signal=item.signal, encoding=item.encoding, body=item.body, message=item.message, source=item.source, size=100)
        if at(90) < clock.now() and not pipeline.findings()[0].acknowledged_at:
            known = pipeline.findings()[0].id
            buffer.put_input(lambda received_at, known=known: Command(name="ack", arguments={"id": known}, received_at=received_at), 10)
            runner.advance()
    clock.advance(7.3)
    runner.advance()
    runner._finish()
    again = replay([tmp_path / "live.jsonl.gz"], Settings())
    assert pipeline.findings()
    assert list(again.findings) == list(pipeline.findings())
    assert list(again.incidents) == list(pipeline.incidents())
