"""The checks of `dsl doctor`. Each looks at one thing, changes nothing, and says how to put right what is wrong."""

import ctypes
import errno
import json
import os
import platform
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from dslmodel import __version__
from dslmodel.audit.store import Store
from dslmodel.cli import machine
from dslmodel.engine import presence
from dslmodel.engine.state import read_token
from dslmodel.errors import AuditError, ConfigurationError
from dslmodel.settings import Settings, check

_LITTLE_DISK, _NO_DISK = 2**30, 100 * 2**20
_FEW_WATCHES = 8192
_FEW_INODES = 1000
_CLOCK_STEP_SECONDS = 1.0
_ANSWER_SECONDS = 2.0
_CLOCK_UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)
# File systems whose changes other machines make, which no watch reports.
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "virtiofs", "ceph", "glusterfs", "fuse.glusterfs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What one check found, and how to put it right."""

    name: str
    status: Literal["ok", "warn", "fail"] = "ok"
    found: str
    fix: str = ""

    def data(self) -> dict[str, Any]:
        """For the envelope."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        return [f"{self.status:<5} {self.name}: {self.found}", *([f"      fix: {self.fix}"] if self.fix else [])]


def examine(coord_dir: Path) -> Sequence[Check]:
    """Every check, in the order in which problems are best solved. A check that breaks is itself a finding."""
    checked = check()
    settings = checked.loaded.settings if checked.loaded else Settings()
    daemon = _daemon_document(coord_dir)
    checks: list[Check] = []
    for name, look in (
        ("python", _python),
        ("engine", _engine),
        ("settings", lambda: _settings(machine.problems_of(checked), checked.errors, [*checked.unknown, *checked.warnings])),
        ("coordination directory", lambda: _coordination(coord_dir)),
        ("watching", lambda: _watching(coord_dir)),
        ("state directory", lambda: _state(coord_dir)),
        ("database", lambda: _database(settings.database_file(Path(presence.state_path(coord_dir))))),
        ("disk", lambda: _disk(coord_dir)),
        ("clock", lambda: _clock(coord_dir)),
        ("daemon", lambda: _daemon(coord_dir, daemon)),
        ("port api", lambda: _port(settings, daemon, "api")),
        ("port otlp_grpc", lambda: _port(settings, daemon, "otlp_grpc")),
        ("port otlp_http", lambda: _port(settings, daemon, "otlp_http")),
    ):
        checks.append(_guarded(name, look))
    return checks


def _guarded(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except OSError as error:
        return Check(name=name, status="fail", found=f"can't be looked at: {error}", fix="run as the user that runs the daemon")


# ---------------------------------------------------------------- the installation


def _python() -> Check:
    found = f"{platform.python_implementation()} {platform.python_version()} at {sys.executable}, dslmodel {__version__}"
    return Check(name="python", found=found)


def _engine() -> Check:
    is_native = find_spec("dslmodel._native") is not None
    return Check(name="engine", found="native" if is_native else "reference (pure Python; no native core is installed)")


def _settings(files: Sequence[str], errors: Sequence[str], warnings: Sequence[str]) -> Check:
    wrong = [*errors, *files]
    fix = "`dsl config check` lists them, `dsl config view --origin` shows where values come from"
    if wrong:
        return Check(name="settings", status="fail", found="; ".join(wrong), fix=fix)
    if warnings:
        return Check(name="settings", status="warn", found="; ".join(warnings), fix=fix)
    return Check(name="settings", found="valid")


# ---------------------------------------------------------------- directories and files


def _coordination(coord_dir: Path) -> Check:
    name = "coordination directory"
    if not coord_dir.exists():
        parent = _existing(coord_dir)
        if not os.access(parent, os.W_OK | os.X_OK):
            return Check(name=name, status="fail", found=f"{coord_dir} can't be made in {parent}", fix="give another with --coord-dir")
        return Check(name=name, found=f"{coord_dir} does not exist yet; the daemon makes it")
    if not coord_dir.is_dir():
        return Check(name=name, status="fail", found=f"{coord_dir} is not a directory", fix="give another with --coord-dir")
    if not os.access(coord_dir, os.R_OK | os.W_OK | os.X_OK):
        fix = f"make {coord_dir} readable and writable for this user"
        return Check(name=name, status="fail", found=f"{coord_dir} can't be read and written", fix=fix)
    with os.scandir(coord_dir) as entries:
        return Check(name=name, found=f"{coord_dir}, {sum(entry.is_file() for entry in entries)} files")


def _watching(coord_dir: Path) -> Check:
    from watchfiles import watch

    name, place = "watching", _existing(coord_dir)
    kind = _file_system(place)
    if kind in _REMOTE:
        found = f"{place} is on {kind}: changes that other machines make are not reported by the system"
        return Check(
            name=name, status="warn", found=found, fix="nothing is lost, files are polled and seen later; a local directory is quicker"
        )
    try:
        next(iter(watch(place, recursive=False, rust_timeout=10, yield_on_timeout=True, raise_interrupt=False)), None)
    except OSError as error:
        fix = "raise fs.inotify.max_user_instances and fs.inotify.max_user_watches with sysctl; until then files are polled"
        return Check(name=name, status="warn", found=f"can't watch {place}: {error}", fix=fix)
    watches = _number("/proc/sys/fs/inotify/max_user_watches")
    if watches is not None and watches < _FEW_WATCHES:
        fix = f"sysctl fs.inotify.max_user_watches={_FEW_WATCHES * 8}"
        return Check(name=name, status="warn", found=f"only {watches} inotify watches per user", fix=fix)
    return Check(name=name, found=f"{place} ({kind or 'unknown file system'}) can be watched")


def _state(coord_dir: Path) -> Check:
    name, path = "state directory", Path(presence.state_path(coord_dir))
    if not path.exists():
        return Check(name=name, found="none yet; the daemon makes it")
    if not path.is_dir():
        return Check(name=name, status="fail", found=f"{path} is not a directory", fix="move it away; the daemon makes a new one")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return Check(name=name, status="fail", found=f"{path} belongs to another user", fix="run as that user, or change its owner")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return Check(name=name, status="warn", found=f"{path} has mode {mode:04o}: others can look in", fix=f"chmod 700 {path}")
    token = path / presence.TOKEN_FILE
    if token.exists():
        try:
            read_token(token)
        except ConfigurationError as error:
            return Check(name=name, status="fail", found=str(error), fix=f"chmod 600 {token}, or remove it; the daemon makes a new one")
    return Check(name=name, found=f"{path}, only this user can look in")


def _database(path: Path) -> Check:
    name = "database"
    try:
        store = Store.open_readonly(path)
        if store is None:
            return Check(name=name, found="none yet; the daemon makes it")
        with store:
            damage = store.damage()
    except AuditError as error:
        return Check(name=name, status="fail", found=str(error), fix="see the message; a state.db.bak-* may be beside it")
    if damage:
        return Check(name=name, status="fail", found=f"{path} is damaged: {damage}", fix="move it away; put a state.db.bak-* in its place")
    return Check(name=name, found=f"{path} is sound, {path.stat().st_size / 2**20:.1f} MiB")


def _disk(coord_dir: Path) -> Check:
    place = _existing(coord_dir)
    free = shutil.disk_usage(place).free
    found = f"{free / 2**30:.1f} GiB free for {place}"
    status: Literal["ok", "warn", "fail"] = "fail" if free < _NO_DISK else "warn" if free < _LITTLE_DISK else "ok"
    nodes = os.statvfs(place)
    if nodes.f_files and nodes.f_favail < _FEW_INODES:  # without a fixed number of them, f_files is 0
        return Check(name="disk", status="fail", found=f"only {nodes.f_favail} inodes left for {place}", fix="remove small files")
    fix = "free space, or give a directory on another disk with --coord-dir" if status != "ok" else ""
    return Check(name="disk", status=status, found=found, fix=fix)


# ---------------------------------------------------------------- clock


def _clock(coord_dir: Path) -> Check:
    """What can be known without asking another machine: the disk's clock, this package's age, and the kernel's own opinion."""
    name, fix = "clock", "let chrony, ntpd or systemd-timesyncd set it"
    now = time.time()
    installed = Path(__file__).stat().st_mtime
    if now < installed - 86400:
        return Check(name=name, status="fail", found="it is earlier than the installation of this package", fix=fix)
    state = Path(presence.state_path(coord_dir))
    place = state if os.access(state, os.W_OK | os.X_OK) else None
    before = time.time()
    with tempfile.TemporaryFile(dir=place) as file:
        file.write(b"x")
        file.flush()
        apart = os.fstat(file.fileno()).st_mtime - before
    if abs(apart) > _CLOCK_STEP_SECONDS:
        found = f"the file system's clock is {apart:+.1f} s from this machine's; heartbeats by file time will look wrong"
        return Check(name=name, status="warn", found=found, fix="let both machines take their time from NTP")
    if _kernel_says_unsynchronised():
        found = "the kernel says that nothing keeps it in step; services on other machines may seem to answer before they are asked"
        return Check(name=name, status="warn", found=found, fix=fix)
    return Check(name=name, found="agrees with the file system's")


def _kernel_says_unsynchronised() -> bool:
    if sys.platform != "linux":
        return False
    try:
        # With modes = 0 the call only reads. The buffer is larger than any struct timex.
        return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(1024))) == _CLOCK_UNSYNCHRONISED
    except (OSError, AttributeError):
        return False


# ---------------------------------------------------------------- daemon and ports


def _daemon_document(coord_dir: Path) -> dict[str, Any] | None:
    try:
        return presence.read_document(presence.state_path(coord_dir, presence.DAEMON_FILE))
    except (OSError, ValueError):
        return None


def _daemon(coord_dir: Path, daemon: dict[str, Any] | None) -> Check:
    if daemon is None:
        return Check(name="daemon", found=f"none has run on {coord_dir}")
    who = f"pid {daemon.get('pid')}, started {daemon.get('started_at')}"
    if not presence.is_running(daemon):
        if daemon.get("stopped_at"):
            return Check(name="daemon", found=f"stopped cleanly at {daemon['stopped_at']}")
        fix = f"see its log, then `dsl telemetry start-processing --coord-dir {coord_dir}`"
        return Check(name="daemon", status="fail", found=f"died without a clean stop ({who})", fix=fix)
    api = daemon.get("api")
    if not api:
        return Check(name="daemon", status="warn", found=f"runs without an API ({who})", fix="free its port, then restart it")
    problem = _answer(str(api))
    if problem:
        return Check(
            name="daemon", status="fail", found=f"runs ({who}) but {api} does not answer: {problem}", fix="see its log; restart it"
        )
    return Check(name="daemon", found=f"runs and answers at {api} ({who})")


def _answer(api: str) -> str:
    """What keeps the daemon from answering; empty when it answers. TLS is left alone: a connection is answer enough."""
    import http.client
    import socket

    parts = urlsplit(api if "://" in api else f"//{api}")
    # A daemon that listens on all addresses is reached on this machine's own.
    host, port = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(parts.hostname or "", parts.hostname or "127.0.0.1"), parts.port or 0  # noqa: S104
    try:
        if parts.scheme == "https":
            socket.create_connection((host, port), timeout=_ANSWER_SECONDS).close()
            return ""
        with closing(http.client.HTTPConnection(host, port, timeout=_ANSWER_SECONDS)) as connection:
            connection.request("GET", "/livez")
            status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    return "" if status == http.client.OK else f"/livez says {status}"


def _port(settings: Settings, daemon: dict[str, Any] | None, listener: str) -> Check:
    name, field = f"port {listener}", f"{listener}_port"
    port, bind = getattr(settings.server, field), settings.server.bind
    if port == 0:
        return Check(name=name, found="any free one (0)")
    if daemon is not None and presence.is_running(daemon) and str(daemon.get(listener) or "").rstrip("/").endswith(f":{port}"):
        return Check(name=name, found=f"{port} is held by the daemon of this directory (pid {daemon.get('pid')})")
    problem = machine.port_problem(port, "127.0.0.1" if bind == "localhost" else bind)
    if problem is None:
        return Check(name=name, found=f"{port} is free")
    fix = f"set DSLMODEL_{field.upper()} to another port, or to 0 for any free one"
    if problem == errno.EADDRINUSE:
        is_explicit = field in settings.server.explicit_ports
        found = f"{port} is held by {machine.port_holder(port)}"
        return Check(name=name, status="fail" if is_explicit else "warn", found=found, fix=fix)
    if problem == errno.EADDRNOTAVAIL:
        fix = "set DSLMODEL_BIND to an address of this machine"
    return Check(name=name, status="fail", found=f"{bind}:{port} can't be listened on: {os.strerror(problem)}", fix=fix)


# ---------------------------------------------------------------- small looks


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    resolved = path.resolve()
    return next(place for place in (resolved, *resolved.parents) if place.exists())


def _file_system(path: Path) -> str:
    import psutil

    mounts = [part for part in psutil.disk_partitions(all=True) if path.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else ""


def _number(path: str) -> int | None:
    try:
        return int(json.loads(Path(path).read_text(encoding="ascii")))
    except (OSError, ValueError):
        return None
