"""One envelope, two renderers. Data goes to stdout, words go to stderr.

Commands return a `Reply`; they don't print. Rich is imported only when something is rendered for a person.
"""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dslmodel.errors import DslModelError

if TYPE_CHECKING:
    from rich.console import Console

SUCCESS, FAILED, USAGE, CONFIGURATION, UNREACHABLE, NOT_MET, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

DEFAULT_COORD_DIR = Path("coordination")


class UsageError(DslModelError):
    """The command line is wrong. Exit code 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The global options of one call."""

    command: str = ""
    json: bool = False
    verbose: bool = False
    debug: bool = False
    given_coord_dirs: tuple[Path, ...] = ()

    @property
    def coord_dirs(self) -> tuple[Path, ...]:
        """The coordination directories; state lives in the first."""
        return self.given_coord_dirs or (DEFAULT_COORD_DIR,)

    @property
    def coord_dir(self) -> Path:
        """The directory that holds the state."""
        return self.coord_dirs[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a command has to say.

    `data` goes into the envelope; `text` (a str, a rich renderable, or a sequence of them) is shown to people instead.
    `errors` and `warnings` are sentences: envelope and stderr. `timestamp` is in ns, None = now.
    """

    data: Mapping[str, Any] = field(default_factory=dict)
    text: object = None
    errors: Sequence[str] = ()
    warnings: Sequence[str] = ()
    exit_code: int = SUCCESS
    timestamp: int | None = None


def envelope(command: str, reply: Reply) -> dict[str, Any]:
    """The JSON that every command prints."""
    return {
        "timestamp": _instant(time.time_ns() if reply.timestamp is None else reply.timestamp),
        "command": command,
        "success": reply.exit_code == SUCCESS,
        "data": reply.data,
        "errors": list(reply.errors),
        "warnings": list(reply.warnings),
    }


def render(reply: Reply, context: Context) -> None:
    """Print a reply: the envelope with --json, else text on stdout and errors and warnings on stderr."""
    if context.json:
        line = dump(envelope(context.command, reply))
        sys.stdout.write(line + "\n")
    else:
        _show(reply.text)
    sys.stdout.flush()
    if not context.json:
        for warning in reply.warnings:
            say(f"warning: {warning}", style="yellow")
        for error in reply.errors:
            say(f"error: {error}", style="bold red")


def dump(value: object) -> str:
    """JSON that any parser takes: ASCII, no NaN or infinities (they become null)."""
    try:
        return json.dumps(value, allow_nan=False, default=str)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, default=str)


def say(words: str, *, style: str = "") -> None:
    """Words for a person, on stderr."""
    if colour_allowed(sys.stderr):
        errors_console().print(words, style=style or None, markup=False, highlight=False, soft_wrap=True)
    else:
        sys.stderr.write(words + "\n")
        sys.stderr.flush()


def colour_allowed(stream: Any) -> bool:
    """Colour only on a terminal that wants it."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def console() -> "Console":
    """Rich on stdout. What is piped is as wide as it needs to be, so that nothing is cut."""
    from rich.console import Console

    is_terminal = sys.stdout.isatty()
    return Console(file=sys.stdout, highlight=False, no_color=not colour_allowed(sys.stdout), width=None if is_terminal else 10_000)


def errors_console() -> "Console":
    """Rich on stderr."""
    from rich.console import Console

    return Console(file=sys.stderr, highlight=False, no_color=not colour_allowed(sys.stderr))


def _show(text: object) -> None:
    if text is None:
        return
    if isinstance(text, str):
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        return
    out = console()
    for part in text if isinstance(text, Sequence) else (text,):
        out.print(part, soft_wrap=isinstance(part, str), markup=False)


def _instant(at: int) -> str:
    seconds, nanos = divmod(at, 1_000_000_000)
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f"{fraction}Z"


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
