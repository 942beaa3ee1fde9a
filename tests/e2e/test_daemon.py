"""The daemon as a real process: its life, its death, its ports, its API, and what the command line says of it."""

import json
import os
import shlex
import signal
import socket
import subprocess
import threading
import time
from importlib.resources import files

import httpx
import jsonschema
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client.parser import text_string_to_metric_families

from dslmodel.audit.store import Store
from tests.e2e.running import DSL, environment, process, running_daemon, send_spans, wait_until
from tests.unit.api.samples import finding

PORTS = {"DSLMODEL_API_PORT": "0", "DSLMODEL_OTLP_GRPC_PORT": "0", "DSLMODEL_OTLP_HTTP_PORT": "0"}


def schema(name):
    return json.loads(files("dslmodel.cli").joinpath("schemas", f"{name}.json").read_text())


def dsl(directory, line, **variables):
    """One command to its end."""
    command = [str(DSL), *shlex.split(line)]
    env = environment(XDG_CONFIG_HOME=str(directory), **variables)
    return subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, timeout=60, check=False)


def status(directory):
    """Exit code and data of status, checked against its schema."""
    done = dsl(directory, "--json telemetry status")
    envelope = json.loads(done.stdout)
    jsonschema.validate(envelope["data"], schema("telemetry_status"))
    return done.returncode, envelope["data"]


def presence(directory, coord_dir="coordination"):
    try:
        return json.loads((directory / coord_dir / ".dslmodel" / "daemon.json").read_bytes())
    except (OSError, ValueError):
        return {}


def token(directory):
    return (directory / "coordination" / ".dslmodel" / "token").read_text().strip()


# ---------------------------------------------------------------- life and death


def test_spans_of_the_stock_sdk_show_in_status_within_two_seconds(tmp_path):
    with running_daemon(tmp_path) as daemon:
        provider = TracerProvider(resource=Resource.create({"service.name": "over-grpc"}), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"http://{daemon.otlp_grpc}", insecure=True)))
        with provider.get_tracer("test").start_as_current_span("GET /items/17"):
            pass
        provider.force_flush()
        provider.shutdown()
        send_spans(f"http://{daemon.otlp_http}/v1/traces", service="over-http", count=3)
        sent_at = time.monotonic()
        counts = wait_until(
            lambda: c if {"over-grpc", "over-http"} <= (c := daemon.services()).keys() else None, seconds=10, what="both services show"
        )
        assert time.monotonic() - sent_at < 2 + 1  # a second for the probes themselves on a busy machine
        assert sum(counts["over-http"].values()) == 3
        code, data = status(tmp_path)
        assert code == 0
        assert data["telemetry"]["processing"] is True
        assert [receiver["bound"] for receiver in data["telemetry"]["receivers"]] == [True] * 3


def test_sigterm_drains_and_leaves_a_clean_mark(tmp_path):
    with running_daemon(tmp_path) as daemon:
        send_spans(f"http://{daemon.otlp_http}/v1/traces", service="last-words", count=2)
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(20) == 0
    code, data = status(tmp_path)
    assert code == 0
    assert data["daemon"]["stopped_at"]
    assert data["telemetry"]["processing"] is False
    assert data["telemetry"]["health_score"] is None
    # What was acknowledged before the signal is counted.
    assert data["telemetry"]["spans"]["accepted"] == 2


def test_ctrl_c_drains_too_and_exits_130(tmp_path):
    with running_daemon(tmp_path) as daemon:
        daemon.process.send_signal(signal.SIGINT)
        assert daemon.process.wait(20) == 130
    assert status(tmp_path)[0] == 0


def test_a_killed_daemon_is_told_from_a_stopped_one_and_can_be_started_again(tmp_path):
    with running_daemon(tmp_path) as daemon:
        send_spans(f"http://{daemon.otlp_http}/v1/traces", service="web", count=2)
        wait_until(lambda: "web" in daemon.services(), seconds=10, what="the service shows")
        daemon.process.kill()
        daemon.process.wait(20)
    code, data = status(tmp_path)
    assert code == 1
    assert data["telemetry"]["health_score"] is None
    assert data["telemetry"]["health_state"] == "unknown"
    assert data["telemetry"]["last_health_score"] is not None
    with running_daemon(tmp_path):
        assert status(tmp_path)[0] == 0


def test_a_hanging_daemon_is_not_alive(tmp_path):
    with running_daemon(tmp_path) as daemon:
        # Before its first tick it would be "starting" for some seconds more.
        wait_until(lambda: status(tmp_path)[1]["telemetry"]["age_seconds"] is not None, seconds=10, what="the first tick")
        daemon.process.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: status(tmp_path)[0] == 1, seconds=10, what="status exits 1")
            assert status(tmp_path)[1]["telemetry"]["health_score"] is None
        finally:
            daemon.process.send_signal(signal.SIGCONT)
        wait_until(lambda: status(tmp_path)[0] == 0, seconds=10, what="status exits 0 again")


def test_a_second_daemon_is_a_standby_that_writes_nothing_and_takes_over(tmp_path):
    with running_daemon(tmp_path) as first:
        before = presence(tmp_path)
        log = tmp_path / "second.log"
        command = [str(DSL), "telemetry", "start-processing"]
        with process(command, log=log, cwd=tmp_path, env=environment(XDG_CONFIG_HOME=str(tmp_path), **PORTS)) as second:
            wait_until(lambda: "Standby" in log.read_text(), seconds=20, what="the second says that it is a standby")
            assert f"pid {first.process.pid}" in log.read_text()
            assert presence(tmp_path) == before
            first.process.kill()
            first.process.wait(20)
            wait_until(lambda: presence(tmp_path).get("pid") == second.pid, seconds=20, what="the second takes over")
            wait_until(lambda: status(tmp_path)[0] == 0, seconds=10, what="status is good again")


def test_a_standby_ends_cleanly_without_touching_anything(tmp_path):
    with running_daemon(tmp_path):
        before = presence(tmp_path)
        log = tmp_path / "second.log"
        command = [str(DSL), "telemetry", "start-processing"]
        with process(command, log=log, cwd=tmp_path, env=environment(XDG_CONFIG_HOME=str(tmp_path), **PORTS)) as second:
            wait_until(lambda: "Standby" in log.read_text(), seconds=20, what="the second says that it is a standby")
            second.terminate()
            assert second.wait(20) == 0
        assert presence(tmp_path) == before


def test_daemons_in_several_directories_live_side_by_side(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with running_daemon(tmp_path / "a") as one, running_daemon(tmp_path / "b", coord_dir="deep/down/coordination") as other:
        send_spans(f"http://{one.otlp_http}/v1/traces", service="mine", count=1)
        wait_until(lambda: "mine" in one.services(), seconds=10, what="the service shows")
        assert dsl(tmp_path / "b", "-c deep/down/coordination telemetry status").returncode == 0
        assert other.coord_dir.is_dir()


def test_sighup_reloads_what_can_be_reloaded_and_keeps_running(tmp_path):
    with running_daemon(tmp_path) as daemon:
        (tmp_path / "dslmodel.toml").write_text("[telemetry]\nwindow_seconds = 30\n[detection]\nmin_spans = 7\n")
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: status(tmp_path)[1]["telemetry"]["window_seconds"] == 30, seconds=10, what="the window of the file is in force")
        log = (tmp_path / "daemon.log").read_text()
        assert "need a restart: detection" in log
        (tmp_path / "dslmodel.toml").write_text("[telemetry]\nwindow_seconds = -1\n")
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the old ones stay" in (tmp_path / "daemon.log").read_text(), seconds=10, what="the bad file is said")
        assert status(tmp_path)[0] == 0


# ---------------------------------------------------------------- refusals


def test_a_port_that_was_set_and_is_taken_stops_the_start_and_names_who_has_it(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = str(holder.getsockname()[1])
        done = dsl(tmp_path, "telemetry start-processing --otlp-http-port " + port, DSLMODEL_API_PORT="0", DSLMODEL_OTLP_GRPC_PORT="0")
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert f"pid {os.getpid()}" in done.stderr
    assert "DSLMODEL_OTLP_HTTP_PORT" in done.stderr
    assert "Traceback" not in done.stderr
    assert dsl(tmp_path, "telemetry status").returncode == 0  # it never ran


@pytest.mark.parametrize(
    ("token_mode", "complaint"), [(None, "needs token_file"), (0o644, "chmod 600")], ids=["no token file", "readable by others"]
)
def test_a_bind_that_others_reach_is_refused_without_a_safe_token_file(tmp_path, token_mode, complaint):
    variables = dict(PORTS)
    if token_mode is not None:
        (tmp_path / "token").write_text("secret\n")
        (tmp_path / "token").chmod(token_mode)
        variables["DSLMODEL_TOKEN_FILE"] = str(tmp_path / "token")
    done = dsl(tmp_path, "telemetry start-processing --bind 0.0.0.0", **variables)
    assert done.returncode == 3
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_coordination_directory_that_cannot_be_made_is_exit_3(tmp_path):
    (tmp_path / "file").write_text("")
    done = dsl(tmp_path, "--json telemetry start-processing -c file/below", **PORTS)
    assert done.returncode == 3
    assert "--coord-dir" in json.loads(done.stdout)["errors"][0]


@pytest.mark.parametrize("line", ["status", "findings", "incidents", "explain abcd", "ack abcd", "baseline show", "baseline reset"])
def test_readers_never_create_a_missing_directory(tmp_path, line):
    done = dsl(tmp_path, f"telemetry {line}")
    assert done.returncode in {0, 1}
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- the API


def test_the_api_answers_probes_metrics_status_and_events_and_refuses_strangers(tmp_path):
    with running_daemon(tmp_path) as daemon, httpx.Client(base_url=f"http://{daemon.api}", timeout=10) as client:
        send_spans(f"http://{daemon.otlp_http}/v1/traces", service="web", count=2)
        assert wait_until(lambda: client.get("/readyz").status_code == 200, seconds=10, what="ready")
        assert client.get("/livez").text == "ok\n"
        names = {sample.name for family in text_string_to_metric_families(client.get("/metrics").text) for sample in family.samples}
        assert {"dslmodel_health_score", "dslmodel_spans_total", "dslmodel_queue_items", "dslmodel_tick_duration_seconds_bucket"} <= names
        jsonschema.validate(client.get("/api/v1/status").json(), schema("telemetry_status"))
        with client.stream("GET", "/api/v1/events") as stream:
            lines = stream.iter_lines()
            event = next(line for line in lines if line.startswith("event:"))
            assert event == "event: snapshot"
        assert client.get("/api/v1/status", headers={"Host": "evil.example"}).status_code == 403
        assert client.get("/api/v1/status", headers={"Origin": "https://evil.example"}).status_code == 403
        assert client.post("/api/v1/baseline/reset").status_code == 401
        good = {"Authorization": f"Bearer {token(tmp_path)}"}
        assert client.post("/api/v1/baseline/reset", headers=good).json() == {"service": None, "reset": True}
        assert dsl(tmp_path, "telemetry baseline reset").returncode == 0
        assert [event.by for event in Store.open_readonly(daemon.coord_dir / ".dslmodel" / "state.db").events()] == ["api", "api"]


def test_with_a_token_file_every_call_and_every_export_bears_it(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    secret.chmod(0o600)
    with running_daemon(tmp_path, options="--bind 0.0.0.0", DSLMODEL_TOKEN_FILE=str(secret)) as daemon:
        local = daemon.api.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"http://{local}/api/v1/status").status_code == 401
        assert httpx.get(f"http://{local}/livez").status_code == 200
        good = {"Authorization": "Bearer hunter2", "Host": "dslmodel.example:8020"}
        assert httpx.get(f"http://{local}/api/v1/status", headers=good).status_code == 200
        otlp = daemon.otlp_http.replace("0.0.0.0", "127.0.0.1")
        refused = httpx.post(f"http://{otlp}/v1/traces", content=b"{}", headers={"Content-Type": "application/json"})
        assert refused.status_code == 401
        assert dsl(tmp_path, "telemetry baseline reset").returncode == 0


def test_event_streams_end_with_the_daemon(tmp_path):
    with running_daemon(tmp_path) as daemon:
        ended = threading.Event()

        def read():
            with httpx.stream("GET", f"http://{daemon.api}/api/v1/events", timeout=30) as stream:
                for _line in stream.iter_lines():
                    pass
            ended.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        time.sleep(0.5)
        daemon.process.terminate()
        assert daemon.process.wait(20) == 0
        assert ended.wait(5)


# ---------------------------------------------------------------- findings, with and without a daemon


def test_findings_are_marked_inline_without_a_daemon_and_ended_by_a_restart(tmp_path):
    with running_daemon(tmp_path):
        pass
    with Store.open(tmp_path / "coordination" / ".dslmodel" / "state.db") as store:
        store.record([finding("abcd1111")], [])
    done = dsl(tmp_path, "--json telemetry ack abcd")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)["data"]
    jsonschema.validate(data, schema("telemetry_ack"))
    assert data["finding"]["acknowledged_at"]
    assert [row["id"] for row in json.loads(dsl(tmp_path, "--json telemetry findings --open").stdout)["data"]["findings"]] == ["abcd1111"]
    explained = dsl(tmp_path, "telemetry explain abcd")
    assert explained.returncode == 0
    assert "error ratio" in explained.stdout
    done = dsl(tmp_path, "--json telemetry false-positive abcd1111")
    assert json.loads(done.stdout)["data"]["finding"]["false_positive_at"]
    with Store.open(tmp_path / "coordination" / ".dslmodel" / "state.db") as store:
        store.record([finding("abcd2222")], [])
    with running_daemon(tmp_path):
        rows = json.loads(dsl(tmp_path, "--json telemetry findings --open").stdout)["data"]["findings"]
        assert rows == []  # what is still wrong is found anew
        refused = dsl(tmp_path, "telemetry ack ffff")
        assert refused.returncode == 1
        assert "no finding has an id" in refused.stderr


def test_a_daemon_whose_api_does_not_answer_is_exit_4(tmp_path):
    with running_daemon(tmp_path) as daemon:
        daemon.process.send_signal(signal.SIGSTOP)
        try:
            path = daemon.coord_dir / ".dslmodel" / "daemon.json"
            document = json.loads(path.read_text())
            path.write_text(json.dumps(document | {"api": "http://127.0.0.1:9"}))  # the discard port: nobody listens
            done = dsl(tmp_path, "telemetry ack abcd")
            assert done.returncode == 4
            assert "does not answer" in done.stderr
        finally:
            daemon.process.send_signal(signal.SIGCONT)


# ---------------------------------------------------------------- what it prints


def test_with_json_it_prints_one_envelope_a_line_and_the_summary_last(tmp_path):
    log = tmp_path / "out.log"
    command = [str(DSL), "--json", "telemetry", "start-processing"]
    with (
        log.open("wb") as out,
        subprocess.Popen(
            command, cwd=tmp_path, env=environment(XDG_CONFIG_HOME=str(tmp_path), **PORTS), stdout=out, stderr=subprocess.DEVNULL
        ) as daemon,
    ):
        wait_until(lambda: presence(tmp_path).get("api"), seconds=30, what="it runs")
        daemon.terminate()
        assert daemon.wait(20) == 0
    envelopes = [json.loads(line) for line in log.read_text().splitlines()]
    for envelope in envelopes:
        jsonschema.validate(envelope, schema("envelope"))
        jsonschema.validate(envelope["data"], schema("telemetry_start_processing"))
    assert [envelope["data"]["event"] for envelope in envelopes] == ["started", "stopped"]
    assert envelopes[-1]["data"]["ticks"] >= 1


def test_watch_prints_an_envelope_a_second_until_it_is_interrupted(tmp_path):
    with running_daemon(tmp_path):
        command = [str(DSL), "--json", "telemetry", "status", "--watch"]
        with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) as watching:
            envelopes = [json.loads(watching.stdout.readline()) for _ in range(3)]
            watching.send_signal(signal.SIGINT)
            assert watching.wait(20) == 130
    assert len({envelope["timestamp"] for envelope in envelopes}) == 3
    assert all(envelope["success"] for envelope in envelopes)


def test_a_reader_that_closes_its_pipe_is_no_error(tmp_path):
    with running_daemon(tmp_path):
        line = f"{shlex.quote(str(DSL))} --json telemetry findings | head -c 0; echo ${{PIPESTATUS[0]}}"
        command = ["bash", "-c", line]
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout.strip() == "0"
        assert done.stderr == ""


# ---------------------------------------------------------------- record and replay


def test_a_recording_plays_in_real_time_and_the_daemon_ends_with_it(tmp_path):
    with running_daemon(tmp_path, options="--record tape.jsonl") as daemon:
        send_spans(f"http://{daemon.otlp_http}/v1/traces", service="recorded", count=3)
        wait_until(lambda: "recorded" in daemon.services(), seconds=10, what="the service shows")
        daemon.process.terminate()
        assert daemon.process.wait(20) == 0
    replayed = dsl(tmp_path, "--json telemetry replay tape.jsonl")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    jsonschema.validate(json.loads(replayed.stdout)["data"], schema("telemetry_replay"))
    assert dsl(tmp_path, "--json telemetry replay tape.jsonl").stdout == replayed.stdout
    done = dsl(tmp_path, "--json -c other telemetry start-processing --replay tape.jsonl", **PORTS)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])["data"]
    assert summary["spans"]["accepted"] == 3
    assert summary["recording_failure"] is None
