"""`dsl telemetry status` with nothing but the standard library, and little of that.

A liveness probe runs it every few seconds, so it reads two small files that the daemon keeps in `<coord-dir>/.dslmodel/`:
`daemon.json` (who runs, or that it stopped cleanly) and `snapshot.json` (the last tick, replaced atomically).
"""

# ruff: noqa: PTH112, PTH118 - pathlib would double the time that the probe takes

import json
import os
import sys
import time

from dslmodel.engine import presence

STALE_SECONDS = 3.0
_STARTING_SECONDS = 15.0

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Document = dict[str, Any]


class Asked:
    """The options of one `status` call."""

    __slots__ = ("as_json", "coord_dir", "fail_under")

    def __init__(self, coord_dir: str = "coordination", fail_under: float | None = None) -> None:
        self.coord_dir = coord_dir
        self.fail_under = fail_under
        self.as_json = False


class Verdict:
    """What `status` found: the data, the sentences, the exit code."""

    __slots__ = ("code", "data", "errors", "warnings")

    def __init__(self, data: "Document") -> None:
        self.data = data
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.code = 0

    def fail(self, error: str, code: int = 1) -> None:
        """Add an error; the first one decides the exit code."""
        self.errors.append(error)
        self.code = self.code or code


def answer(arguments: list[str]) -> int | None:
    """Answer `telemetry status` and give the exit code; None for anything that needs the full command line."""
    asked = parse(arguments)
    if asked is None:
        return None
    verdict = inspect(asked)
    try:
        _print(verdict, as_json=asked.as_json)
    except BrokenPipeError:
        # The reader has what it wanted. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return verdict.code


def parse(arguments: list[str]) -> Asked | None:
    """Understand the plain forms of the command; None for everything else."""
    asked, words = Asked(), []
    rest = iter(arguments)
    coord_dir = None
    for argument in rest:
        name, equals, value = argument.partition("=")
        if argument == "--json":
            asked.as_json = True
        elif name in ("--coord-dir", "-c", "--fail-under"):
            value = value if equals else next(rest, "")
            if not value or value.startswith("-"):
                return None
            if name != "--fail-under":
                if coord_dir is not None:
                    return None
                coord_dir = value
            else:
                try:
                    asked.fail_under = float(value)
                except ValueError:
                    return None
                if not 0.0 <= asked.fail_under <= 1.0:
                    return None
        else:
            words.append(argument)
    if words != ["telemetry", "status"]:
        return None
    asked.coord_dir = coord_dir or asked.coord_dir
    return asked


def inspect(asked: Asked) -> Verdict:
    """Read the state of a coordination directory. Never creates or changes anything."""
    verdict = Verdict(_empty())
    state = presence.state_path(asked.coord_dir)
    try:
        daemon = presence.read_document(os.path.join(state, presence.DAEMON_FILE))
        snapshot = presence.read_document(os.path.join(state, presence.SNAPSHOT_FILE))
    except (OSError, ValueError) as error:
        verdict.fail(f"the state in {state} can't be read: {error}. Run as the user that runs the daemon, or restart the daemon")
        daemon = snapshot = None
    if daemon is None and not verdict.errors:
        missing = not os.path.isdir(asked.coord_dir)
        verdict.warnings.append(
            f"coordination directory {asked.coord_dir} does not exist; nothing has run there"
            if missing
            else f"no daemon has run on {asked.coord_dir}; start one with `dsl telemetry start-processing -c {asked.coord_dir}`"
        )
    if daemon is not None:
        _judge(verdict, daemon, snapshot)
    _check_condition(verdict, asked.fail_under)
    return verdict


def _judge(verdict: Verdict, daemon: "Document", snapshot: "Document | None") -> None:
    now = time.time()
    age = None
    if snapshot is not None:
        verdict.data.update({key: snapshot[key] for key in ("telemetry", "remediation", "security") if key in snapshot})
        age = max(now - snapshot.get("written_at", 0.0), 0.0) + snapshot.get("lag_seconds", 0.0)
    telemetry = verdict.data["telemetry"]
    is_running = presence.is_running(daemon)
    has_ticked = snapshot is not None and snapshot.get("daemon") == daemon.get("id")
    is_fresh = has_ticked and age is not None and age <= STALE_SECONDS
    who = f"the daemon (pid {daemon.get('pid')})"
    if is_running and not has_ticked and now - daemon.get("started_unix", 0.0) > _STARTING_SECONDS:
        verdict.fail(f"{who} has not finished a tick since its start; see its log")
    elif is_running and has_ticked and not is_fresh:
        verdict.fail(f"{who} hangs: its last tick is {age:.1f} s old, more than 3 ticks; see its log")
    elif not is_running and not daemon.get("stopped_at"):
        verdict.fail(f"{who} died without a clean stop; start it again with `dsl telemetry start-processing`")
    verdict.data["daemon"] = {key: daemon.get(key) for key in presence.SHOWN}
    telemetry["processing"] = is_running and (is_fresh or not has_ticked)
    telemetry["age_seconds"] = None if age is None else round(age, 3)
    telemetry.setdefault("last_health_score", None)
    if not (is_running and is_fresh):
        _forget(telemetry)


def _forget(telemetry: "Document") -> None:
    """A stale score is no score."""
    telemetry["last_health_score"] = telemetry.get("health_score")
    telemetry["health_score"] = None
    telemetry["health_state"] = "unknown"
    telemetry["receivers"] = [{**receiver, "bound": False} for receiver in telemetry.get("receivers", ())]


def _check_condition(verdict: Verdict, fail_under: float | None) -> None:
    if fail_under is None:
        return
    score = verdict.data["telemetry"]["health_score"]
    if score is None:
        verdict.fail(f"health is unknown, so it is not at least {fail_under:g}", code=5)
    elif score < fail_under:
        verdict.fail(f"health_score {score:.3f} is under {fail_under:g}", code=5)


def _empty() -> "Document":
    telemetry: Document = {
        "health_score": None,
        "health_state": "unknown",
        "last_health_score": None,
        "components": {},
        "processing": False,
        "age_seconds": None,
        "at": None,
        "engine": None,
        "window_seconds": None,
        "throughput_per_second": 0.0,
        "span_counts": {},
        "error_rates": {},
        "latency_ms": {},
        "patterns": [],
        "incidents": [],
        "learning": [],
        "edges": {},
        "telemetry_health": {"state": "unknown", "problems": []},
        "log_errors": {},
        "agents": {},
        "spans": {},
        "dropped": {},
        "receivers": [],
    }
    remediation = {"enabled": False, "mode": "off", "active_remediations": 0, "total_remediations": 0, "success_rate": None}
    return {"telemetry": telemetry, "remediation": remediation, "security": {"total_events": 0}, "daemon": None}


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds."""
    whole = int(seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int((seconds - whole) * 1000):03d}Z"


def _print(verdict: Verdict, *, as_json: bool) -> None:
    if as_json:
        envelope = {
            "timestamp": timestamp(time.time()),
            "command": "telemetry status",
            "success": verdict.code == 0,
            "data": verdict.data,
            "errors": verdict.errors,
            "warnings": verdict.warnings,
        }
        sys.stdout.write(json.dumps(envelope) + "\n")
        sys.stdout.flush()
        return
    from dslmodel.cli import status_text

    sys.stdout.write(status_text.render(verdict.data, colour=status_text.colour_allowed(sys.stdout)))
    sys.stdout.flush()
    for sentence in [f"warning: {w}" for w in verdict.warnings] + [f"error: {e}" for e in verdict.errors]:
        sys.stderr.write(sentence + "\n")
