"""`dsl telemetry demo-8020` as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from importlib.resources import files
from pathlib import Path

import jsonschema
import psutil
import pytest

DSL = Path(sys.executable).with_name("dsl")
MARK = "DEMONSTRATION_UNDER_TEST"


@pytest.fixture
def environment() -> dict[str, str]:
    """An environment by which the demonstration's processes can be told from others."""
    return os.environ | {MARK: uuid.uuid4().hex, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "DSLMODEL_API_PORT": "1"}


def _processes(environment: dict[str, str]) -> list[psutil.Process]:
    def is_marked(process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == environment[MARK]
        except psutil.Error:
            return False

    return [process for process in psutil.process_iter() if is_marked(process)]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_fast_demonstration_sees_all_four_faults_within_a_minute(environment, tmp_path):
    page = tmp_path / "report.html"
    started = time.monotonic()
    run = subprocess.run(
        [DSL, "--json", "telemetry", "demo-8020", "--fast", "--html", page], capture_output=True, env=environment, cwd=tmp_path, check=False
    )
    seconds = time.monotonic() - started
    envelope = json.loads(run.stdout)
    data = envelope["data"]
    assert run.returncode == 0, (envelope["errors"], run.stderr.decode())
    assert [(fault["expected_pattern"], fault["verdict"]) for fault in data["faults"]] == [
        ("error_spike", "seen"),
        ("latency_increase", "seen"),
        ("cascade_failure", "seen"),
        ("throughput_drop", "seen"),
    ]
    assert [fault["root_causes"][0] for fault in data["faults"]] == ["cart", "carriers", "ledger", "reviews"]
    assert not data["unprovoked"], "nothing is raised while nothing is wrong"
    assert not [fault["unrelated"] for fault in data["faults"] if fault["unrelated"]]
    assert seconds < 60
    jsonschema.validate(data, json.loads(files("dslmodel.cli").joinpath("schemas", "telemetry_demo_8020.json").read_text()))
    assert page.read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html"], "nothing else is left in the working directory"
    assert not _processes(environment)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_demonstration_that_is_ended_early_leaves_no_process(environment, end, tmp_path):
    with subprocess.Popen(
        [DSL, "telemetry", "demo-8020", "--fast"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as run:
        deadline = time.monotonic() + 20
        while len(_processes(environment)) < 16:
            assert time.monotonic() < deadline, "the system did not start"
            time.sleep(0.2)
        run.send_signal(end)
        output, errors = run.communicate(timeout=30)
    assert b"Traceback" not in output + errors
    if end == signal.SIGINT:
        assert run.returncode == 130
    deadline = time.monotonic() + 15
    while _processes(environment):
        assert time.monotonic() < deadline, "processes outlive the demonstration"
        time.sleep(0.2)
