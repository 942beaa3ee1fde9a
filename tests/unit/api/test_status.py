"""The API's answers."""

import threading

import pytest

from dslmodel.api.events import Hub, encode
from dslmodel.api.metrics import Meters, Metrics
from dslmodel.api.publisher import Publisher
from dslmodel.api.shapes import Surroundings
from dslmodel.api.status import Backend, StatusApi
from dslmodel.clock import SystemClock
from dslmodel.engine.runner import Outputs, Runner
from dslmodel.ingest.buffer import Buffer
from dslmodel.records import Acceptance, Command
from tests.unit.api.caller import Caller
from tests.unit.api.samples import Records, Ticked, finding, incident, report, snapshot


class Marking:
    """A pipeline that acknowledges findings."""

    def __init__(self):
        self.commands = []
        self._changed = []

    def feed(self, item):
        assert isinstance(item, Command)
        self.commands.append((item.name, dict(item.arguments)))
        if item.name == "ack":
            self._changed.append(finding(item.arguments["id"], acknowledged_at=item.received_at))
        return Acceptance(accepted=1)

    def tick(self, now):
        changed, self._changed = self._changed, []
        return Ticked(snapshot(now), changed)

    def dump_baselines(self):
        return b""

    def describe_baselines(self, service=None):
        return [{"service": service or "all", "normal": float("nan")}]


class Memory(Records):
    """A store for the runner, too."""

    def save_baselines(self, data):
        pass


class Place:
    """An API over a real runner, with no network."""

    def __init__(self):
        self.records = Memory([finding("abcd1111")], [incident("i0001111", ("abcd1111",))])
        self.buffer = Buffer(items=10, size=1 << 20)
        self.pipeline = Marking()
        self.runner = Runner(self.pipeline, self.buffer, SystemClock(), Outputs(keeper=self.records))
        self.hub = Hub()
        self.notes = []
        self.publisher = Publisher(lambda _data: None, lambda: Surroundings(processing=True), {"id": "x", "pid": 1})
        meters = Meters(
            snapshot=lambda: self.runner.snapshot,
            runner=lambda: self.runner.stats,
            buffer=self.buffer.stats,
            received=list,
            forwarded=dict,
            version="1",
        )
        self.backend = Backend(
            runner=self.runner,
            records=self.records,
            intake=self.buffer,
            publisher=self.publisher,
            metrics=Metrics(meters),
            hub=self.hub,
            is_ready=lambda: self.runner.snapshot is not None,
            note=lambda name, arguments, _at: self.notes.append((name, arguments)),
        )
        self.runner.observe(self.publisher.publish)
        self.runner.observe(self.hub.publish)


@pytest.fixture
def place():
    place = Place()
    yield place
    place.runner.stop(timeout_seconds=2)


@pytest.fixture
def api(place):
    return Caller(StatusApi(place.backend).app(), on_loop=place.hub.attach)


def test_alive_and_ready_only_while_it_ticks(place, api):
    assert api.get("/livez").status_code == 503
    assert api.get("/readyz").status_code == 503
    place.runner.start()
    seen = threading.Event()
    place.runner.observe(lambda _report: seen.set())
    assert seen.wait(1.5)
    assert api.get("/livez").text == "ok\n"
    assert api.get("/readyz").text == "ok\n"


def test_status_has_the_paths_of_the_command_line(place, api):
    place.publisher.publish(report())
    status = api.get("/api/v1/status").json()
    assert status["telemetry"]["health_score"] == 0.72
    assert status["remediation"]["enabled"] is False
    assert status["security"]["total_events"] == 0
    assert status["daemon"]["pid"] == 1
    assert "token_file" not in status["daemon"]


def test_lists_take_filters_and_bad_ones_are_400(api):
    assert [row["id"] for row in api.get("/api/v1/findings?service=payments&open=true").json()["findings"]] == ["abcd1111"]
    assert api.get("/api/v1/findings?service=other").json() == {"findings": []}
    assert [row["id"] for row in api.get("/api/v1/incidents?since=2027-01-01T00:00:00Z").json()["incidents"]] == ["i0001111"]
    response = api.get("/api/v1/findings?since=soon")
    assert response.status_code == 400
    assert "neither a length of time" in response.json()["error"]


def test_explain_takes_the_beginning_of_an_id_and_an_unknown_one_is_404(api):
    assert api.get("/api/v1/explain/i000").json()["kind"] == "incident"
    assert api.get("/api/v1/explain/ffff").status_code == 404


def test_what_does_not_exist_is_404_and_405_in_json(api):
    assert "no such path" in api.get("/api/v2").json()["error"]
    response = api.get("/api/v1/findings/abcd/ack")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"


def test_metrics_are_text_for_prometheus(api):
    response = api.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert "dslmodel_health_score" in response.text


def test_baselines_are_read_on_the_pipelines_thread_and_are_valid_json(place, api):
    place.runner.start()
    assert api.get("/api/v1/baseline?service=web").json() == {"baselines": [{"service": "web", "normal": None}]}


def test_a_command_is_answered_after_the_tick_that_took_it_in_and_written_down(place, api):
    place.runner.start()
    response = api.post("/api/v1/findings/abcd/ack")
    assert response.status_code == 200
    assert response.json()["finding"]["acknowledged_at"] is not None
    assert place.pipeline.commands == [("ack", {"id": "abcd1111"})]
    assert place.notes == [("ack", {"id": "abcd1111"})]


def test_a_command_on_an_unknown_finding_is_404_and_never_queued(place, api):
    assert api.post("/api/v1/findings/ffff/false-positive").status_code == 404
    assert place.buffer.stats().items == 0


def test_a_command_that_finds_the_queue_full_is_503(place, api):
    for _ in range(10):
        place.buffer.put_input(lambda at: Command(name="x", arguments={}, received_at=at), 1)
    assert api.post("/api/v1/baseline/reset").status_code == 503


@pytest.mark.parametrize(
    ("path", "sent"),
    [("", {"json": {"service": "web"}}), ("", {"content": b"rubbish"}), ("?servce=web", {})],
    ids=["body", "rubbish", "misspelt"],
)
def test_a_reset_whose_service_is_not_where_it_belongs_costs_no_baseline(place, api, path, sent):
    assert api.post(f"/api/v1/baseline/reset{path}", **sent).status_code == 400
    assert place.buffer.stats().items == 0


def test_events_name_the_state_and_what_changed():
    events = encode(report(findings=[finding()], incidents=[incident()]))
    assert [event.split(b"\n")[0] for event in events] == [b"event: snapshot", b"event: finding", b"event: incident"]
    assert all(event.endswith(b"\n\n") for event in events)
    assert b"2027-01-15T08:00:00Z" in events[0]
