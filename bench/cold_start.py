"""`dsl --json telemetry status` as a liveness probe runs it, against a bare interpreter's start."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.measure import Result, Row, ratios

DSL = Path(sys.executable).with_name("dsl")
_READY_SECONDS = 30
BARE = "python -c pass"
DEAD = "with a dead one"
_QUIET = {"DSLMODEL_API_PORT": "0", "DSLMODEL_OTLP_GRPC_PORT": "0", "DSLMODEL_OTLP_HTTP_PORT": "0"}


def run(*, quick: bool) -> Sequence[Result]:
    """With a daemon, without one, with a dead one, and the bare start in turn."""
    rounds = 10 if quick else 40
    with tempfile.TemporaryDirectory() as folder:
        running, dead, none = (Path(folder, name) for name in ("running", "dead", "none"))
        for directory in (running, dead, none):
            directory.mkdir()
        daemon = _start(running)
        try:
            victim = _start(dead)
            victim.kill()
            victim.wait()
            return [_compare(rounds, {"with a daemon": running, "without one": none, DEAD: dead})]
        finally:
            daemon.terminate()
            daemon.wait(_READY_SECONDS)


def _compare(rounds: int, places: dict[str, Path]) -> Result:
    status = [str(DSL), "--json", "telemetry", "status"]
    walls: dict[str, list[float]] = {label: [] for label in (BARE, *places)}
    cpus: dict[str, list[float]] = {label: [] for label in (BARE, *places)}
    for _ in range(rounds):
        for label, place in ((BARE, None), *places.items()):
            wall, cpu, code = _time([sys.executable, "-c", "pass"] if place is None else status, place)
            if code != (label == DEAD):
                raise RuntimeError(f"{label}: exit {code}, so that is not what was to be measured")
            walls[label].append(wall)
            cpus[label].append(cpu)
    rows = [Row(label=f"status {label}: wall time to `{BARE}`'s", unit="x", samples=ratios(walls[label], walls[BARE])) for label in places]
    rows += [Row(label=f"status {label}: CPU time to `{BARE}`'s", unit="x", samples=ratios(cpus[label], cpus[BARE])) for label in places]
    rows += [Row(label=f"{label}: wall", unit="ms", samples=[1000 * wall for wall in taken]) for label, taken in walls.items()]
    return Result(
        name="cold_start",
        title="Start of `dsl --json telemetry status`",
        what=f"The console script, {rounds} starts of each in turn. Limit: 6 times the bare interpreter.",
        rows=rows,
    )


def _time(command: list[str], place: Path | None) -> tuple[float, float, int]:
    """Wall and CPU seconds of one process, and its exit code."""
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    return wall, used.ru_utime + used.ru_stime, process.returncode


def _start(directory: Path) -> subprocess.Popen[bytes]:
    """A daemon in `directory`, once it has ticked."""
    command = [str(DSL), "telemetry", "start-processing"]
    process = subprocess.Popen(
        command, cwd=directory, env={**os.environ, **_QUIET}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    snapshot = directory / "coordination" / ".dslmodel" / "snapshot.json"
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if snapshot.exists() and json.loads(snapshot.read_bytes()):
            return process
        time.sleep(0.1)
    process.kill()
    raise TimeoutError(f"the daemon in {directory} was not ready after {_READY_SECONDS} s")
