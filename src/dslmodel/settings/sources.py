"""Where values come from: files, variables, what commands persisted, flags. Raw values with their origin; no pydantic here.

Layers are read lowest precedence first, so that a later one overrides an earlier one.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dslmodel.settings.names import FILE_NAME, FILES, PREFIX, key_of, variable_of

# What Kubernetes injects into every container for every Service of the namespace. A Service called `dslmodel-api` even sets
# DSLMODEL_API_PORT, so ports are told from links by the value.
_SERVICE_LINK = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$")
_LINK_VALUE = re.compile(r"^(tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value comes from."""

    kind: str  # "default", "file", "variable", "command" or "flag"
    name: str = ""  # the key, variable, command or flag
    file: Path | None = None

    def __str__(self) -> str:
        """As people read it: `DSLMODEL_BIND`, `/etc/dslmodel/dslmodel.toml: server.bind`, `default`."""
        return f"{self.file}: {self.name}" if self.file else self.name or self.kind


DEFAULT = Origin(kind="default")


@dataclass(slots=True)
class Layers:
    """Raw values by path, the last that was put wins, and what was wrong on the way."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)  # names that nobody knows: a warning when loading, an error when checking
    warnings: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)  # files that were read, lowest precedence first

    def put(self, path: str, value: Any, origin: Origin) -> None:
        """Set a value over what lower layers said."""
        self.values[path] = value
        self.origins[path] = origin


def process_environment() -> Mapping[str, str]:
    """The environment of this process."""
    return os.environ


def config_files(environ: Mapping[str, str], directory: Path) -> Sequence[Path]:
    """The files that are looked for, lowest precedence first."""
    home = environ.get("HOME", "")
    user = environ.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
    users = [Path(user) / "dslmodel" / FILE_NAME] if user else []
    return [Path("/etc/dslmodel") / FILE_NAME, *users, directory / FILE_NAME]


def read_layers(paths: Sequence[str], *, environ: Mapping[str, str], files: Iterable[Path]) -> Layers:
    """Files and variables, for the settings named by `paths`."""
    layers = Layers()
    for file in files:
        _read_file(layers, paths, file)
    _read_environment(layers, paths, environ)
    return layers


def put_all(layers: Layers, paths: Sequence[str], values: Mapping[str, Any], kind: str) -> None:
    """Flags or persisted values by path; None means not given.

    A path that doesn't exist is an error on the command line. What another version persisted must not stop a start.
    """
    for path, value in values.items():
        if path not in paths:
            problems = layers.errors if kind == "flag" else layers.unknown
            problems.append(f"{kind} {path}: no such setting{_suggestion(path, paths)}")
        elif value is not None:
            name = "--" + path.rpartition(".")[2].replace("_", "-") if kind == "flag" else f"{kind} {path}"
            layers.put(path, value, Origin(kind=kind, name=name))


def _read_file(layers: Layers, paths: Sequence[str], file: Path) -> None:
    import tomllib  # noqa: PLC0415  13 ms that commands without a file need not pay

    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        layers.errors.append(f"{file}: can't be read: {error.strerror}. Make it readable for this user, or remove it.")
        return
    except ValueError as error:  # also text that is not UTF-8
        layers.errors.append(f"{file}: is not valid TOML: {error}")
        return
    layers.files.append(file)
    by_key = {key_of(path): path for path in paths}
    tables = {key.rpartition(".")[0] for key in by_key}
    for key, value in _flatten(document, by_key, tables):
        path = by_key.get(key)
        if path is None:
            _note_unknown_key(layers, file, key, by_key)
            continue
        resolved = file.parent / value if path in FILES and isinstance(value, str) and value else value
        layers.put(path, resolved, Origin(kind="file", name=key, file=file))


def _flatten(document: Mapping[str, Any], keys: Mapping[str, str], tables: set[str]) -> Iterable[tuple[str, Any]]:
    """Keys with their tables' names; a table nobody knows is one item."""
    for name, value in document.items():
        if name in tables and name not in keys and isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", innermost) for inner, innermost in value.items())
        else:
            yield name, value


def _note_unknown_key(layers: Layers, file: Path, key: str, by_key: Mapping[str, str]) -> None:
    tables = {known.partition(".")[0] for known in by_key if "." in known}
    if key in tables:
        layers.errors.append(f"{file}: {key}: must be a table, [{key}]")
    else:
        layers.unknown.append(f"{file}: {key}: no such setting{_suggestion(key, [*by_key, *tables])}")


def _read_environment(layers: Layers, paths: Sequence[str], environ: Mapping[str, str]) -> None:
    by_variable = {variable_of(path): path for path in paths}
    for name in sorted(environ):
        value = environ[name]
        if not name.startswith(PREFIX):
            continue
        if _LINK_VALUE.match(value) and name.endswith("_PORT"):
            if name in by_variable:
                layers.warnings.append(f"{name}={value}: ignored, it looks like a Kubernetes service link and not like a port")
        elif name in by_variable:
            if value.strip():  # an empty variable is as good as none
                layers.put(by_variable[name], value, Origin(kind="variable", name=name))
        elif not _SERVICE_LINK.search(name):
            layers.unknown.append(f"{name}: no such variable{_suggestion(name, by_variable)}")


def _suggestion(name: str, known: Iterable[str]) -> str:
    matches = get_close_matches(name, list(known), n=1)
    return f", did you mean {matches[0]}?" if matches else ""


def quick_value(path: str, *, environ: Mapping[str, str], directory: Path) -> str | None:
    """One setting's raw text without validation, for a client that can't wait for pydantic. Unusable files are passed over."""
    layers = read_layers([path], environ=environ, files=config_files(environ, directory))
    value = layers.values.get(path)
    return None if value is None else str(value)
