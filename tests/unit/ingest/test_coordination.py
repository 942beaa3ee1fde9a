import contextlib
import json
import os
import socket
import tracemalloc
from pathlib import Path

import pytest

from dslmodel.errors import ConfigurationError
from dslmodel.ingest.buffer import Buffer
from dslmodel.ingest.coordination import CoordinationWatcher, WatchOptions
from dslmodel.records import Change, CoordinationEvent, Encoding, Payload, Signal
from dslmodel.testing import at, clock_at, gauges, payload, span


class Harness:
    """A watcher over real files, whose clock stands where the test puts it. Files are as new as that clock says."""

    def __init__(self, folder: Path, *others: Path, room: int = 100_000, **options):
        self.folder = folder
        self.clock = clock_at(1000)
        self.buffer = Buffer(items=room, size=1 << 40, clock=self.clock)
        self.reports: list[str] = []
        options = {"scan_seconds": 0, "queued_bytes": 1 << 40} | options
        self.watcher = CoordinationWatcher(
            [folder, *others], self.buffer, clock=self.clock, options=WatchOptions(**options), report=self.reports.append
        )

    def write(self, name, content, *, age: float = 0.0, mode: str = "w"):
        path = self.folder / name
        with path.open(mode) as file:
            file.write(content if isinstance(content, str) else json.dumps(content))
        time = self.clock.now() - round(age * 1e9)
        os.utime(path, ns=(time, time))
        return path

    def run(self, seconds: float = 0.1):
        """Look at everything; what came of it."""
        self.clock.advance(seconds)
        self.watcher.scan()
        for _ in range(100_000):
            if not self.watcher.step():
                break
        return self.buffer.drain(1 << 62)

    def names(self):
        return [name for item in self.run() for name in span_names(item)]

    def close(self):
        self.watcher.start()
        self.watcher.stop()


@pytest.fixture
def here(tmp_path):
    harness = Harness(tmp_path)
    yield harness
    harness.close()


def span_names(item):
    assert isinstance(item, Payload)
    assert (item.encoding, item.source, item.body) == (Encoding.JSON, "coordination", b"")
    return [span["name"] for resource in item.message["resourceSpans"] for scope in resource["scopeSpans"] for span in scope["spans"]]


def plain(name: str, **fields):
    return {"name": name, "start_time": at(999), **fields}


def line(name: str) -> str:
    return json.dumps(payload([span(name, at(999), 1)], encoding=Encoding.JSON).message) + "\n"


def events(items):
    return [(item.name, item.change.value, dict(item.document)) for item in items if isinstance(item, CoordinationEvent)]


# ---------------------------------------------------------------- agent and work files


def test_agent_and_work_files_that_are_there_give_events_however_old(here):
    path = here.write("agent_1.json", {"id": "1", "status": "active", "custom": [1]}, age=3600)
    here.write("work_2.json", {"id": "2"}, age=3600)
    items = here.run()
    assert sorted(events(items)) == [
        ("agent_1.json", "written", {"id": "1", "status": "active", "custom": [1]}),
        ("work_2.json", "written", {"id": "2"}),
    ]
    agent = next(item for item in items if item.name == "agent_1.json")
    assert (agent.kind, agent.modified_at, agent.received_at) == ("agent", path.stat().st_mtime_ns, here.clock.now())
    assert here.run() == []


def test_a_change_a_touch_and_a_deletion_are_events(here):
    path = here.write("agent_1.json", {"id": "1"})
    here.run()
    here.write("agent_1.json", {"id": "1", "status": "idle"})
    assert events(here.run()) == [("agent_1.json", "written", {"id": "1", "status": "idle"})]
    os.utime(path, ns=(at(1005), at(1005)))
    (touched,) = here.run()
    assert touched.modified_at == at(1005)
    path.unlink()
    (gone,) = here.run()
    assert (gone.name, gone.change, gone.document, gone.kind) == ("agent_1.json", Change.DELETED, {}, "agent")
    assert here.run() == []


def test_a_claim_by_renaming_is_a_deletion_and_a_new_file(here):
    here.write("work_1.json", {"id": "1"})
    here.run()
    (here.folder / "work_1.json").rename(here.folder / "claimed_1.json")
    assert sorted(event[:2] for event in events(here.run())) == [("claimed_1.json", "written"), ("work_1.json", "deleted")]


def test_an_atomic_replacement_is_a_change(here):
    here.write("completed_1.json", {"status": "failed"})
    here.run()
    here.write("completed_1.json.tmp", {"status": "completed"})
    (here.folder / "completed_1.json.tmp").rename(here.folder / "completed_1.json")
    assert events(here.run()) == [("completed_1.json", "written", {"status": "completed"})]


def test_files_of_others_and_the_state_folder_are_not_looked_at(here):
    (here.folder / ".dslmodel").mkdir()
    (here.folder / ".dslmodel" / "agent_1.json").write_text("{}")
    for name in ("notes.json", "agent_1.json.tmp", "agentx.json", ".work_1.json", "telemetry.txt", ".hidden.jsonl"):
        here.write(name, "{}")
    assert here.run() == []
    assert here.watcher.stats().files == 0


def test_a_notification_alone_is_enough(here):
    here.run()
    path = here.write("agent_1.json", {"id": "1"})
    here.watcher.note(path)
    here.watcher.step()
    assert events(here.buffer.drain(1 << 62)) == [("agent_1.json", "written", {"id": "1"})]
    here.watcher.note(path)  # a second one for the same change
    here.watcher.step()
    assert here.buffer.drain(1 << 62) == []


# ---------------------------------------------------------------- half-written, unreadable, unusable


def test_a_half_written_file_is_read_when_it_is_whole_and_nothing_is_reported(here):
    here.write("agent_1.json", '{"id": ')
    assert here.run() == []
    here.write("agent_1.json", '{"id": "1"}')
    assert events(here.run()) == [("agent_1.json", "written", {"id": "1"})]
    assert here.reports == []
    assert here.watcher.stats().unusable == {}


@pytest.mark.parametrize("name", ["agent_1.json", "telemetry_1.json"])
def test_what_stays_half_written_is_reported_once_and_read_when_it_changes(here, name):
    path = here.write(name, '{"id": ')
    for _ in range(100):
        here.run()
    assert here.watcher.stats().unusable == {"malformed": 1}
    assert here.reports == [f"{path}: no complete JSON (7 bytes)"]
    assert here.watcher.stats().problems == {str(path): "no complete JSON (7 bytes)"}
    here.write(name, plain("a"))
    assert len(here.run()) == 1
    assert here.watcher.stats().problems == {}


def test_an_empty_file_is_half_written_too(here):
    here.write("agent_1.json", "")
    assert here.run() == []
    assert here.run(10) == []
    assert here.watcher.stats().unusable == {"malformed": 1}


@pytest.mark.parametrize("content", ["[]", "7", '"x"', "null", '{"id":1}\n{"id":2}'])
def test_a_coordination_file_that_is_no_object_is_reported_at_once(here, content):
    here.write("work_1.json", content)
    assert here.run() == []
    assert here.watcher.stats().unusable == {"unusable": 1}
    assert "expected one JSON object" in here.reports[0]


def test_telemetry_of_no_known_shape_is_reported_once_though_it_is_written_anew(here):
    for number in range(5):
        here.write("telemetry_1.json", {"number": number})
        here.run()
    assert here.watcher.stats().unusable == {"unusable": 5}
    assert len(here.reports) == 1
    assert "no known shape" in here.reports[0]


def test_of_a_file_with_bad_parts_the_good_ones_are_taken(here):
    here.write("telemetry_1.json", [plain("a"), {"x": 1}, plain("b")])
    assert here.names() == ["a", "b"]
    assert here.watcher.stats().unusable == {"unusable": 1}


def test_a_file_beyond_the_limit_is_not_read(tmp_path):
    here = Harness(tmp_path, file_bytes=100)
    here.write("agent_1.json", {"id": "x" * 200})
    assert here.run() == []
    assert here.watcher.stats().unusable == {"too_large": 1}


def test_what_is_no_regular_file_is_never_waited_for(here):
    (here.folder / "agent_1.json").mkdir()
    os.mkfifo(here.folder / "work_1.json")
    os.mkfifo(here.folder / "pipe.jsonl")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(here.folder / "claimed_1.json"))
        assert here.run() == []
        assert here.run(10) == []
    assert here.watcher.stats().unusable == {"unreadable": 4}
    assert len(here.reports) == 4


def test_a_file_the_system_refuses_is_reported_once_and_read_when_it_can_be(here):
    path = here.folder / "agent_1.json"
    path.symlink_to(path)  # a loop: the system refuses it to root as well
    for _ in range(100):
        here.run()
    assert here.watcher.stats().unusable["unreadable"] >= 1
    assert len(here.reports) == 1
    path.unlink()
    here.write("agent_1.json", {"id": "1"})
    assert events(here.run()) == [("agent_1.json", "written", {"id": "1"})]


def test_a_link_to_nowhere_is_no_file_until_there_is_one(here):
    (here.folder / "agent_1.json").symlink_to(here.folder / "real")
    assert here.run() == here.run(60) == []
    here.write("real", {"id": "1"})
    assert events(here.run()) == [("agent_1.json", "written", {"id": "1"})]
    assert here.reports == []


# ---------------------------------------------------------------- telemetry files


def test_telemetry_files_of_every_shape_become_payloads(here):
    here.write("telemetry_1.json", {"id": "t", "timestamp": at(999), "metrics": {"cpu": 0.5}})
    here.write("telemetry_2.json", [plain("a"), plain("b", service="cart")])
    here.write("telemetry_3.json", {"traceID": "ab", "spanID": "cd", "operationName": "c", "startTime": at(999) // 1000, "duration": 5})
    here.write("telemetry_4.json", gauges({"x": 1.0}, at(999), encoding=Encoding.JSON).message)
    items = here.run()
    assert sorted(item.signal for item in items) == [Signal.METRICS, Signal.METRICS, Signal.TRACES, Signal.TRACES]
    assert sorted(name for item in items if item.signal is Signal.TRACES for name in span_names(item)) == ["a", "b", "c"]
    stats = here.watcher.stats()
    assert (stats.requests, stats.taken, stats.events) == (4, 5, 0)


def test_a_telemetry_file_that_grows_or_is_written_anew_counts_each_span_once(here):
    here.write("telemetry_1.json", [plain("a")])
    assert here.names() == ["a"]
    here.write("telemetry_1.json", [plain("a"), plain("b")])
    assert here.names() == ["b"]
    here.write("telemetry_2.json", json.dumps(plain("c")) + "\n")
    assert here.names() == ["c"]
    here.write("telemetry_2.json", json.dumps(plain("d")) + "\n", mode="a")
    assert here.names() == ["d"]
    assert here.watcher.stats().repeated == 2


def test_lines_in_a_telemetry_file_are_taken_while_the_last_is_being_written(here):
    here.write("telemetry_1.json", json.dumps(plain("a")) + "\n" + '{"name": "b", ')
    assert here.names() == ["a"]
    here.write("telemetry_1.json", json.dumps(plain("a")) + "\n" + json.dumps(plain("b")))
    assert here.names() == ["b"]


def test_telemetry_from_before_the_start_is_history_counted_not_taken(here):
    here.write("telemetry_1.json", plain("old"), age=31)
    here.write("telemetry_2.json", [plain("older", start_time=at(900)), plain("recent")], age=5)
    here.write("old.jsonl", line("old"), age=31)
    assert here.names() == ["recent"]
    stats = here.watcher.stats()
    assert (stats.history_files, stats.history) == (2, 1)
    assert stats.history_bytes == len(line("old"))
    here.write("old.jsonl", line("new"), mode="a")
    assert here.names() == ["new"]


# ---------------------------------------------------------------- lines


def test_lines_are_taken_once_as_the_file_grows(here):
    here.write("traces.jsonl", line("a") + line("b"))
    assert here.names() == ["a", "b"]
    here.write("traces.jsonl", line("c"), mode="a")
    assert here.names() == ["c"]
    assert here.names() == []


def test_a_line_is_taken_when_it_is_whole(here):
    whole = line("a")
    here.write("traces.jsonl", whole[:30])
    assert here.names() == []
    here.write("traces.jsonl", whole[30:-1], mode="a")
    assert here.names() == []
    here.write("traces.jsonl", "\n", mode="a")
    assert here.names() == ["a"]


def test_a_last_line_that_lacks_only_its_newline_is_taken_after_a_while(here):
    here.write("traces.jsonl", line("a") + line("b")[:-1])
    assert here.names() == ["a"]
    assert [name for item in here.run(10) for name in span_names(item)] == ["b"]
    here.write("traces.jsonl", "\n" + line("c"), mode="a")
    assert here.names() == ["c"]


def test_a_last_line_that_stays_half_is_reported_once(here):
    here.write("traces.jsonl", line("a")[:30])
    for _ in range(20):
        here.run(1)
    assert here.watcher.stats().unusable == {"malformed": 1}
    assert len(here.reports) == 1


def test_a_file_that_is_cut_and_begun_anew_is_read_from_its_start(here):
    here.write("traces.jsonl", line("a") + line("b"))
    here.run()
    here.write("traces.jsonl", line("c"))
    assert here.names() == ["c"]
    here.write("traces.jsonl", line("d") + line("e") + line("f"))  # cut, and longer than before by the time we look
    assert here.names() == ["d", "e", "f"]
    assert here.watcher.stats().truncated == 2


def test_rotation_loses_no_line_and_takes_none_twice(here):
    path = here.write("traces.jsonl", line("a"))
    here.run()
    here.write("traces.jsonl", line("b"), mode="a")
    path.rename(here.folder / "traces-1.jsonl")
    here.write("traces.jsonl", line("c"))
    assert sorted(here.names()) == ["b", "c"]
    assert here.names() == []
    assert here.watcher.stats().repeated == 0


def test_lines_written_just_before_a_file_is_renamed_out_of_sight_are_taken(here):
    path = here.write("traces.jsonl", line("a"))
    here.run()
    here.write("traces.jsonl", line("b"), mode="a")
    path.rename(here.folder / "traces.jsonl.1")
    here.write("traces.jsonl", line("c"))
    assert sorted(here.names()) == ["b", "c"]


def test_lines_written_just_before_a_file_is_deleted_are_taken(here):
    path = here.write("traces.jsonl", line("a"))
    here.run()
    here.write("traces.jsonl", line("b"), mode="a")
    path.unlink()
    assert here.names() == ["b"]


def test_many_files_of_lines_are_followed_with_few_descriptors(here):
    for number in range(200):
        here.write(f"{number}.jsonl", line(f"first {number}"))
    assert len(here.names()) == 200
    assert sum(path.startswith(str(here.folder)) for path in _open_files()) <= 64
    for number in range(200):
        here.write(f"{number}.jsonl", line(f"second {number}"), mode="a")
    assert sorted(here.names()) == sorted(f"second {number}" for number in range(200))


def _open_files():
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield str(link.readlink())


def test_bad_lines_are_counted_and_the_first_of_a_file_is_reported(here):
    here.write("traces.jsonl", line("a") + "{{{\n" + '{"x": 1}\n' + "\n" + line("b"))
    assert here.names() == ["a", "b"]
    assert here.watcher.stats().unusable == {"malformed": 1, "unusable": 1}
    assert len(here.reports) == 1


def test_a_line_beyond_the_limit_is_passed_over_and_the_next_is_taken(tmp_path):
    here = Harness(tmp_path, line_bytes=2 * 1024 * 1024)
    here.write("traces.jsonl", line("a") + "[" + " " * 5_000_000 + "]\n" + line("b"))
    assert here.names() == ["a", "b"]
    assert here.watcher.stats().unusable == {"too_large": 1}
    here.close()


def test_of_a_long_file_that_is_there_at_the_start_only_the_end_is_read(here, monkeypatch):
    monkeypatch.setattr("dslmodel.ingest.directory_reader._RECENT_BYTES", 3 * len(line("x")) + 10)
    here.write("traces.jsonl", "".join(line(name) for name in "abcdefgh"))
    assert here.names() == ["f", "g", "h"]
    assert here.watcher.stats().history_bytes > 0


def test_a_long_file_is_read_in_pieces_of_many_lines(here):
    lines = [line(f"span {number}") for number in range(6000)]
    here.write("traces.jsonl", "".join(lines))
    items = here.run()
    assert [name for item in items for name in span_names(item)] == [f"span {number}" for number in range(6000)]
    assert 1 < len(items) < 10


# ---------------------------------------------------------------- directories


def test_a_directory_that_is_missing_is_waited_for_and_never_created(tmp_path):
    here = Harness(tmp_path / "later")
    assert here.run() == []
    assert not here.folder.exists()
    assert here.watcher.stats().directories == {str(here.folder): "missing"}
    here.folder.mkdir()
    here.write("agent_1.json", {"id": "1"})
    assert len(here.run(2)) == 1
    assert here.watcher.stats().directories == {str(here.folder): "polled"}


def test_a_directory_that_goes_is_no_news_of_its_files(tmp_path):
    here = Harness(tmp_path / "here")
    here.folder.mkdir()
    here.write("agent_1.json", {"id": "1"})
    here.write("agent_2.json", {"id": "2"})
    here.run()
    here.folder.rename(tmp_path / "away")
    assert here.run(2) == here.run(2) == []
    (tmp_path / "away" / "agent_2.json").unlink()
    (tmp_path / "away").rename(here.folder)
    assert events(here.run(2)) == [("agent_2.json", "deleted", {})]


def test_several_directories_are_one_fleet_and_a_copy_outlives_a_deletion(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    here = Harness(one, two)
    here.write("agent_1.json", {"id": "1", "from": "one"})
    (two / "agent_1.json").write_text('{"id": "1", "from": "two"}')
    assert len(here.run()) == 2
    (one / "agent_1.json").unlink()
    assert events(here.run()) == [("agent_1.json", "written", {"id": "1", "from": "two"})]
    (two / "agent_1.json").unlink()
    assert events(here.run()) == [("agent_1.json", "deleted", {})]


def test_no_directory_at_all_is_a_mistake():
    with pytest.raises(ConfigurationError, match="name at least one"):
        CoordinationWatcher([], Buffer(items=1, size=1))


# ---------------------------------------------------------------- bounds


def test_files_wait_on_the_disk_while_the_queue_is_full(tmp_path):
    here = Harness(tmp_path, queued_items=10)
    for number in range(100):
        here.write(f"work_{number}.json", {"id": str(number)})
    seen = []
    for _ in range(30):
        items = here.run()
        assert len(items) <= 10
        seen += [item.name for item in items]
    assert sorted(seen) == sorted(f"work_{number}.json" for number in range(100))
    assert here.watcher.stats().delayed > 0
    assert here.buffer.stats().dropped == {}


def test_a_step_is_bounded_however_many_files_there_are(here):
    for number in range(1500):
        (here.folder / f"work_{number}.json").write_text("{}")
    here.watcher.step()
    assert here.watcher.stats().events <= 100
    assert here.watcher.stats().files + here.watcher.stats().waiting <= 1000
    assert len(here.run()) == 1500
    assert here.watcher.stats().waiting == 0


def test_files_beyond_the_limit_are_left_out_and_counted(tmp_path):
    here = Harness(tmp_path, files=10)
    for number in range(15):
        here.write(f"work_{number}.json", {})
    assert len(here.run()) == 10
    here.run()
    assert here.watcher.stats().overflow == 5


def test_a_known_file_costs_little_memory(here):
    for number in range(2000):
        here.write(f"telemetry_{number:06}.json", "{}", age=100)
    here.run()
    tracemalloc.start()
    try:
        before = tracemalloc.take_snapshot()
        for number in range(2000):
            here.write(f"work_{number:06}.json", "{}")
        here.run()
        grown = sum(item.size_diff for item in tracemalloc.take_snapshot().compare_to(before, "filename") if "directory" in str(item))
        assert grown / 2000 < 400
    finally:
        tracemalloc.stop()


# ---------------------------------------------------------------- the thread


def test_what_was_written_before_the_stop_is_taken(tmp_path):
    here = Harness(tmp_path)
    here.watcher.start()
    here.watcher.start()
    here.write("new", {"id": "1"}).rename(tmp_path / "agent_1.json")
    here.watcher.stop()
    assert events(here.buffer.drain(1 << 62)) == [("agent_1.json", "written", {"id": "1"})]
    assert here.watcher.stats().failures == 0
