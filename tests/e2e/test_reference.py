"""Every documented shell line and Python block that belongs to what exists today, pasted as it stands."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.running import Daemon, environment, running_daemon, send_spans, wait_until

STATUS_LINES = [
    "dsl telemetry status",
    "dsl telemetry status                    # System status",
    "dsl --json telemetry status",
    "dsl --json telemetry status | jq '.data.telemetry.health_score'",
    "dsl --json telemetry status | jq '.data.remediation.enabled'",
]
PROMETHEUS_LINES = """
dsl --json telemetry status | jq -r '
  "health_score " + (.data.telemetry.health_score | tostring),
  "active_remediations " + (.data.remediation.active_remediations | tostring),
  "security_events " + (.data.security.total_events | tostring)
'
"""
LOAD_BALANCER_LINE = "dsl --json telemetry status | jq -e '.data.telemetry.health_score > 0.3'"
ALERT_SCRIPT = """
#!/bin/bash
# Alert script for health monitoring
HEALTH=$(dsl --json telemetry status | jq '.data.telemetry.health_score')

if (( $(echo "$HEALTH < 0.3" | bc -l) )); then
    echo "CRITICAL: System health score: $HEALTH"
    # Send alert to PagerDuty/Slack
fi
"""
START_LINES = {
    "dsl telemetry start-processing": "coordination",
    "dsl telemetry start-processing          # Start processing": "coordination",
    "dsl telemetry start-processing --coord-dir ./coordination": "coordination",
    "ls -la coordination/\ndsl telemetry start-processing --coord-dir coordination/": "coordination",
    "export LOGURU_LEVEL=DEBUG\ndsl telemetry start-processing --coord-dir coordination/ --verbose": "coordination",
    # The two of the high-availability setup name folders at the root of the disk; these stand for them.
    "dsl telemetry start-processing --coord-dir data/coordination-primary": "data/coordination-primary",
    "dsl telemetry start-processing --coord-dir data/coordination-backup": "data/coordination-backup",
}
VARIABLES = {
    "export DSLMODEL_TELEMETRY_WINDOW_SECONDS=60": ("telemetry.window_seconds", 60),
    "export DSLMODEL_TELEMETRY_WINDOW_SECONDS=30": ("telemetry.window_seconds", 30),
    "export DSLMODEL_HEALTH_CHECK_INTERVAL=10": ("telemetry.health_check_interval_seconds", 10),
    "export DSLMODEL_REMEDIATION_MAX_CONCURRENT=3": ("remediation.max_concurrent", 3),
    "export DSLMODEL_REMEDIATION_MAX_CONCURRENT=5": ("remediation.max_concurrent", 5),
    "export DSLMODEL_REMEDIATION_CONFIDENCE_THRESHOLD=0.7": ("remediation.confidence_threshold", 0.7),
    "export DSLMODEL_REMEDIATION_ENABLED=true": ("remediation.enabled", True),
    "export DSLMODEL_SECURITY_THREAT_THRESHOLD=0.5": ("security.threat_threshold", 0.5),
    "export DSLMODEL_SECURITY_THREAT_THRESHOLD=0.3": ("security.threat_threshold", 0.3),
    "export DSLMODEL_SECURITY_EVENT_RETENTION_HOURS=24": ("security.event_retention_hours", 24),
    "export DSLMODEL_SECURITY_MONITORING=true": ("security.monitoring", True),
}
LOG_LINES = """
export LOGURU_LEVEL=INFO
export LOGURU_FORMAT='{"time":"{time:YYYY-MM-DD HH:mm:ss}","level":"{level}","message":"{message}"}'
"""
PYTHON_BLOCKS = {
    "windows and subscription": """
from dslmodel.telemetry import get_telemetry_processor

processor = get_telemetry_processor()
# Configure 30-second analysis windows
processor.window_size = timedelta(seconds=30)

# Subscribe to metrics
def on_metrics(metrics):
    print(f"Health: {metrics.health_score}")

processor.subscribe_to_metrics(on_metrics)
""",
    "health score": """
# Real-time telemetry
from dslmodel.telemetry import get_telemetry_processor
processor = get_telemetry_processor()
health = processor.get_health_score()
""",
}


def shell(lines: str, *, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """What a user sees who pastes the lines into a terminal."""
    return subprocess.run(
        ["bash", "-c", lines], cwd=cwd, env=environment(**variables), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that has seen healthy traffic, with its health known."""
    with running_daemon(tmp_path_factory.mktemp("busy")) as daemon:
        send_spans(f"http://{daemon.otlp_http}/v1/traces", service="shop", count=50)
        wait_until(lambda: daemon.services().get("shop"), seconds=15, what="the service shows in status")
        wait_until(lambda: daemon.status()["telemetry"]["health_score"] is not None, seconds=15, what="the health is known")
        yield daemon


@pytest.mark.parametrize("line", STATUS_LINES)
def test_status_lines_work_with_a_daemon(busy: Daemon, line: str) -> None:
    answer = shell(line, cwd=busy.directory)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip()


@pytest.mark.parametrize("line", STATUS_LINES)
def test_status_lines_work_where_nothing_ever_ran(tmp_path: Path, line: str) -> None:
    answer = shell(line, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert not list(tmp_path.iterdir()), "a reader made something"


def test_the_health_score_is_a_number_that_jq_reads(busy: Daemon) -> None:
    assert 0 <= json.loads(shell(STATUS_LINES[3], cwd=busy.directory).stdout) <= 1


def test_the_prometheus_lines_have_three_values(busy: Daemon) -> None:
    names = [line.split()[0] for line in shell(PROMETHEUS_LINES, cwd=busy.directory).stdout.splitlines()]
    assert names == ["health_score", "active_remediations", "security_events"]


def test_a_load_balancer_takes_a_healthy_system_and_drops_an_unknown_one(busy: Daemon, tmp_path: Path) -> None:
    assert shell(LOAD_BALANCER_LINE, cwd=busy.directory).returncode == 0
    assert shell(LOAD_BALANCER_LINE, cwd=tmp_path).returncode != 0


def test_the_alert_script_is_quiet_when_healthy_and_pages_when_nothing_is_known(busy: Daemon, tmp_path: Path) -> None:
    assert shell(ALERT_SCRIPT, cwd=busy.directory).stdout == ""
    assert "CRITICAL" in shell(ALERT_SCRIPT, cwd=tmp_path).stdout


@pytest.mark.parametrize("lines", START_LINES)
def test_start_lines_run_until_they_are_told_to_stop(tmp_path: Path, lines: str) -> None:
    coord_dir = tmp_path / START_LINES[lines]
    if lines.startswith("ls"):
        coord_dir.mkdir()
    ports = {f"DSLMODEL_{name}_PORT": "0" for name in ("API", "OTLP_GRPC", "OTLP_HTTP")}
    with (tmp_path / "output").open("wb") as output:
        before, _, last = lines.rpartition("\n")
        # `exec` puts the daemon in the shell's place, so that it gets the signal that a terminal or a supervisor would send.
        command = f"{before}\nexec {last}"
        started = subprocess.Popen(["bash", "-c", command], cwd=tmp_path, env=environment(**ports), stdout=output, stderr=output)
    try:
        wait_until((coord_dir / ".dslmodel" / "daemon.json").exists, seconds=30, what="the daemon runs")
        wait_until((coord_dir / ".dslmodel" / "snapshot.json").exists, seconds=30, what="the daemon ticks")
        started.send_signal(signal.SIGTERM)
        assert started.wait(30) == 0, (tmp_path / "output").read_text()
    finally:
        started.kill()
        started.wait()


@pytest.mark.parametrize("line", VARIABLES)
def test_every_variable_sets_what_it_names(tmp_path: Path, line: str) -> None:
    key, value = VARIABLES[line]
    answer = shell(f"{line}\ndsl --json config view", cwd=tmp_path, XDG_CONFIG_HOME=str(tmp_path))
    assert answer.returncode == 0, answer.stderr
    (setting,) = (s for s in json.loads(answer.stdout)["data"]["settings"] if s["key"] == key)
    assert setting["value"] == value
    assert setting["where"] == line.removeprefix("export ").partition("=")[0]


def test_the_log_format_gives_json_lines(tmp_path: Path) -> None:
    with running_daemon(tmp_path, LOGURU_LEVEL="INFO", LOGURU_FORMAT=LOG_LINES.split("LOGURU_FORMAT=")[1].strip().strip("'")):
        pass
    lines = [json.loads(line) for line in (tmp_path / "daemon.log").read_text().splitlines() if line.startswith("{")]
    assert lines
    assert all("message" in line and "level" in line for line in lines if "command" not in line)


@pytest.mark.parametrize("name", PYTHON_BLOCKS)
def test_python_blocks_run_and_end(tmp_path: Path, name: str) -> None:
    script = f"from pathlib import Path\nfrom datetime import timedelta\n{PYTHON_BLOCKS[name]}"
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_subscriber_is_called_each_cycle(tmp_path: Path) -> None:
    script = f"from datetime import timedelta\nimport time\n{PYTHON_BLOCKS['windows and subscription']}\ntime.sleep(4)\nprocessor.stop()\n"
    began = time.monotonic()
    answer = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment(DSLMODEL_HEALTH_CHECK_INTERVAL="1"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("Health: ") >= 2, f"after {time.monotonic() - began:.0f} s: {answer.stderr}"
