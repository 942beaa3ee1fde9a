"""Who runs on a coordination directory."""

import json
import os
import resource
import signal
import subprocess
import sys

import pytest

from dslmodel.engine import presence


def me(**changes):
    return {
        "pid": os.getpid(),
        "process_start": presence.process_start(os.getpid()),
        "pid_namespace": presence.pid_namespace(),
        "stopped_at": None,
    } | changes


def test_a_living_process_with_the_right_start_runs():
    assert presence.is_running(me())


@pytest.mark.parametrize(
    "changes",
    [
        {"stopped_at": "2026-01-01T00:00:00Z"},  # stopped cleanly
        {"process_start": "1"},  # the pid belongs to another process by now
        {"pid": 0},
        {"pid": None},
        {"pid": 4_194_304 + 1},  # above any pid
    ],
)
def test_what_stopped_or_is_another_process_does_not_run(changes):
    assert not presence.is_running(me(**changes))


def test_a_process_that_ended_and_a_zombie_do_not_run():
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert presence.process_start(child.pid) is None
    child.wait()
    assert presence.process_start(child.pid) is None


def test_another_pid_namespace_cannot_be_looked_into():
    assert presence.is_running(me(pid_namespace="pid:[1]", pid=4_194_305))


def test_a_document_that_is_missing_is_none_and_one_that_is_broken_says_so(tmp_path):
    path = tmp_path / "daemon.json"
    assert presence.read_document(str(path)) is None
    assert presence.read_document(str(path / "below-a-file")) is None
    path.write_text("[]")
    with pytest.raises(ValueError, match="no JSON object"):
        presence.read_document(str(path))
    path.write_text('{"pid": ')
    with pytest.raises(ValueError, match="Expecting value"):
        presence.read_document(str(path))


def test_a_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "snapshot.json"
    presence.replace_file(str(path), b"{}")
    presence.replace_file(str(path), json.dumps({"a": 1}).encode(), mode=0o600)
    assert json.loads(path.read_text()) == {"a": 1}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["snapshot.json"]


def test_a_file_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path):
    (tmp_path / "snapshot.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        presence.replace_file(str(tmp_path / "snapshot.json"), b"{}")
    assert [entry.name for entry in tmp_path.iterdir()] == ["snapshot.json"]


def test_a_write_that_fails_names_its_file_and_leaves_the_old_one(tmp_path):
    """A limit on the size of files stands for a full disk: writing fails, opening doesn't."""
    path = tmp_path / "snapshot.json"
    path.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match=r"snapshot\.json"):
            presence.replace_file(str(path), b"x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
