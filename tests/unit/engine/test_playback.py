"""A recording in real time."""

from dslmodel.clock import SECOND, VirtualClock
from dslmodel.engine.playback import Playback
from dslmodel.errors import IngestError
from dslmodel.ingest.buffer import Buffer
from dslmodel.records import Command

START = 1_800_000_000 * SECOND


def recorded(*seconds):
    return [Command(name=str(second), arguments={}, received_at=START + round(second * SECOND)) for second in seconds]


def names(items):
    return [item.name for item in items]


def test_inputs_come_out_in_their_second_merged_with_commands():
    clock = VirtualClock(START)
    buffer = Buffer(items=10, size=10_000, clock=clock)
    playback = Playback(iter(recorded(0.2, 0.9, 1.5, 3)), buffer)
    assert playback.started_at == START + SECOND // 5
    clock.advance(0.5)
    buffer.put_input(lambda at: Command(name="mine", arguments={}, received_at=at), 100)
    assert names(playback.drain(START + SECOND)) == ["0.2", "mine", "0.9"]
    assert names(playback.drain(START + SECOND)) == []
    assert not playback.is_over
    assert names(playback.drain(START + 4 * SECOND)) == ["1.5", "3"]
    assert playback.is_over


def test_an_empty_recording_is_over_at_once():
    playback = Playback(iter([]), Buffer(items=1, size=1000, clock=VirtualClock(START)))
    assert playback.drain(START) == []
    assert playback.is_over
    assert playback.failure is None


def test_a_line_that_cannot_be_used_ends_the_recording_and_is_named():
    def broken():
        yield from recorded(0.1)
        raise IngestError("file.jsonl:2: no JSON")

    playback = Playback(broken(), Buffer(items=1, size=1000, clock=VirtualClock(START)))
    assert names(playback.drain(START + SECOND)) == ["0.1"]
    assert playback.is_over
    assert playback.failure == "file.jsonl:2: no JSON"
