import gzip
import io
import os
import sys
import tracemalloc
from pathlib import Path

import orjson
import pytest

from dslmodel.errors import AuditError, ConfigurationError, IngestError
from dslmodel.ingest.files import Recorder, read_header, read_inputs
from dslmodel.ingest.lines import Header, known_at, write_header
from dslmodel.records import Command, Encoding, Payload
from dslmodel.testing import at, clock_at, payload, span


def _line(seconds: float, service: str = "cart") -> bytes:
    return orjson.dumps(payload([span("a", at(seconds), 0)], service=service, encoding=Encoding.JSON).message) + b"\n"


def _write(path, *lines: bytes):
    path.write_bytes((gzip.compress if path.suffix == ".gz" else bytes)(b"".join(lines)))
    return path


def _times(paths, **options):
    return [round((known_at(item) - at(0)) / 1e9, 3) for item in read_inputs(paths, **options)]


def _command(seconds: float) -> Command:
    return Command(name="ack", arguments={"id": "f1"}, received_at=at(seconds))


# ---------------------------------------------------------------- reading


def test_several_files_are_merged_by_time(tmp_path):
    one = _write(tmp_path / "one.jsonl", _line(1), _line(4), _line(5))
    two = _write(tmp_path / "two.jsonl.gz", _line(2), _line(3), _line(9))
    assert _times([one, two]) == [1, 2, 3, 4, 5, 9]


def test_inputs_of_the_same_time_come_in_the_order_of_the_files(tmp_path):
    one = _write(tmp_path / "one.jsonl", _line(1, "first"))
    two = _write(tmp_path / "two.jsonl", _line(1, "second"))
    services = [item.message["resourceSpans"][0]["resource"]["attributes"][0]["value"]["stringValue"] for item in read_inputs([one, two])]
    assert services == ["first", "second"]


def test_a_line_out_of_order_is_received_with_the_one_before(tmp_path):
    assert _times([_write(tmp_path / "a.jsonl", _line(5), _line(3), _line(6))]) == [5, 5, 6]


def test_compression_is_told_by_content_not_by_name(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(gzip.compress(_line(1)) + gzip.compress(_line(2)))
    assert _times([path]) == [1, 2]


def test_standard_input_is_a_file_like_any(monkeypatch):
    raw = io.BytesIO(gzip.compress(_line(1) + _line(2)))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(raw)))
    assert _times(["-"]) == [1, 2]


def test_blank_lines_and_a_byte_order_mark_are_no_content(tmp_path):
    assert _times([_write(tmp_path / "a.jsonl", b"\xef\xbb\xbf", _line(1), b"\n", b"  \r\n", _line(2))]) == [1, 2]


def test_an_empty_file_has_no_inputs(tmp_path):
    assert _times([_write(tmp_path / "a.jsonl"), _write(tmp_path / "b.jsonl.gz")]) == []


def test_a_bad_line_is_named_with_file_and_number(tmp_path):
    path = _write(tmp_path / "a.jsonl", _line(1), b"\n", b'{"resourceSpans": 7}\n', _line(2))
    with pytest.raises(IngestError, match=rf"{path}:3: resourceSpans: expected an array"):
        _times([path])


def test_a_line_that_is_no_json_is_named_with_file_and_number(tmp_path):
    with pytest.raises(IngestError, match=r"a\.jsonl:2: not JSON"):
        _times([_write(tmp_path / "a.jsonl", _line(1), b"{{{\n", _line(2))])


def test_a_line_beyond_the_limit_is_refused_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("dslmodel.ingest.files.MAX_LINE_BYTES", 1000)
    path = _write(tmp_path / "a.jsonl.gz", _line(1), b" " * 100_000_000 + b"\n")
    tracemalloc.start()
    try:
        with pytest.raises(IngestError, match=r"a\.jsonl\.gz:2: longer than 1000 bytes"):
            _times([path])
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_recording_that_was_cut_off_gives_what_is_whole_and_a_warning(tmp_path, name):
    whole = b"".join(_line(second) for second in range(50))
    path = _write(tmp_path / name, whole, _line(50)[:-20])
    if path.suffix == ".gz":
        path.write_bytes(path.read_bytes()[:-20])
    warnings: list[str] = []
    times = _times([path], warn=warnings.append)
    assert times == list(range(len(times)))
    assert len(times) >= 40
    assert len(warnings) == 1
    assert str(path) in warnings[0]


def test_a_last_line_that_only_lacks_its_newline_counts(tmp_path):
    warnings: list[str] = []
    assert _times([_write(tmp_path / "a.jsonl", _line(1), _line(2)[:-1])], warn=warnings.append) == [1, 2]
    assert warnings == []


def test_damage_within_a_compressed_file_is_an_error_not_an_end(tmp_path):
    path = _write(tmp_path / "a.jsonl.gz", *(_line(second) for second in range(2000)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 50] = b"\xff" * 50
    path.write_bytes(data)
    with pytest.raises(IngestError, match=r"a\.jsonl\.gz:\d+: "):
        _times([path])


@pytest.mark.parametrize(("paths", "says"), [([], "no file to read"), (["-", "-"], "only once"), (["/nowhere/a.jsonl"], "can't be read")])
def test_what_cannot_be_opened_is_said_before_anything_is_read(paths, says):
    with pytest.raises(ConfigurationError, match=says):
        read_inputs(paths)


def test_the_header_is_known_before_the_inputs_and_the_end_after(tmp_path):
    header = Header(version="1", settings={"a": 1}, baselines=b"b", started_at=at(0))
    end = Header(ended_at=at(7))
    path = _write(tmp_path / "a.jsonl", orjson.dumps(write_header(header)), b"\n", _line(1), orjson.dumps(write_header(end)), b"\n")
    assert read_header([path]) == header
    inputs = read_inputs([path])
    assert (inputs.header, inputs.ended_at) == (header, None)
    assert len(list(inputs)) == 1
    assert inputs.ended_at == at(7)


def test_of_several_headers_the_first_is_used_and_the_others_are_named(tmp_path):
    paths = [_write(tmp_path / f"{n}.jsonl", orjson.dumps(write_header(Header(version=str(n)))), b"\n") for n in (1, 2)]
    warnings: list[str] = []
    with read_inputs(paths, warn=warnings.append) as inputs:
        assert inputs.header == Header(version="1")
    assert len(warnings) == 1
    assert "2.jsonl:1" in warnings[0]


def test_a_recording_without_header_is_fine(tmp_path):
    assert read_header([_write(tmp_path / "a.jsonl", _line(1))]) is None


def test_progress_goes_from_nothing_to_all(tmp_path):
    with read_inputs([_write(tmp_path / "a.jsonl", *(_line(second) for second in range(500)))]) as inputs:
        seen = [inputs.progress() for _ in inputs]
        assert seen == sorted(seen)
        assert inputs.progress() == 1.0


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    line = _line(1)
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(5_000):
            file.write(line)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_inputs([path, path])) == 10_000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


# ---------------------------------------------------------------- recording


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz"])
def test_a_recording_reads_back_with_header_order_and_end(tmp_path, name):
    header = Header(version="1", baselines=b"\x01", started_at=at(0))
    clock = clock_at(0)
    recorder = Recorder(tmp_path / name, header, clock=clock)
    items = [payload([span("a", at(1), 1)], received_at=at(2)), _command(3)]
    for item in items:
        recorder.write(item)
    clock.advance(9)
    recorder.close()
    recorder.close()
    inputs = read_inputs([tmp_path / name])
    first, second = inputs
    assert isinstance(first, Payload)
    assert (first.received_at, second) == (at(2), items[1])
    assert (inputs.header, inputs.ended_at) == (header, at(9))
    stats = recorder.stats()
    assert (stats.lines, stats.queued, stats.failure) == (4, 0, None)


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz"])
def test_a_recording_can_be_read_while_it_goes_on(tmp_path, name):
    recorder = Recorder(tmp_path / name, Header(version="1"))
    recorder.write(_command(1))
    while recorder.stats().lines < 2:  # the header and the command
        os.sched_yield()
    recorder.close()
    # What a kill would have left: the same bytes without the end.
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[:-10])
    warnings: list[str] = []
    assert list(read_inputs([tmp_path / name], warn=warnings.append)) == [_command(1)]
    assert len(warnings) == 1


def test_a_file_that_is_there_already_is_kept(tmp_path):
    path = tmp_path / "r.jsonl.gz"
    path.write_bytes(b"old")
    os.utime(path, ns=(at(0), at(0)))
    recorder = Recorder(path, Header(version="1"))
    recorder.close()
    assert recorder.kept == tmp_path / "r-20260101T000000Z.jsonl.gz"
    assert recorder.kept.read_bytes() == b"old"


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path):
    with pytest.raises(ConfigurationError, match="can't be recorded to"):
        Recorder(tmp_path / "missing" / "r.jsonl", Header())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_ends_the_recording_and_says_why():
    recorder = Recorder("/dev/full", Header(version="1"))
    with pytest.raises(AuditError, match=r"can't be written.*No space left"):
        recorder.close()
    with pytest.raises(AuditError, match="No space left"):
        recorder.write(_command(1))
    assert "No space left" in (recorder.stats().failure or "")


def test_a_recording_that_cannot_keep_up_ends_rather_than_having_a_hole(tmp_path, monkeypatch):
    monkeypatch.setattr("dslmodel.ingest.files._QUEUED_ITEMS", 0)
    recorder = Recorder(tmp_path / "r.jsonl", Header(version="1"))
    with pytest.raises(AuditError, match="can't keep up"):
        recorder.write(_command(1))
    with pytest.raises(AuditError, match="can't keep up"):
        recorder.close()
    assert read_header([tmp_path / "r.jsonl"]) == Header(version="1")
