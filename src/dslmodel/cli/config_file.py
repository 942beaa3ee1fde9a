"""`dslmodel.toml` as text: the effective settings, and a commented file for this machine."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from dslmodel.errors import DslModelError
from dslmodel.settings.names import key_of, variable_of

if TYPE_CHECKING:
    from dslmodel.settings import Loaded, Settings

MIB = 2**20
# Below this much memory, what waits and what is remembered is bounded more tightly.
_SMALL_MEMORY = 2048 * MIB
_WIDTH = 118
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def literal(value: Any) -> str:
    """A value as TOML writes it; "" for one that is unset."""
    if value is None:
        return '""'
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{key if _BARE.fullmatch(key) else json.dumps(key)} = {literal(item)}" for key, item in value.items()) + " }"
            if value
            else "{}"
        )
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(str(value), ensure_ascii=False)


def effective(loaded: "Loaded", *, origin: bool) -> str:
    """All settings that hold now, as TOML; secrets are masked."""
    from dslmodel.settings.loading import setting_paths, shown, value_of
    from dslmodel.settings.names import SECRETS

    def line(path: str, name: str) -> list[str]:
        value = value_of(loaded.settings, path)
        text = literal(shown(path, value) if path in SECRETS and value else value)
        return [f"{name} = {text}" + (f"  # {loaded.origin(path)}" if origin else "")]

    return "\n".join(_tables(setting_paths(), line)) + "\n"


def listed(loaded: "Loaded") -> list[dict[str, Any]]:
    """All settings that hold now with their origins, as data; secrets are masked."""
    from dslmodel.settings.loading import setting_paths, shown, value_of
    from dslmodel.settings.names import SECRETS

    rows = []
    for path in setting_paths():
        value, source = value_of(loaded.settings, path), loaded.origin(path)
        if path in SECRETS:
            value = shown(path, value) if value else None
        elif isinstance(value, Path):
            value = str(value)
        rows.append({"key": key_of(path), "value": value, "origin": source.kind, "where": str(source), "variable": variable_of(path)})
    return rows


def commented(settings: "Settings", chosen: Mapping[str, tuple[Any, str]], about: str) -> str:
    """A file in which everything is explained and only what was `chosen` (value and reason by path) is set.

    Args:
        settings: the defaults to show.
        chosen: values for this machine, with the reason.
        about: one line about the machine.
    """
    from dslmodel.settings.loading import description, setting_paths, value_of

    def lines(path: str, name: str) -> list[str]:
        text = [f"# {part}" for part in wrap(f"{description(path)} ({variable_of(path)})", _WIDTH)]
        if path in chosen:
            value, reason = chosen[path]
            return [*text, f"# {reason}", f"{name} = {literal(value)}", ""]
        return [*text, f"# {name} = {literal(_readable(path, value_of(settings, path)))}", ""]

    head = [
        f"# DSLModel's settings. {about}",
        "# Lines that start with `# name =` show the default. Flags and DSLMODEL_* variables override this file.",
        "# `dsl config check` checks it, `dsl config view --origin` shows what holds and why.",
        "",
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join([*head, *_tables(setting_paths(), lines)]))


def for_this_machine(settings: "Settings", *, memory: int, is_free: Callable[[int], bool]) -> dict[str, tuple[Any, str]]:
    """What differs from the defaults here, with the reason: ports that are taken, and bounds for little memory."""
    chosen: dict[str, tuple[Any, str]] = {}
    used: set[int] = set()
    for name in ("api_port", "otlp_grpc_port", "otlp_http_port"):
        wanted = getattr(settings.server, name)
        port = next((port for port in range(wanted, wanted + 10_000, 1000) if is_free(port) and port not in used), 0)
        used.add(port)
        if port != wanted:
            chosen[f"server.{name}"] = (port, f"{wanted} is taken on this machine.")
    if memory < _SMALL_MEMORY:
        reason = f"This machine has {memory // MIB} MiB of memory."
        chosen["limits.queue_bytes"] = (f"{max(memory // 16 // MIB, 16)} MiB", reason)
        chosen["forward.queue_bytes"] = (f"{max(memory // 64 // MIB, 8)} MiB", reason)
        chosen["limits.span_cache"] = (50_000, reason)
    return chosen


def _tables(paths: Sequence[str], lines: Callable[[str, str], list[str]]) -> Iterator[str]:
    """Lines by table; keys without a table first, as TOML demands."""
    current = ""
    for path in sorted(paths, key=lambda path: "." in path):
        table, _, name = key_of(path).rpartition(".")
        if table != current:
            yield from ["", f"[{table}]"]
            current = table
        yield from lines(path, name)


def _readable(path: str, value: Any) -> Any:
    """Sizes as people write them."""
    if path.endswith("_bytes") and isinstance(value, int):
        return f"{value // MIB} MiB" if value % MIB == 0 else f"{value // 1024} KiB"
    return value


def write_new(path: Path, text: str, *, force: bool) -> Path | None:
    """Write a file whole; one that is there is refused, or with `force` kept beside it.

    Returns:
        Where the old one was kept.

    Raises:
        DslModelError: There is one, or it can't be written.
    """
    exists = path.exists()
    kept = path.with_name(f"{path.name}.bak") if exists else None
    if exists and not force:
        raise DslModelError(f"{path} exists; --force replaces it and keeps it as {path.name}.bak")
    partial = path.with_name(f".{path.name}.tmp")
    try:
        partial.write_text(text, encoding="utf-8")
        if kept is not None:
            path.replace(kept)
        partial.replace(path)
    except OSError as error:
        raise DslModelError(f"{path} can't be written: {error.strerror}. Run in a directory that this user can write") from error
    return kept
