"""Follows one file of lines that grows: what is new since the last look, whole lines only, through truncation and rotation."""

import os
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path

_CHUNK_BYTES = 1024 * 1024
_HEAD_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What a look at the file gave.

    `rest` is a last line without its newline: not consumed yet. `is_more`: the chunk was full, look again. `is_too_long`: a line
    beyond the limit is being passed over.
    """

    lines: list[bytes]
    rest: bytes = b""
    is_more: bool = False
    is_too_long: bool = False


class Tail:
    """A place in a file that is told from others by device, inode and its first bytes, since inodes are used again.

    The file stays open between looks, so that lines written just before it was renamed away are not lost.
    """

    def __init__(self, path: Path, *, line_bytes: int) -> None:
        """Open the file, at its beginning.

        Raises:
            OSError: It can't be opened.
        """
        self._line_bytes = line_bytes
        self._descriptor = open_regular(path)
        found = os.fstat(self._descriptor)
        self.identity = (found.st_dev, found.st_ino)
        self.offset = 0
        self._head_length = 0
        self._head = 0
        self._is_skipping = False

    def close(self) -> None:
        """Let go of the file; `reopen` takes it up again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def is_open(self) -> bool:
        """Is the file held open?"""
        return self._descriptor >= 0

    def reopen(self, path: Path) -> bool:
        """Open the file again after `close`; False when another one is there by now.

        Raises:
            OSError: It can't be opened.
        """
        if not self.is_open:
            self._descriptor = open_regular(path)
            found = os.fstat(self._descriptor)
            if (found.st_dev, found.st_ino) != self.identity:
                self.close()
                return False
        return True

    def is_of(self, found: os.stat_result) -> bool:
        """Does `found` describe this very file, grown or unchanged?"""
        return (found.st_dev, found.st_ino) == self.identity and found.st_size >= self.offset

    def is_intact(self) -> bool:
        """Does the file still begin as it did?"""
        return zlib.crc32(os.pread(self._descriptor, self._head_length, 0)) == self._head

    def skip_to(self, offset: int) -> None:
        """Go on at the first line that begins at `offset` or after it."""
        self.offset = max(offset - 1, 0)
        self._is_skipping = offset > 0
        self._remember_head()

    def skip_to_end(self) -> int:
        """Go on after what is there now; gives the bytes passed over. An unfinished last line is passed over as a whole."""
        size = os.fstat(self._descriptor).st_size
        self.skip_to(size)
        return size

    def consume_rest(self, rest: bytes) -> None:
        """Take an unfinished last line for a whole one."""
        self.offset += len(rest)
        self._remember_head()

    def read(self) -> News:
        """The next whole lines.

        Raises:
            OSError: The file can't be read.
        """
        data = os.pread(self._descriptor, _CHUNK_BYTES, self.offset)
        end = data.rfind(b"\n") + 1
        if not end and len(data) == _CHUNK_BYTES:
            data = os.pread(self._descriptor, self._line_bytes, self.offset)
            end = data.find(b"\n") + 1
            if not end and len(data) == self._line_bytes:
                return self._pass_over(len(data))
        lines = data[:end].split(b"\n")[:-1]
        if self._is_skipping and lines:
            del lines[0]
            self._is_skipping = False
        self.offset += end
        self._remember_head()
        is_more = end > 0 and len(data) >= _CHUNK_BYTES
        rest = b"" if is_more or self._is_skipping else data[end:]
        return News(lines=[line for line in lines if line.strip()], rest=rest, is_more=is_more)

    def _pass_over(self, count: int) -> News:
        is_first_part = not self._is_skipping
        self._is_skipping = True
        self.offset += count
        self._remember_head()
        return News(lines=[], is_more=True, is_too_long=is_first_part)

    def _remember_head(self) -> None:
        if self._head_length < min(_HEAD_BYTES, self.offset):
            head = os.pread(self._descriptor, min(_HEAD_BYTES, self.offset), 0)
            self._head_length, self._head = len(head), zlib.crc32(head)


def open_regular(path: Path) -> int:
    """A descriptor to read a regular file with; anything else is refused without waiting for it."""
    # Without O_NONBLOCK a named pipe would wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IsADirectoryError(0, "not a regular file", str(path))
    return descriptor
