"""README.md as a user follows it: its own lines are run, with only the ports changed."""

import http.client
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.running import Daemon, environment, free_port, process, running_daemon, send_spans, wait_until

BLOCKS = re.findall(r"^```bash\n(.*?)^```", (Path(__file__).parents[2] / "README.md").read_text(), re.MULTILINE | re.DOTALL)

# "Your own service", which knows nothing of telemetry.
APP = """
import os
from flask import Flask
app = Flask("shop")

@app.get("/items/<int:number>")
def item(number):
    return {"item": number}

app.run(port=int(os.environ["PORT"]))
"""


def block(*having: str) -> list[str]:
    """The lines of the one block that has all of these words, without comments and what only installs."""
    (text,) = (b for b in BLOCKS if all(word in b for word in having))
    lines = [line.split(" #")[0].strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith(("pip ", "opentelemetry-bootstrap "))]


def lines_for(protocol: str, daemon: Daemon) -> str:
    """What the README says to type in the service's terminal."""
    lines = block("OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
    if protocol != "grpc":
        lines = [*lines[:-1], *block("OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf")]
    assert lines[-1] == "opentelemetry-instrument python app.py"
    text = "\n".join([*lines[:-1], f"exec {lines[-1]}"])
    assert protocol in text
    return text.replace("127.0.0.1:4317", daemon.otlp_grpc).replace("127.0.0.1:4318", daemon.otlp_http)


@contextmanager
def serving(daemon: Daemon, protocol: str) -> Iterator[int]:
    folder = daemon.directory / "shop"
    folder.mkdir()
    (folder / "app.py").write_text(APP)
    port = free_port()
    command = ["bash", "-c", lines_for(protocol, daemon)]
    with process(command, log=folder / "app.log", cwd=folder, env=environment(PORT=str(port))):
        wait_until(lambda: get(port, "/items/1"), seconds=30, what=f"the service answers; its log: {folder / 'app.log'}")
        yield port


def get(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def run(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_service_of_one_s_own_shows_in_status(tmp_path: Path, protocol: str) -> None:
    init, start = block("dsl init")
    assert start == "dsl telemetry start-processing"
    assert run(init, tmp_path).returncode == 0
    with running_daemon(tmp_path) as daemon, serving(daemon, protocol) as port:
        assert all(get(port, f"/items/{number}") for number in range(20))
        wait_until(lambda: daemon.services().get("shop"), seconds=20, what="the service shows in status")
        text, counts, findings = (run(line, tmp_path) for line in block("dsl telemetry status"))
        assert text.returncode == counts.returncode == findings.returncode == 0
        assert "shop" in text.stdout
        assert list(json.loads(counts.stdout)["shop"]) == ["GET /items/<int:number>"]


def test_a_recording_is_kept_and_replayed(tmp_path: Path) -> None:
    start, replay = block("--record today.jsonl")
    assert start == "dsl telemetry start-processing --record today.jsonl"
    with running_daemon(tmp_path, options="--record today.jsonl") as daemon:
        send_spans(f"http://{daemon.otlp_http}/v1/traces", service="shop", count=20)
        wait_until(lambda: daemon.services().get("shop"), seconds=15, what="the service shows in status")
    first, second = run(replay, tmp_path), run(replay, tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    assert json.loads(first.stdout)["data"]["findings"] == []
    assert first.stdout == second.stdout
