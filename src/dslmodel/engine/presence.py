"""Who runs on a coordination directory: the small files that a daemon keeps there, and how to tell that it lives.

Only the standard library, and little of that: the liveness probe imports this.
"""

# ruff: noqa: PTH105, PTH108, PTH115, PTH118, PTH123 - pathlib would double the time that the probe takes

import json
import os

STATE_DIRECTORY = ".dslmodel"
DAEMON_FILE = "daemon.json"
SNAPSHOT_FILE = "snapshot.json"
TOKEN_FILE = "token"  # noqa: S105 - a file name

# What readers are told of `daemon.json`.
SHOWN = ("pid", "started_at", "stopped_at", "api", "otlp_grpc", "otlp_http")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Document = dict[str, Any]


def state_path(coord_dir: "str | os.PathLike[str]", name: str = "") -> str:
    """The state directory of a coordination directory, or a file in it."""
    return os.path.join(coord_dir, STATE_DIRECTORY, name) if name else os.path.join(coord_dir, STATE_DIRECTORY)


def read_document(path: str) -> "Document | None":
    """A JSON object from a file; None when there is no such file.

    Raises:
        OSError: It can't be read.
        ValueError: It holds something else.
    """
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not isinstance(document, dict):
        raise ValueError(f"{path} holds no JSON object")  # noqa: TRY004 - bad content, as json's own errors
    return document


def replace_file(path: str, data: bytes, mode: int = 0o644) -> None:
    """Write a whole file so that a reader sees the old one or the new one, never a part."""
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError as error:
        os.unlink(temporary)
        raise OSError(error.errno, error.strerror, path) from error  # a failed write doesn't say of which file
    except BaseException:
        os.unlink(temporary)
        raise


def is_running(daemon: "Document") -> bool:
    """The process that wrote this `daemon.json` still runs.

    Another pid namespace (a shared volume seen from another container) can't be looked into: True, only the age of the
    snapshot can tell then.
    """
    if daemon.get("stopped_at"):
        return False
    if daemon.get("pid_namespace", "") != pid_namespace():
        return True
    started = process_start(int(daemon.get("pid") or 0))
    return started is not None and started in ("", daemon.get("process_start"))


def process_start(pid: int) -> str | None:
    """When a process started, in the system's own unit: a pid alone may belong to another process by now.

    Returns:
        None when there is no such process, "" when it runs and can't be looked into.
    """
    if pid <= 0:
        return None
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return _without_proc(pid)
    return None if fields[0] in (b"Z", b"X") else fields[19].decode()


def _without_proc(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""


def pid_namespace() -> str:
    """Which pid namespace this process lives in: a container's pids mean nothing outside of it."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
