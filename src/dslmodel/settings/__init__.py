"""Frozen settings groups, and the only reader of the environment and of `dslmodel.toml`.

Takes the environment, up to three files, flags and what commands persisted; gives `Settings` and where each value comes from.
Never prints, never opens a socket, never changes a file. Importing this package loads neither pydantic nor a TOML parser, so that
a quick command pays for them only when it asks for settings.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dslmodel.settings.groups import (
        Detection,
        Forward,
        Health,
        Limits,
        Remediation,
        Security,
        Server,
        Settings,
        Telemetry,
    )

_HOME = {
    **dict.fromkeys(
        ("Detection", "Forward", "Health", "Limits", "Remediation", "Security", "Server", "Settings", "Telemetry"),
        "dslmodel.settings.groups",
    ),
}

__all__ = [
    "Detection",
    "Forward",
    "Health",
    "Limits",
    "Remediation",
    "Security",
    "Server",
    "Settings",
    "Telemetry",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
