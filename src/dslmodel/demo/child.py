"""A child process, seen from the parent: started on a leash, waited for until it is ready, stopped or killed."""

import json
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dslmodel.errors import DslModelError

_STOP_SECONDS = 4.0
_LOG_TAIL = 2_000
_NOT_INHERITED = ("OTEL_", "DSLMODEL_", "LOGURU_")
_NOT_INHERITED_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out what would send the children's telemetry elsewhere, configure the daemon, or put a web proxy before the loopback."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(_NOT_INHERITED) and name.lower() not in _NOT_INHERITED_PROXIES
    }


class Child:
    """One process in a session of its own, so that Ctrl-C reaches only the parent. Its errors go to `NAME.log`."""

    def __init__(
        self, name: str, arguments: Sequence[str], *, directory: Path, environment: Mapping[str, str], announces: bool = True
    ) -> None:
        """Start `python -m ARGUMENTS…` in `directory`. Unless it `announces` itself on standard output, that goes to its log too."""
        self.name = name
        self._log = directory / f"{name}.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if announces else log,
                stderr=log,
                cwd=directory,
                env=environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def wait_ready(self, timeout_seconds: float) -> dict[str, Any]:
        """Wait for the line that it announces itself with.

        Raises:
            DslModelError: it ended, or said nothing in time.
        """
        stream = self._process.stdout
        assert stream is not None  # a pipe was asked for
        line = stream.readline() if select.select([stream], [], [], timeout_seconds)[0] else b""
        if not line:
            raise self.failure(f"was not ready within {timeout_seconds:g} s")
        document: dict[str, Any] = json.loads(line)
        return document

    def failure(self, what: str) -> DslModelError:
        """Give the error that says what happened to this process, with the end of its log."""
        state = "still runs" if self.is_alive else f"ended with code {self._process.returncode}"
        return DslModelError(f"{self.name} {what} ({state}). Its log ends: {self.log_tail() or 'nothing'}")

    def log_tail(self) -> str:
        """The end of what it wrote to standard error."""
        return self._log.read_text(errors="replace")[-_LOG_TAIL:].strip()

    def kill(self) -> None:
        """End it as a crash would: no goodbye, nothing flushed."""
        self._process.kill()
        self._reap()

    def ask_to_stop(self) -> None:
        """Ask it to end in its own time; `stop` waits."""
        if self.is_alive:
            self._process.send_signal(signal.SIGTERM)

    def stop(self, timeout_seconds: float = _STOP_SECONDS) -> int:
        """Ask it to end, wait, and end it by force when it does not; gives its exit code."""
        self.ask_to_stop()
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
        return self._reap()

    def _reap(self) -> int:
        code = self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        return code


def stop_all(children: Sequence[Child]) -> None:
    """Stop several at once, so that they take no longer than the slowest."""
    for child in children:
        child.ask_to_stop()
    for child in children:
        child.stop()
