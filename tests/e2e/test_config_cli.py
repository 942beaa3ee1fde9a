"""`init`, `doctor` and `config` as a user runs them."""

import json
import os
import subprocess
import sys

import pytest


@pytest.fixture
def dsl(tmp_path):
    """Runs `dsl` in an empty directory with no settings but the given variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DSLMODEL_", "LOGURU_", "OTEL_"))}
    environment |= {"XDG_CONFIG_HOME": str(tmp_path / "xdg"), "NO_COLOR": "1"}
    (tmp_path / "work").mkdir()

    def run(*arguments, **variables):
        command = [sys.executable, "-m", "dslmodel.cli.main", *arguments]
        return subprocess.run(
            command, cwd=tmp_path / "work", env=environment | variables, capture_output=True, text=True, timeout=30, check=False
        )

    run.place = tmp_path / "work"
    return run


def test_a_fresh_machine_is_set_up_and_checked(dsl):
    assert dsl("init").returncode == 0
    assert "min_spans" in (dsl.place / "dslmodel.toml").read_text()
    assert dsl("config", "check").returncode == 0
    shown = dsl("config", "view", "--origin", DSLMODEL_API_PORT="0")
    assert "api_port = 0  # DSLMODEL_API_PORT" in shown.stdout
    checks = json.loads(dsl("--json", "doctor").stdout)
    assert checks["data"]["counts"]["ok"] >= 8
    again = dsl("init")
    assert (again.returncode, again.stdout) == (1, "")
    assert "--force" in again.stderr
    assert [file.name for file in dsl.place.iterdir()] == ["dslmodel.toml"]


def test_every_problem_is_named_in_one_go_and_the_exit_code_is_3(dsl):
    (dsl.place / "dslmodel.toml").write_text("[detection]\nmin_spans = 0\n")
    answer = dsl("--json", "config", "check", DSLMODEL_API_PORT="x", DSLMODEL_WINDOW_SECONDS="3", LOGURU_LEVEL="loud")
    assert answer.returncode == 3
    envelope = json.loads(answer.stdout)
    assert envelope["command"] == "config check"
    assert not envelope["success"]
    text = "\n".join(envelope["errors"])
    for part in ("dslmodel.toml: detection.min_spans = 0", "DSLMODEL_API_PORT=x", "did you mean DSLMODEL_", "LOGURU_LEVEL=loud"):
        assert part in text
    view = dsl("config", "view", DSLMODEL_API_PORT="x")
    assert (view.returncode, view.stdout) == (3, "")
    assert "Traceback" not in view.stderr


def test_the_documented_log_format_does_not_break_a_command(dsl):
    documented = '{"time":"{time:YYYY-MM-DD HH:mm:ss}","level":"{level}","message":"{message}"}'
    answer = dsl("--json", "config", "check", LOGURU_FORMAT=documented)
    assert (answer.returncode, answer.stderr) == (0, "")
