"""The watcher against real writers: other processes that append, rotate, replace and crash, with and without notifications."""

import json
import os
import subprocess
import sys
import time

import pytest

from dslmodel.ingest.buffer import Buffer
from dslmodel.ingest.coordination import CoordinationWatcher, WatchOptions
from dslmodel.records import CoordinationEvent, Payload

PATIENCE_SECONDS = 20.0

# Appends numbered spans in pieces that break lines, with a pause every 50 lines, and rotates the file by renaming it every 500.
LINE_WRITER = """
import json, os, sys, time
folder, count, suffix, pause = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
path = os.path.join(folder, "traces.jsonl")
file = open(path, "a")
for number in range(count):
    line = json.dumps({"name": f"span {number}", "start_time": time.time()}) + "\\n"
    file.write(line[:20]); file.flush()
    file.write(line[20:]); file.flush()
    if number % 500 == 499:
        file.close()
        os.rename(path, os.path.join(folder, f"traces-{number}{suffix}"))
        file = open(path, "a")
    if number % 50 == 0:
        time.sleep(pause)
"""

# Rewrites a handful of agent files all the time, some in place, some by replacement, and says how the last versions look.
FILE_WRITER = """
import json, os, sys
folder, count = sys.argv[1], int(sys.argv[2])
for number in range(count):
    name = os.path.join(folder, f"agent_{number % 5}.json")
    text = json.dumps({"id": number % 5, "version": number, "padding": "x" * (number % 7000)})
    if number % 2:
        with open(name + ".tmp", "w") as file:
            file.write(text)
        os.rename(name + ".tmp", name)
    else:
        with open(name, "w") as file:
            file.write(text[:10]); file.flush()
            file.write(text[10:])
"""


class Watching:
    def __init__(self, folder, **options):
        self.buffer = Buffer(items=100_000, size=1 << 30)
        self.reports = []
        self.items = []
        self.watcher = CoordinationWatcher([folder], self.buffer, options=WatchOptions(**options), report=self.reports.append)

    def __enter__(self):
        self.watcher.start()
        return self

    def __exit__(self, *_):
        self.watcher.stop()
        assert self.watcher.stats().failures == 0

    def until(self, condition, what):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            self.items += self.buffer.drain(1 << 62)
            if condition():
                return
            assert time.monotonic() < deadline, f"{what}; {self.watcher.stats()}"
            self.buffer.wait(0.05)

    def spans(self):
        return [
            span["name"]
            for item in self.items
            if isinstance(item, Payload)
            for resource in item.message["resourceSpans"]
            for span in resource["scopeSpans"][0]["spans"]
        ]

    def versions(self):
        events = [item for item in self.items if isinstance(item, CoordinationEvent)]
        return {event.name: event.document.get("version") for event in events}

    def is_watched(self):
        return set(self.watcher.stats().directories.values()) == {"watched"}


def _run(script, *arguments):
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)])


@pytest.mark.parametrize("use_polling", [False, True])
def test_every_line_is_taken_once_through_appending_and_rotation(tmp_path, use_polling):
    with Watching(tmp_path, use_polling=use_polling) as watching:
        with _run(LINE_WRITER, tmp_path, 5000, ".jsonl", 0.002) as writer:
            watching.until(lambda: len(watching.spans()) >= 5000, "not all spans came")
            assert writer.wait(PATIENCE_SECONDS) == 0
        stats = watching.watcher.stats()
    assert sorted(watching.spans()) == sorted(f"span {number}" for number in range(5000))
    assert (stats.repeated, stats.unusable, watching.reports) == (0, {}, [])


def test_files_renamed_out_of_sight_are_read_to_their_end(tmp_path):
    with Watching(tmp_path) as watching:
        watching.until(watching.is_watched, "no notifications")
        with _run(LINE_WRITER, tmp_path, 1500, ".old", 0.05) as writer:
            assert writer.wait(PATIENCE_SECONDS) == 0
        watching.until(lambda: len(watching.spans()) >= 1500, "not all spans came")
    assert sorted(watching.spans()) == sorted(f"span {number}" for number in range(1500))


@pytest.mark.parametrize("use_polling", [False, True])
def test_the_last_version_of_a_file_that_is_always_rewritten_is_known(tmp_path, use_polling):
    with Watching(tmp_path, use_polling=use_polling) as watching:
        with _run(FILE_WRITER, tmp_path, 2000) as writer:
            assert writer.wait(PATIENCE_SECONDS) == 0
        expected = {f"agent_{number}.json": 1995 + number for number in range(5)}
        watching.until(lambda: watching.versions() == expected, "the last versions did not come")
    assert watching.reports == []


def test_a_file_is_an_event_within_moments(tmp_path):
    with Watching(tmp_path) as watching:
        watching.until(watching.is_watched, "no notifications")
        for number in range(10):
            started = time.monotonic()
            (tmp_path / f"agent_{number}.json").write_text('{"version": 1}')
            watching.until(lambda name=f"agent_{number}.json": name in watching.versions(), "no event")
            assert time.monotonic() - started < 1.0


def test_a_directory_that_is_replaced_is_followed(tmp_path):
    folder = tmp_path / "coordination"
    with Watching(folder) as watching:
        for number in range(3):
            folder.mkdir()
            (folder / f"agent_{number}.json").write_text('{"version": 1}')
            watching.until(lambda name=f"agent_{number}.json": name in watching.versions(), "no event")
            folder.rename(tmp_path / f"away {number}")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give up its rights")
def test_a_file_without_read_permission_is_reported_and_read_when_it_is_granted(tmp_path):
    path = tmp_path / "agent_1.json"
    path.write_text('{"version": 1}')
    path.chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    script = """
import json, os, sys, time
from dslmodel.ingest.buffer import Buffer
from dslmodel.ingest.coordination import CoordinationWatcher, WatchOptions
os.setuid(65534)  # after the imports: the interpreter may lie where only root can read
buffer = Buffer(items=10, size=1 << 20)
options = WatchOptions(unreadable_seconds=0.5)
watcher = CoordinationWatcher([sys.argv[1]], buffer, options=options, report=lambda text: print(text, flush=True))
watcher.start()
deadline = time.monotonic() + 20
while not buffer.stats().items and time.monotonic() < deadline:
    buffer.wait(0.1)
watcher.stop()
print(json.dumps([dict(item.document) for item in buffer.drain(1 << 62)]))
"""
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{path}: can't be read (Permission denied)\n"
        path.chmod(0o644)
        assert json.loads(process.stdout.readline()) == [{"version": 1}]
    assert process.returncode == 0
