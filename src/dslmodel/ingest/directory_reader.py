"""Changed files of one coordination directory -> export requests and coordination events."""

import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import orjson

from dslmodel.clock import SECOND
from dslmodel.ingest.directory import COORDINATION_KINDS, LINES, Directory, WatchOptions, kind_of, signature_of
from dslmodel.ingest.documents import Batch, Novelty
from dslmodel.ingest.tail import News, Tail, open_regular
from dslmodel.records import Change, CoordinationEvent, Signal

MALFORMED = "malformed"  # no JSON, or only half of it
UNUSABLE = "unusable"  # JSON of no known shape
TOO_LARGE = "too_large"
UNREADABLE = "unreadable"  # the system says no

_MAX_OPEN = 64
_MAX_ORPHANS = 256
_MAX_PROBLEMS = 100
# At the start a long file of lines is read from here before its end; what is older is history.
_RECENT_BYTES = 16 * 1024 * 1024
# Decoded JSON takes some 8 times its text.
_EXPANSION = 8


class Request(NamedTuple):
    """An export request for the queue; `size` = memory it takes."""

    signal: Signal
    message: dict[str, Any]
    size: int


class Event(NamedTuple):
    """A coordination event for the queue, not stamped yet; `size` = memory it takes."""

    event: CoordinationEvent
    size: int


@dataclass(slots=True)
class Counts:
    """What became of the files' contents, over all directories. `problems`: the newest files that could not be used, and why."""

    taken: int = 0
    history: int = 0
    history_bytes: int = 0
    repeated: int = 0
    truncated: int = 0
    unusable: Counter[str] = field(default_factory=Counter)
    problems: OrderedDict[str, str] = field(default_factory=OrderedDict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What the readers of all directories share."""

    options: WatchOptions
    novelty: Novelty
    counts: Counts
    report: Callable[[str], None]


class DirectoryReader:
    """Reads the files that its directory says have changed. Never raises for what a file holds or for what the system refuses."""

    def __init__(self, directory: Directory, tools: Tools) -> None:
        self.directory = directory
        self._tools = tools
        self._counts = tools.counts
        self._tails: OrderedDict[str, Tail] = OrderedDict()  # those read last come last
        self._names: dict[tuple[int, int], str] = {}
        self._orphans: OrderedDict[tuple[int, int], Tail] = OrderedDict()  # renamed away or deleted, perhaps to be found again
        self._complained: set[str] = set()

    def read(self, name: str, now: int) -> list[Request | Event]:
        """What is new in a file."""
        outputs: list[Request | Event] = []
        try:
            # What was read before an error is kept: the tail is past it.
            for output in self._read_lines(name, now) if kind_of(name) == LINES else self._read_document(name, now):
                outputs.append(output)  # noqa: PERF402
        except FileNotFoundError:
            outputs.extend(self._gone(name, now))
        except OSError as error:
            self._failed(name, now, UNREADABLE, f"can't be read ({error.strerror or error})")
        return outputs

    def _gone(self, name: str, now: int) -> list[Request | Event]:
        """A file was deleted, or renamed away."""
        self._clear(name)
        outputs: list[Request | Event] = []
        tail = self._tails.pop(name, None)
        if tail is not None:
            outputs.extend(self._let_go(name, tail))
        kind = kind_of(name)
        if self.directory.forget(name) and kind in COORDINATION_KINDS:
            event = CoordinationEvent(kind=kind, name=name, change=Change.DELETED, document={}, modified_at=now, received_at=0)
            outputs.append(Event(event, 500))
        return outputs

    def close(self) -> None:
        """Close all files."""
        self.directory.close()
        for tail in (*self._tails.values(), *self._orphans.values()):
            tail.close()

    # ------------------------------------------------------------ whole documents

    def _read_document(self, name: str, now: int) -> Iterator[Request | Event]:
        descriptor = open_regular(self.directory.path / name)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - it is open already
            found = os.fstat(descriptor)
            signature = signature_of(found)
            if self.directory.is_unchanged(name, signature):
                return
            if found.st_size > self._tools.options.file_bytes:
                self._complain(name, TOO_LARGE, f"{found.st_size} bytes, more than {self._tools.options.file_bytes}")
                self.directory.done(name, signature)
                return
            data = file.read(self._tools.options.file_bytes)
        documents, is_whole = _parse(data)
        kind = kind_of(name)
        if not is_whole and (kind in COORDINATION_KINDS or not documents):
            self._failed(name, now, MALFORMED, f"no complete JSON ({len(data)} bytes)", signature)
            return
        if kind in COORDINATION_KINDS:
            yield from self._event(name, documents, found, len(data))
        else:
            batch = self._batch()
            complaints = [document for document in documents if not self._add(batch, name, document)]
            if not complaints:
                self._clear(name)
            yield from self._requests(batch, len(data))
        if is_whole:
            self.directory.done(name, signature)
        else:
            self._failed(name, now, MALFORMED, f"the last line is no complete JSON ({len(data)} bytes)", signature)

    def _event(self, name: str, documents: list[Any], found: os.stat_result, size: int) -> Iterator[Event]:
        if len(documents) != 1 or not isinstance(documents[0], dict):
            self._complain(name, UNUSABLE, "expected one JSON object")
            return
        self._clear(name)
        event = CoordinationEvent(
            kind=name.partition("_")[0],
            name=name,
            change=Change.WRITTEN,
            document=documents[0],
            modified_at=found.st_mtime_ns,
            received_at=0,
        )
        yield Event(event, 500 + _EXPANSION * size)

    # ------------------------------------------------------------ lines

    def _read_lines(self, name: str, now: int) -> Iterator[Request | Event]:
        path = self.directory.path / name
        found = path.stat()
        signature = signature_of(found)
        if self.directory.is_unchanged(name, signature):
            return
        tail = self._tails.get(name)
        if tail is not None and not (tail.is_of(found) and tail.reopen(path) and tail.is_intact()):
            del self._tails[name]
            yield from self._let_go(name, tail, is_truncated=tail.identity == (found.st_dev, found.st_ino))
            tail = None
        if tail is None:
            tail = self._begin(name, found)
        self._keep_open(name, tail)
        news = tail.read()
        yield from self._take(name, news)
        if news.is_more:
            self.directory.note(name)
        elif news.rest:
            yield from self._finish_line(name, tail, (news.rest, found.st_mtime_ns, signature), now)
        else:
            self.directory.done(name, signature)

    def _begin(self, name: str, found: os.stat_result) -> Tail:
        """The tail of a file that has no tail under this name: known by another, or at its beginning, or past its history."""
        path = self.directory.path / name
        tail = self._adopt(name, found)
        if tail is not None:
            return tail
        tail = Tail(path, line_bytes=self._tools.options.line_bytes)
        was_there = self.directory.was_there_before(name)
        if found.st_mtime_ns < self.directory.history_before:
            self._counts.history_bytes += tail.skip_to_end()
            self.directory.history_files += 1
        elif was_there and found.st_size > _RECENT_BYTES:
            tail.skip_to(found.st_size - _RECENT_BYTES)
            self._counts.history_bytes += tail.offset
        return tail

    def _adopt(self, name: str, found: os.stat_result) -> Tail | None:
        identity = (found.st_dev, found.st_ino)
        other = self._names.get(identity)
        tail = self._orphans.pop(identity, None)
        if tail is None and other is not None and other in self._tails and self._tails[other].identity == identity:
            tail = self._tails.pop(other)
        if tail is None:
            return None
        if tail.is_of(found) and tail.reopen(self.directory.path / name) and tail.is_intact():
            return tail
        tail.close()
        return None

    def _let_go(self, name: str, tail: Tail, *, is_truncated: bool = False) -> Iterator[Request]:
        """Read what was written to a file before it went, and remember how far that was: it may come back under another name."""
        if is_truncated:
            self._counts.truncated += 1
            self._clear(name)
            tail.close()
            return
        while tail.is_open:
            news = tail.read()
            yield from self._take(name, news)
            if not news.is_more:
                break
        tail.close()
        self._orphans[tail.identity] = tail
        if len(self._orphans) > _MAX_ORPHANS:
            self._orphans.popitem(last=False)

    def _keep_open(self, name: str, tail: Tail) -> None:
        self._tails[name] = tail
        self._tails.move_to_end(name)
        self._names[tail.identity] = name
        if len(self._tails) > _MAX_OPEN:
            # Every look opens at most one file, so this leaves only the last ones open.
            next(islice(reversed(self._tails.values()), _MAX_OPEN, None)).close()
        if len(self._names) > 2 * len(self._tails) + _MAX_ORPHANS:
            self._names = {kept.identity: kept_name for kept_name, kept in self._tails.items()}

    def _take(self, name: str, news: News) -> Iterator[Request]:
        batch = self._batch()
        size = 0
        for line in news.lines:
            size += len(line)
            try:
                document = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                self._complain(name, MALFORMED, f"a line is no JSON ({error})")
                continue
            self._add(batch, name, document)
        if news.is_too_long:
            self._complain(name, TOO_LARGE, f"a line is longer than {self._tools.options.line_bytes} bytes")
        yield from self._requests(batch, size)

    def _finish_line(self, name: str, tail: Tail, last: tuple[bytes, int, int], now: int) -> Iterator[Request]:
        """A last line without newline is taken when it has stayed so for a while and is JSON; otherwise it is waited for."""
        rest, modified_at, signature = last
        due_at = modified_at + round(self._tools.options.unreadable_seconds * SECOND)
        if now < due_at:
            self.directory.look_again(name, signature, due_at)
            return
        self.directory.done(name, signature)
        try:
            orjson.loads(rest)
        except orjson.JSONDecodeError:
            self._complain(name, MALFORMED, f"the last line is no complete JSON ({len(rest)} bytes)")
            return
        tail.consume_rest(rest)
        yield from self._take(name, News(lines=[rest]))

    # ------------------------------------------------------------ both

    def _batch(self) -> Batch:
        options = self._tools.options
        return Batch(service=options.service, not_before=self.directory.history_before, novelty=self._tools.novelty)

    def _add(self, batch: Batch, name: str, document: Any) -> bool:
        complaints = batch.add_usable(document)
        for complaint in complaints:
            self._complain(name, UNUSABLE, complaint)
        return not complaints

    def _requests(self, batch: Batch, size: int) -> Iterator[Request]:
        self._counts.taken += batch.taken
        self._counts.history += batch.history
        self._counts.repeated += batch.repeated
        requests = batch.requests()
        for signal, message in requests:
            yield Request(signal, message, 1000 + _EXPANSION * size // len(requests))

    def _failed(self, name: str, now: int, reason: str, text: str, signature: int = 0) -> None:
        if self.directory.failed(name, signature, now, is_final=reason == MALFORMED):
            self._complain(name, reason, text)

    def _complain(self, name: str, reason: str, text: str) -> None:
        """Count what can't be used; report the first of a file, until the file is fine again."""
        self._counts.unusable[reason] += 1
        if name in self._complained:
            return
        self._complained.add(name)
        path = str(self.directory.path / name)
        self._counts.problems[path] = text
        if len(self._counts.problems) > _MAX_PROBLEMS:
            self._counts.problems.popitem(last=False)
        self._tools.report(f"{path}: {text}")

    def _clear(self, name: str) -> None:
        self._complained.discard(name)
        self._counts.problems.pop(str(self.directory.path / name), None)


def _parse(data: bytes) -> tuple[list[Any], bool]:
    """A file's documents: one, or one a line. False when the last one is not there completely."""
    try:
        return [orjson.loads(data)], True
    except orjson.JSONDecodeError:
        pass
    lines = [line for line in data.split(b"\n") if line.strip()]
    documents: list[Any] = []
    for line in lines if len(lines) > 1 else ():
        try:
            documents.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            return (documents, False) if len(documents) == len(lines) - 1 else ([], False)
    return documents, bool(documents)
