"""Frozen settings groups, and the only reader of the environment and of `dslmodel.toml`.

Takes the environment, up to three files, flags and what commands persisted; gives `Settings` and where each value comes from.
Never prints, never opens a socket, never changes a file. Importing this package loads neither pydantic nor a TOML parser, so that
a quick command pays for them only when it asks for settings.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dslmodel.settings.exporters import OwnTelemetry, own_telemetry
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
        is_loopback,
    )
    from dslmodel.settings.loading import Checked, Loaded, check, load, load_settings
    from dslmodel.settings.logs import LogSettings, log_settings
    from dslmodel.settings.sources import process_environment, quick_value

_HOMES = {
    "groups": (
        "Detection",
        "Forward",
        "Health",
        "Limits",
        "Remediation",
        "Security",
        "Server",
        "Settings",
        "Telemetry",
        "is_loopback",
    ),
    "loading": ("Checked", "Loaded", "check", "load", "load_settings"),
    "logs": ("LogSettings", "log_settings"),
    "exporters": ("OwnTelemetry", "own_telemetry"),
    "sources": ("process_environment", "quick_value"),
}

__all__ = [
    "Checked",
    "Detection",
    "Forward",
    "Health",
    "Limits",
    "Loaded",
    "LogSettings",
    "OwnTelemetry",
    "Remediation",
    "Security",
    "Server",
    "Settings",
    "Telemetry",
    "check",
    "is_loopback",
    "load",
    "load_settings",
    "log_settings",
    "own_telemetry",
    "process_environment",
    "quick_value",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"dslmodel.settings.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
