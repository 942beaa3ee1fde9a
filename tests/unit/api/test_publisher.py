"""The status document after each tick."""

import json

from dslmodel.api.publisher import Publisher
from dslmodel.api.shapes import Surroundings
from dslmodel.clock import SECOND
from tests.unit.api.samples import NOW, report


class Wall:
    """Seconds that a test moves."""

    now = NOW / SECOND

    def __call__(self):
        return self.now


def publisher(write):
    identity = {"id": "run-1", "pid": 7, "started_at": "2027-01-15T08:00:00Z", "api": None}
    wall = Wall()
    return Publisher(write, lambda: Surroundings(processing=True), identity, wall), wall


def test_every_tick_is_written_with_when_and_by_whom():
    written = []
    made, _ = publisher(written.append)
    made.publish(report())
    document = json.loads(written[-1])
    assert document["daemon"] == "run-1"
    assert document["written_at"] == NOW / SECOND
    assert document["telemetry"]["health_score"] == 0.72


def test_before_the_first_tick_nothing_is_known():
    made, _ = publisher(lambda _data: None)
    telemetry = made.status()["telemetry"]
    assert telemetry["health_score"] is None
    assert telemetry["age_seconds"] is None


def test_the_age_counts_from_the_tick_and_includes_how_late_it_was():
    made, wall = publisher(lambda _data: None)
    made.publish(report(lag_seconds=0.5))
    wall.now += 1.25
    assert made.status()["telemetry"]["age_seconds"] == 1.75


def test_while_catching_up_not_every_tick_is_written():
    written = []
    made, _ = publisher(written.append)
    for second in range(100):
        made.publish(report(NOW + second * SECOND, lag_seconds=100.0 - second + 1))
    assert len(written) == 1
    made.flush()
    assert json.loads(written[-1])["telemetry"]["at"] == "2027-01-15T08:01:39Z"


def test_a_full_disk_is_counted_and_the_status_in_memory_stays_right():
    def full(_data):
        raise OSError(28, "No space left on device")

    made, _ = publisher(full)
    made.publish(report())
    made.publish(report(NOW + SECOND))
    assert made.failures == 2
    assert made.status()["telemetry"]["at"] == "2027-01-15T08:00:01Z"
