"""How to log, by loguru's variables. Pure; `engine.logs` sets loguru up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dslmodel.errors import ConfigurationError

_LEVELS = ("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """Level, form, and what should be said once about them."""

    level: str = "INFO"
    form: str = ""  # a loguru format; "" = ours for people on a terminal, JSON lines elsewhere
    json_lines: bool | None = None  # None = JSON lines unless standard error is a terminal
    notices: Sequence[str] = ()


def log_settings(environ: Mapping[str, str], *, verbose: bool = False) -> LogSettings:
    """How to log.

    Args:
        environ: variables; `LOGURU_LEVEL` and `LOGURU_FORMAT` count.
        verbose: log everything from DEBUG on, whatever the level says.

    Raises:
        ConfigurationError: the level is none of loguru's. Ask before loguru is imported, or it raises first.
    """
    # Exactly loguru's names: with any other, loguru itself fails when it is imported.
    level = environ.get("LOGURU_LEVEL") or "INFO"
    if level not in _LEVELS:
        raise ConfigurationError(f"LOGURU_LEVEL={level}: must be one of {', '.join(_LEVELS)}")
    if verbose and _LEVELS.index(level) > _LEVELS.index("DEBUG"):
        level = "DEBUG"
    form = environ.get("LOGURU_FORMAT", "").strip()
    # The documented value is a JSON template. Loguru takes its outer braces for a field and raises KeyError on each message.
    if form.startswith('{"'):
        return LogSettings(level=level, json_lines=True, notices=["LOGURU_FORMAT starts with a brace and a quote: taken as JSON lines"])
    return LogSettings(level=level, form=form, json_lines=False if form else None)
