"""Recordings: JSON lines -> inputs in the order of time, and inputs -> JSON lines.

Reading streams: of each file one line is held, however long the files are. Plain or gzip is told by content; `-` is standard input.
"""

import contextlib
import gzip
import heapq
import io
import os
import stat
import sys
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, Protocol, Self

import orjson

from dslmodel.clock import Clock, SystemClock
from dslmodel.errors import AuditError, ConfigurationError, IngestError
from dslmodel.ingest.lines import Header, json_document, known_at, read_document, read_header_document, write_document, write_header
from dslmodel.ingest.times import format_time
from dslmodel.records import Input, Payload

MAX_LINE_BYTES = 64 * 1024 * 1024
_GZIP_MAGIC = b"\x1f\x8b"


def read_inputs(paths: Sequence[str | os.PathLike[str]], *, warn: Callable[[str], None] | None = None) -> "Inputs":
    """Everything in these files, merged by time.

    Each file is taken to be in the order of time: a line older than one before it counts as received with that one.

    Args:
        paths: `*.jsonl` or `*.jsonl.gz`; `-` for standard input.
        warn: Gets a sentence when a file ends within a line (a recording that was cut off), or has a header that isn't used.

    Raises:
        ConfigurationError: A file can't be opened.
        IngestError: While iterating: a line that can't be used, with file, number and what is wrong.
    """
    return Inputs(paths, warn or _no_warning)


def read_header(paths: Sequence[str | os.PathLike[str]]) -> Header | None:
    """The first header that one of these files begins with. Standard input can't be read twice: take `read_inputs(…).header`."""
    if any(os.fspath(path) == "-" for path in paths):
        raise ConfigurationError("the header of standard input can't be read beforehand: take the one of read_inputs")
    with Inputs(paths, _no_warning) as inputs:
        return inputs.header


class Inputs(Iterator[Input]):
    """An iterator over the inputs of several files. `header` is known at once, `ended_at` when the iteration is over."""

    def __init__(self, paths: Sequence[str | os.PathLike[str]], warn: Callable[[str], None]) -> None:
        names = [os.fspath(path) for path in paths]
        if not names:
            raise ConfigurationError("no file to read: name at least one *.jsonl or *.jsonl.gz, or - for standard input")
        if names.count("-") > 1:
            raise ConfigurationError("- (standard input) can be given only once")
        self._files: list[_File] = []
        try:
            for name in names:
                self._files.append(_File(name, warn))
        except BaseException:
            self.close()
            raise
        headed = [file for file in self._files if file.header is not None]
        for file in headed[1:]:
            warn(f"{file.name}:1: this header isn't used; the one of {headed[0].name} is")
        self.header: Header | None = headed[0].header if headed else None
        self._merged = heapq.merge(*(file.inputs() for file in self._files), key=itemgetter(0))

    def __next__(self) -> Input:
        try:
            return next(self._merged)[1]
        except IngestError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ended_at(self) -> int | None:
        """When the recorded run ended, as far as the lines read so far tell; None when it was cut off or is no recording of ours."""
        return max((file.ended_at for file in self._files if file.ended_at is not None), default=None)

    def progress(self) -> float | None:
        """How much of the files has been read, 0..1; None when their size isn't known (standard input, pipes)."""
        sizes = [file.size for file in self._files]
        if not all(sizes):
            return None
        return sum(file.position() for file in self._files) / sum(sizes)

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()


class _Lines(Protocol):
    """What gives lines of bytes."""

    def readline(self, size: int, /) -> bytes: ...


class _File:
    """One file's lines as inputs that never go back in time."""

    def __init__(self, name: str, warn: Callable[[str], None]) -> None:
        self.name = "standard input" if name == "-" else name
        self.ended_at: int | None = None
        self._warn = warn
        self._line_number = 0
        self._raw = _open(name)
        self.size = 0 if name == "-" else os.fstat(self._raw.fileno()).st_size
        is_gzip = self._raw.peek(2)[:2] == _GZIP_MAGIC
        self._lines: _Lines = gzip.GzipFile(fileobj=self._raw, mode="rb") if is_gzip else self._raw
        self._first = self._next_line()
        self.header = self._take_header()

    def position(self) -> int:
        return self.size if self._raw.closed else self._raw.tell()

    def close(self) -> None:
        if self._raw is not sys.stdin.buffer:
            self._raw.close()

    def inputs(self) -> Iterator[tuple[int, Input]]:
        """Inputs with the times they are known at, which don't go back."""
        newest = 0
        line = self._first
        self._first = b""
        while line:
            for item in self._parse(line, newest):
                newest = max(newest, known_at(item))
                yield newest, item
            line = self._next_line()
        self.close()

    def _take_header(self) -> Header | None:
        """The header, when the first line is one. Another first line is left for `inputs`, which reports what is wrong with it."""
        try:
            header = read_header_document(json_document(self._first)) if b'"dslmodel"' in self._first else None
        except IngestError as error:
            raise self._located(error) from error
        if header is not None:
            self._first = self._next_line()
        return header

    def _parse(self, line: bytes, newest: int) -> list[Input]:
        try:
            document = json_document(line)
            mark = read_header_document(document)
            if mark is None:
                return read_document(document, not_before=newest, body=line)
        except IngestError as error:
            if not line.endswith(b"\n"):
                self._warn(f"{self.name}:{self._line_number}: the file ends within this line; what there is of it is left out")
                return []
            raise self._located(error) from error
        if mark.ended_at is not None:
            self.ended_at = mark.ended_at
        else:
            self._warn(f"{self.name}:{self._line_number}: a second header isn't used")
        return []

    def _next_line(self) -> bytes:
        """The next line that isn't blank; empty at the end."""
        while True:
            try:
                line = self._lines.readline(MAX_LINE_BYTES + 1)
            except EOFError:
                self._warn(f"{self.name}:{self._line_number}: the compressed file breaks off after this line")
                return b""
            except (OSError, zlib.error) as error:
                raise self._located(IngestError(f"the next line can't be read ({error})")) from error
            self._line_number += 1
            if len(line) > MAX_LINE_BYTES:
                raise self._located(IngestError(f"longer than {MAX_LINE_BYTES} bytes", status=413))
            if not line or line.strip():
                return line.removeprefix(b"\xef\xbb\xbf") if self._line_number == 1 else line

    def _located(self, error: IngestError) -> IngestError:
        return IngestError(f"{self.name}:{self._line_number}: {error}", status=error.status)


def _no_warning(_: str) -> None:
    pass


def _open(name: str) -> io.BufferedReader:
    if name == "-":
        return sys.stdin.buffer  # type: ignore[return-value]  # typeshed: BinaryIO; it is a BufferedReader
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise ConfigurationError(f"{name}: can't be read ({error.strerror}); give a *.jsonl or *.jsonl.gz file, or -") from error


# ---------------------------------------------------------------- recording

_QUEUED_ITEMS = 10_000
_QUEUED_BYTES = 256 * 1024 * 1024
_NOMINAL_BYTES = 2_000  # of an input that never was bytes
_SYNC_SECONDS = 1.0
_COMPRESSION = 3  # zlib's level; the default takes twice the time for a tenth of the size


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderStats:
    """What a recording holds so far. `failure` says why it ended early."""

    lines: int
    bytes: int  # before compression
    queued: int
    failure: str | None


class Recorder:
    """Writes inputs to a file that `read_inputs` reads back, in a thread of its own. `*.gz` is compressed.

    A recording with a hole would replay to something else. So when the disk is full, or the writer can't keep up, the recording ends:
    `write` raises from then on, and what was written before stays readable. Lines are given to the system as they come and forced
    to the disk every second: a kill loses what was queued, a power cut about a second.
    """

    def __init__(self, path: str | os.PathLike[str], header: Header, *, clock: Clock | None = None) -> None:
        """Begin a recording. A file that is there already is kept under a name with its time.

        Raises:
            ConfigurationError: The file can't be created.
        """
        self._clock = clock or SystemClock()
        self.path = Path(path)
        self.kept = _keep(self.path)
        try:
            self._raw = self.path.open("wb")
        except OSError as error:
            raise ConfigurationError(f"{self.path}: can't be recorded to ({error.strerror})") from error
        is_gzip = self.path.suffix == ".gz"
        self._file: IO[bytes] = gzip.GzipFile(fileobj=self._raw, mode="wb", compresslevel=_COMPRESSION) if is_gzip else self._raw  # type: ignore[assignment]
        self._queue: deque[tuple[int, dict[str, Any] | Input]] = deque()
        self._changed = threading.Condition()
        self._queued_bytes = self._lines = self._bytes = 0
        self._failure: str | None = None
        self._is_closing = False
        self._synced_at = time.monotonic()
        self._queue.append((0, write_header(header)))
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def write(self, item: Input) -> None:
        """Add an input.

        Raises:
            AuditError: The recording has ended; this input is not in it.
        """
        size = len(item.body) if isinstance(item, Payload) and item.body else _NOMINAL_BYTES
        with self._changed:
            if self._failure is None and (len(self._queue) >= _QUEUED_ITEMS or self._queued_bytes + size > _QUEUED_BYTES):
                self._failure = f"{self.path}: the recording can't keep up with the data ({len(self._queue)} inputs wait to be written)"
            if self._failure is not None or self._is_closing:
                raise AuditError(self._failure or f"{self.path}: the recording is closed")
            self._queue.append((size, item))
            self._queued_bytes += size
            self._changed.notify()

    def stats(self) -> RecorderStats:
        """What is recorded so far."""
        with self._changed:
            return RecorderStats(lines=self._lines, bytes=self._bytes, queued=len(self._queue), failure=self._failure)

    def close(self, timeout_seconds: float = 60.0) -> None:
        """Write what is queued and when the run ended. A second call does nothing.

        Raises:
            AuditError: The recording had ended before, or can't be finished.
        """
        with self._changed:
            if self._is_closing:
                return
            self._is_closing = True
            if self._failure is None:
                self._queue.append((0, write_header(Header(ended_at=self._clock.now()))))
            self._changed.notify()
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            raise AuditError(f"{self.path}: the recording could not be finished within {timeout_seconds:g} s")
        if self._failure is not None:
            raise AuditError(self._failure)

    def _run(self) -> None:
        try:
            while self._write_queued():
                pass
            self._file.flush()
            self._file.close()
            self._sync()
        except (OSError, ValueError) as error:
            with self._changed:
                self._failure = f"{self.path}: the recording can't be written ({error})"
                self._queue.clear()
                self._queued_bytes = 0
        finally:
            with contextlib.suppress(OSError):
                self._raw.close()

    def _write_queued(self) -> bool:
        """Write what waits; False when there is nothing more to come."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._is_closing, timeout=_SYNC_SECONDS)
            batch, self._queue = self._queue, deque()
            self._queued_bytes = 0
            goes_on = self._failure is None and not (self._is_closing and not batch)
        for _, item in batch:
            line = orjson.dumps(item if isinstance(item, dict) else write_document(item), option=orjson.OPT_APPEND_NEWLINE)
            self._file.write(line)
            self._lines += 1
            self._bytes += len(line)
        if batch:
            self._file.flush()
            if self._raw is not self._file:
                self._raw.flush()
        if time.monotonic() - self._synced_at >= _SYNC_SECONDS:
            self._sync()
        return goes_on

    def _sync(self) -> None:
        self._synced_at = time.monotonic()
        if not self._raw.closed:
            self._raw.flush()
            os.fsync(self._raw.fileno())


def _keep(path: Path) -> Path | None:
    """Move a file that is in the way aside; None when there is nothing worth keeping."""
    try:
        found = path.stat()
        if not found.st_size or not stat.S_ISREG(found.st_mode):
            return None
        stamp = format_time(found.st_mtime_ns).translate({ord("-"): None, ord(":"): None})
        suffixes = "".join(path.suffixes)
        kept = path.with_name(f"{path.name.removesuffix(suffixes)}-{stamp}{suffixes}")
        path.rename(kept)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{path}: exists and can't be moved out of the way ({error.strerror})") from error
    return kept
