"""The state directory of a coordination directory: who may write there, who runs, and the token for calls that change something."""

import fcntl
import json
import os
import secrets
import stat
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dslmodel.engine import presence
from dslmodel.errors import ConfigurationError, DslModelError

_LOCK_FILE = "lock"
_TOKEN_BYTES = 32


class StateDirectory:
    """`<coord-dir>/.dslmodel/`. Owns its lock, `daemon.json` and `token`; the store owns the database beside them.

    Only the holder of the lock writes. The lock dies with the process, so a crash never leaves the directory locked.
    """

    def __init__(self, coord_dir: Path) -> None:
        self.coord_dir = coord_dir
        self.path = coord_dir / presence.STATE_DIRECTORY
        self._lock: int | None = None
        self._daemon: dict[str, Any] = {}

    def create(self) -> None:
        """Make the directories, readable by their owner alone where secrets live.

        Raises:
            ConfigurationError: The place is not usable.
        """
        self.create_directory()
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    def create_directory(self) -> None:
        """Make the coordination directory alone.

        Raises:
            ConfigurationError: The place is not usable.
        """
        try:
            self.coord_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(
            f"coordination directory {self.coord_dir}: {error.strerror}. Give a directory that this user can write with --coord-dir"
        )

    def try_lock(self) -> bool:
        """Take the right to write; False when another process has it."""
        if self._lock is not None:
            return True
        try:
            descriptor = os.open(self.path / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(f"{self.path}: {error.strerror}. This user must be able to write there") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def unlock(self) -> None:
        """Give the right to write back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        self.create()
        if not self.try_lock():
            raise DslModelError(f"{self.path} is locked by another process; try again when it is done")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.unlock()

    # ------------------------------------------------------------ who runs

    def begin(self) -> dict[str, Any]:
        """Who this run is. Nothing is written before `announce`."""
        now = time.time()
        self._daemon = {
            "id": secrets.token_hex(8),
            "pid": os.getpid(),
            "process_start": presence.process_start(os.getpid()),
            "pid_namespace": presence.pid_namespace(),
            "started_at": _instant(now),
            "started_unix": now,
            "stopped_at": None,
        }
        return self._daemon

    def announce(self, **addresses: str | None) -> None:
        """Write `daemon.json`: this run lives, and is reached here."""
        self._daemon |= addresses
        self._write_daemon()

    def depart(self) -> None:
        """Mark a clean stop."""
        self._daemon["stopped_at"] = _instant(time.time())
        self._write_daemon()

    def read_daemon(self) -> dict[str, Any] | None:
        """Who runs, or ran last."""
        return presence.read_document(str(self.path / presence.DAEMON_FILE))

    def write_snapshot(self, data: bytes) -> None:
        """Replace `snapshot.json`."""
        presence.replace_file(str(self.path / presence.SNAPSHOT_FILE), data)

    def _write_daemon(self) -> None:
        presence.replace_file(str(self.path / presence.DAEMON_FILE), json.dumps(self._daemon, indent=1).encode())

    # ------------------------------------------------------------ token

    def own_token(self) -> str:
        """The token in the state directory, made on the first call."""
        path = self.path / presence.TOKEN_FILE
        if not path.exists():
            presence.replace_file(str(path), secrets.token_urlsafe(_TOKEN_BYTES).encode() + b"\n", mode=0o600)
        return read_token(path)


def read_token(path: Path) -> str:
    """A token from a file that only its owner can read.

    Raises:
        ConfigurationError: No such file, empty, or others may read it.
    """
    try:
        mode = path.stat().st_mode
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"token file {path}: {error}. Make one: `umask 077; openssl rand -hex 32 > {path}`") from error
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigurationError(f"token file {path} has mode {stat.S_IMODE(mode):04o}, others can read it. Run `chmod 600 {path}`")
    if not token:
        raise ConfigurationError(f"token file {path} is empty. Write a secret into it, e.g. `openssl rand -hex 32 > {path}`")
    if not token.isascii() or any(c.isspace() for c in token):
        raise ConfigurationError(f"token file {path} must hold one line of printable ASCII")
    return token


def _instant(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
