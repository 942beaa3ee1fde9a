"""`telemetry status`: what it reads, what it concludes, its exit codes, what it costs."""

import json
import os
import subprocess
import sys
from importlib.resources import files

import jsonschema
import pytest

from dslmodel.cli import status_probe
from dslmodel.cli.status_probe import Asked, inspect, parse
from tests.unit.cli.places import daemon_ran, killed

HEAVY = ("cyclopts", "pydantic", "rich", "numpy", "asyncio", "argparse", "datetime", "typing", "pathlib", "logging", "sqlalchemy", "grpc")


@pytest.fixture
def coord_dir(tmp_path):
    return tmp_path / "coordination"


def look(coord_dir, fail_under=None):
    return inspect(Asked(str(coord_dir), fail_under))


def telemetry(verdict):
    return verdict.data["telemetry"]


def schema(name):
    return json.loads(files("dslmodel.cli").joinpath("schemas", f"{name}.json").read_text())


# ---------------------------------------------------------------- the command line


@pytest.mark.parametrize(
    ("line", "coord_dir", "as_json", "fail_under"),
    [
        ("telemetry status", "coordination", False, None),
        ("--json telemetry status", "coordination", True, None),
        ("telemetry status --json", "coordination", True, None),
        ("telemetry --json status -c here", "here", True, None),
        ("-c here telemetry status", "here", False, None),
        ("--coord-dir=here --json telemetry status --fail-under 0.3", "here", True, 0.3),
        ("telemetry status --fail-under=1", "coordination", False, 1.0),
    ],
)
def test_plain_forms_are_understood_wherever_the_options_are(line, coord_dir, as_json, fail_under):
    asked = parse(line.split())
    assert (asked.coord_dir, asked.as_json, asked.fail_under) == (coord_dir, as_json, fail_under)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "telemetry",
        "status telemetry",
        "telemetry status --watch",
        "telemetry status --help",
        "telemetry status --jsn",
        "telemetry status -c",
        "telemetry status -c --json",
        "telemetry status -c a -c b",
        "telemetry status --fail-under x",
        "telemetry status --fail-under 2",
        "telemetry status --fail-under nan",
        "telemetry status extra",
        "telemetry status --",
        "auto status",
    ],
)
def test_everything_else_goes_to_the_full_command_line(line):
    assert parse(line.split()) is None


# ---------------------------------------------------------------- the verdict


def test_a_running_daemon_is_healthy_and_fresh(coord_dir):
    daemon_ran(coord_dir)
    verdict = look(coord_dir)
    assert verdict.code == 0
    assert verdict.errors == []
    assert telemetry(verdict)["processing"] is True
    assert telemetry(verdict)["health_score"] == 0.72
    assert telemetry(verdict)["last_health_score"] is None
    assert telemetry(verdict)["age_seconds"] == pytest.approx(0.2, abs=0.15)


def test_where_nothing_ever_ran_nothing_is_known_and_nothing_is_made(coord_dir):
    verdict = look(coord_dir)
    assert verdict.code == 0
    assert "does not exist" in verdict.warnings[0]
    assert not coord_dir.exists()
    coord_dir.mkdir()
    assert "start-processing" in look(coord_dir).warnings[0]
    assert list(coord_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("place", "code", "complaint"),
    [
        ({"stopped_at": "2027-01-15T08:00:00Z", "age": 9000}, 0, None),
        (killed(), 1, "died without a clean stop"),
        ({"age": 3.5}, 1, "hangs: its last tick is 3.5 s old"),
        ({"age": 0.5, "lag": 60.0}, 1, "hangs: its last tick is 60.5 s old"),
        ({"ticked": False}, 0, None),  # it just started
        ({"ticked": False, "started_unix": 0.0}, 1, "has not finished a tick"),
        ({"id": "a later run"}, 0, None),  # started again, the snapshot is the old one's
        ({"id": "a later run", "started_unix": 0.0}, 1, "has not finished a tick"),
        ({"pid_namespace": "pid:[1]", "process_start": "1"}, 0, None),  # seen from another container: fresh
        ({"pid_namespace": "pid:[1]", "process_start": "1", "age": 10}, 1, "hangs"),
    ],
)
def test_exit_codes_tell_dead_and_hanging_from_running_and_stopped(coord_dir, place, code, complaint):
    daemon_ran(coord_dir, **place)
    verdict = look(coord_dir)
    assert verdict.code == code
    assert (complaint in verdict.errors[0]) if complaint else (verdict.errors == [])


@pytest.mark.parametrize("place", [{"stopped_at": "2027-01-15T08:00:00Z"}, killed(), {"age": 10}, {"id": "a later run"}])
def test_a_score_that_is_stale_is_no_score(coord_dir, place):
    daemon_ran(coord_dir, **place)
    data = telemetry(look(coord_dir))
    assert data["health_score"] is None
    assert data["health_state"] == "unknown"
    assert data["last_health_score"] == 0.72
    assert [receiver["bound"] for receiver in data["receivers"]] == [False]


@pytest.mark.parametrize(
    ("fail_under", "place", "code"),
    [(0.3, {}, 0), (0.72, {}, 0), (0.73, {}, 5), (0.3, {"stopped_at": "2027-01-15T08:00:00Z"}, 5), (0.3, killed(), 1)],
)
def test_a_score_under_the_limit_or_unknown_is_exit_5(coord_dir, fail_under, place, code):
    daemon_ran(coord_dir, **place)
    assert look(coord_dir, fail_under).code == code


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_damaged_file_is_said_and_fails(coord_dir, content):
    state = daemon_ran(coord_dir)
    (state.path / "daemon.json").write_bytes(content)
    verdict = look(coord_dir)
    assert verdict.code == 1
    assert "can't be read" in verdict.errors[0]


def test_a_clock_that_was_set_back_does_not_make_a_negative_age(coord_dir):
    daemon_ran(coord_dir, age=-3600)
    assert telemetry(look(coord_dir))["age_seconds"] == 0


@pytest.mark.parametrize("place", [None, {}, killed(), {"ticked": False}, {"stopped_at": "2027-01-15T08:00:00Z"}])
def test_the_data_follow_the_shipped_schema_in_every_state(coord_dir, place):
    if place is not None:
        daemon_ran(coord_dir, **place)
    jsonschema.validate(look(coord_dir).data, schema("telemetry_status"))


# ---------------------------------------------------------------- what is printed, and what it costs


def run(*arguments, **options):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=20, check=False, **options)


def test_the_probe_prints_one_valid_envelope(coord_dir, capsys):
    daemon_ran(coord_dir)
    assert status_probe.answer(["--json", "-c", str(coord_dir), "telemetry", "status"]) == 0
    envelope = json.loads(capsys.readouterr().out)
    jsonschema.validate(envelope, schema("envelope"))
    assert envelope["command"] == "telemetry status"


def test_the_probe_and_the_full_command_line_say_the_same(coord_dir, capsys):
    from dslmodel.cli.app import run as full

    daemon_ran(coord_dir, **killed(), age=3600)
    line = ["--json", "-c", str(coord_dir), "telemetry", "status"]
    codes = [status_probe.answer(line), full(line)]
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert codes == [1, 1]
    for envelope in (first, second):
        del envelope["timestamp"]
        del envelope["data"]["telemetry"]["age_seconds"]
        envelope["errors"] = [error.partition("its last tick")[0] for error in envelope["errors"]]
    assert first == second


@pytest.mark.parametrize("place", [None, {}, killed()], ids=["none", "running", "dead"])
@pytest.mark.parametrize("option", [[], ["--json"]], ids=["text", "json"])
def test_status_imports_nothing_heavy(coord_dir, place, option):
    if place is not None:
        daemon_ran(coord_dir, **place)
    done = run("-X", "importtime", "-m", "dslmodel.cli.main", "-c", str(coord_dir), "telemetry", "status", *option)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if line.startswith("import time:")}
    ours = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "dslmodel" in line}
    packages = {"dslmodel", "dslmodel.cli", "dslmodel.engine"}
    assert ours <= packages | {"dslmodel.cli.status_probe", "dslmodel.cli.status_text", "dslmodel.engine.presence"}
    # What `python -m` itself needs is not ours to save.
    assert not imported & (set(HEAVY) - {"typing", "pathlib"})


def test_a_reader_that_goes_away_is_no_error(coord_dir):
    daemon_ran(coord_dir)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "dslmodel.cli.main", "-c", str(coord_dir), "telemetry", "status", "--json"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=20, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_timestamp_is_rfc_3339():
    assert status_probe.timestamp(1_800_000_000.25) == "2027-01-15T08:00:00.250Z"
