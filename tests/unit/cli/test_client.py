"""The client of the daemon's API, against a small server that answers what a test wants."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from dslmodel.cli.client import Client, running_daemon
from dslmodel.errors import DaemonUnreachable, DslModelError
from tests.unit.cli.places import daemon_ran, killed


@contextmanager
def server(status, body):
    calls = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            calls.append((self.command, self.path, self.headers.get("Authorization")))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815 - the names that the standard library asks for

        def log_message(self, *_arguments):
            pass

    running = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}", calls
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


def test_calls_bear_the_token_and_leave_out_what_is_not_given():
    with server(200, b'{"findings": []}') as (url, calls):
        assert Client(url, "s3cret").get("/api/v1/findings", {"service": "a b", "since": None}) == {"findings": []}
        Client(url, None).post("/api/v1/findings/ab cd/ack")
    assert calls == [("GET", "/api/v1/findings?service=a+b", "Bearer s3cret"), ("POST", "/api/v1/findings/ab%20cd/ack", None)]


@pytest.mark.parametrize(
    ("status", "body", "kind", "complaint"),
    [
        (404, json.dumps({"error": "no finding"}).encode(), DslModelError, "no finding"),
        (503, b"{}", DslModelError, "status 503"),
        (200, b"<html>", DaemonUnreachable, "is it a dslmodel daemon"),
    ],
)
def test_answers_that_are_no_success_are_errors(status, body, kind, complaint):
    with server(status, body) as (url, _calls), pytest.raises(kind, match=complaint):
        Client(url, None).get("/")


def test_a_daemon_that_does_not_answer_is_unreachable():
    with pytest.raises(DaemonUnreachable, match="does not answer"):
        Client("http://127.0.0.1:9", None).get("/")


@pytest.mark.parametrize("place", [None, killed(), {"stopped_at": "2027-01-15T08:00:00Z"}])
def test_where_none_runs_there_is_no_client(tmp_path, place):
    if place is not None:
        daemon_ran(tmp_path, **place)
    assert running_daemon(tmp_path) is None


def test_a_daemon_that_runs_is_reached_with_its_token(tmp_path):
    with server(200, b"{}") as (url, calls):
        state = daemon_ran(tmp_path, api=url)
        token = state.own_token()
        running_daemon(tmp_path).get("/api/v1/status")
    assert calls == [("GET", "/api/v1/status", f"Bearer {token}")]


def test_files_that_cannot_be_read_are_no_reason_to_act_inline(tmp_path):
    state = daemon_ran(tmp_path)
    (state.path / "daemon.json").write_text("{")
    with pytest.raises(DaemonUnreachable, match="can't tell"):
        running_daemon(tmp_path)
