"""`doctor` sees each thing that is wrong, says how to fix it, and changes nothing."""

import json
import os
import socket

import pytest

from dslmodel.audit.store import Store
from dslmodel.cli import config
from dslmodel.cli.doctor import examine
from dslmodel.cli.output import Context
from dslmodel.engine import presence
from dslmodel.settings import process_environment


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty working directory, ports that are free, and no settings from anywhere else."""
    for name in process_environment():
        if name.startswith(("DSLMODEL_", "LOGURU_")):
            monkeypatch.delenv(name)
    for name in ("API", "OTLP_GRPC", "OTLP_HTTP"):
        monkeypatch.setenv(f"DSLMODEL_{name}_PORT", "0")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def coordination(place):
    """A coordination directory with a state directory as the daemon makes it."""
    directory = place / "coordination"
    directory.mkdir()
    (directory / ".dslmodel").mkdir(mode=0o700)
    return directory


def doctor(coord_dir):
    return config.doctor(context=Context(given_coord_dirs=(coord_dir,)))


def seen(coord_dir, name):
    (check,) = [check for check in examine(coord_dir) if check.name == name]
    assert check.status == "ok" or check.fix
    return check.status, check.found


def announce(directory, **changes):
    document = {
        "pid": os.getpid(),
        "process_start": presence.process_start(os.getpid()),
        "pid_namespace": presence.pid_namespace(),
        "started_at": "2026-01-01T00:00:00Z",
        "stopped_at": None,
        "api": None,
        **changes,
    }
    (directory / ".dslmodel" / "daemon.json").write_text(json.dumps(document))


def test_nothing_fails_on_a_fresh_directory_and_nothing_is_created(place):
    reply = doctor(place / "new" / "coordination")
    assert (reply.exit_code, reply.errors, reply.data["counts"]["fail"]) == (0, [], 0)
    assert list(place.iterdir()) == []


def test_every_check_is_shown_with_its_status(place, coordination):
    reply = doctor(coordination)
    assert sum(reply.data["counts"].values()) == len(reply.data["checks"])
    for check in reply.data["checks"]:
        assert f"{check['status']:<5} {check['name']}: {check['found']}" in reply.text


def test_bad_settings_fail_and_the_exit_code_is_1(monkeypatch, coordination):
    monkeypatch.setenv("DSLMODEL_DETECTION_MIN_SPANS", "none")
    reply = doctor(coordination)
    assert reply.exit_code == 1
    assert "DSLMODEL_DETECTION_MIN_SPANS=none" in reply.errors[0]


def test_an_unknown_variable_is_a_warning(monkeypatch, coordination):
    monkeypatch.setenv("DSLMODEL_API_PROT", "1")
    assert seen(coordination, "settings")[0] == "warn"


def test_a_taken_port_names_its_holder_and_fails_when_it_was_set(monkeypatch, coordination):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("DSLMODEL_OTLP_HTTP_PORT", str(port))
        status, found = seen(coordination, "port otlp_http")
        assert status == "fail"
        assert f"{port} is held by" in found
        assert f"pid {os.getpid()}" in found
        announce(coordination, otlp_http=f"http://127.0.0.1:{port}")
        assert seen(coordination, "port otlp_http") == ("ok", f"{port} is held by the daemon of this directory (pid {os.getpid()})")


def test_an_address_of_another_machine_fails(monkeypatch, place, coordination):
    token = place / "token"
    token.write_text("secret")
    token.chmod(0o600)
    monkeypatch.setenv("DSLMODEL_TOKEN_FILE", str(token))
    monkeypatch.setenv("DSLMODEL_BIND", "192.0.2.1")
    monkeypatch.setenv("DSLMODEL_API_PORT", "8020")
    assert seen(coordination, "port api")[0] == "fail"


def test_a_state_directory_that_others_can_read_is_a_warning(coordination):
    (coordination / ".dslmodel").chmod(0o755)
    assert seen(coordination, "state directory")[0] == "warn"


def test_a_token_that_others_can_read_fails(coordination):
    token = coordination / ".dslmodel" / "token"
    token.write_text("secret")
    token.chmod(0o644)
    status, found = seen(coordination, "state directory")
    assert status == "fail"
    assert "mode 0644" in found


def test_the_database_is_looked_into(coordination):
    path = coordination / ".dslmodel" / "state.db"
    assert seen(coordination, "database") == ("ok", "none yet; the daemon makes it")
    with Store.open(path) as store:
        store.save_baselines(b"x")
    assert seen(coordination, "database")[0] == "ok"
    path.write_bytes(b"rubbish" * 1000)
    assert seen(coordination, "database")[0] == "fail"


def test_a_file_in_place_of_the_directory_fails(place):
    (place / "file").write_text("x")
    assert seen(place / "file", "coordination directory")[0] == "fail"


def test_a_daemon_that_stopped_died_or_does_not_answer_is_told_apart(coordination):
    assert "none has run" in seen(coordination, "daemon")[1]
    announce(coordination, stopped_at="2026-01-02T00:00:00Z")
    assert seen(coordination, "daemon")[0] == "ok"
    announce(coordination, process_start="0")
    status, found = seen(coordination, "daemon")
    assert (status, "died without a clean stop" in found) == ("fail", True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    announce(coordination, api=f"http://127.0.0.1:{port}")
    status, found = seen(coordination, "daemon")
    assert (status, "does not answer" in found) == ("fail", True)


def test_the_file_system_is_named_and_can_be_watched(coordination):
    assert seen(coordination, "watching")[0] == "ok"
