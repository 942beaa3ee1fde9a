"""What this machine offers: memory, cores, ports. Looks, changes nothing."""

import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from dslmodel.errors import ConfigurationError

if TYPE_CHECKING:
    from dslmodel.settings import Checked

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_bytes() -> int:
    """Memory this process may use: the machine's, or what its container is allowed."""
    import psutil

    total = int(psutil.virtual_memory().total)
    for file in _CGROUP_LIMITS:
        try:
            total = min(total, int(Path(file).read_text(encoding="ascii")))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return total


def cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_free(port: int, address: str = "127.0.0.1") -> bool:
    """Whether a port can be listened on."""
    return port_problem(port, address) is None


def port_problem(port: int, address: str) -> int | None:
    """The errno of listening on a port; None when it can be done."""
    host = address.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        # As the daemon does: a port in TIME_WAIT is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(1)
        except OSError as error:
            return error.errno or errno.EINVAL
    return None


def port_holder(port: int) -> str:
    """Who listens on a port, as far as this user may know."""
    import psutil

    try:
        connections = psutil.net_connections("tcp")
    except (psutil.AccessDenied, OSError):
        return "another process"
    listening = [entry for entry in connections if entry.status == psutil.CONN_LISTEN and entry.laddr and entry.pid]
    pids = {entry.pid for entry in listening if entry.laddr and entry.laddr.port == port}
    names = []
    for pid in sorted(filter(None, pids)):
        try:
            names.append(f"{psutil.Process(pid).name()} (pid {pid})")
        except psutil.Error:
            continue
    return ", ".join(names) or "another process"


def problems_of(checked: "Checked") -> list[str]:
    """What is wrong outside of the settings themselves: the level of the log, and files that they name."""
    from dslmodel.engine.state import read_token
    from dslmodel.settings import log_settings, process_environment

    problems = []
    try:
        log_settings(process_environment())
    except ConfigurationError as error:
        problems.append(str(error))
    if checked.loaded is None:
        return problems
    server = checked.loaded.settings.server
    if server.token_file is not None:
        try:
            read_token(server.token_file)
        except ConfigurationError as error:
            problems.append(str(error))
    for name, path in (("server.tls_certificate", server.tls_certificate), ("server.tls_key", server.tls_key)):
        if path is not None and not os.access(path, os.R_OK):
            problems.append(f"{checked.loaded.origin(name)}: {path} can't be read. Give a PEM file that this user can read")
    return problems
