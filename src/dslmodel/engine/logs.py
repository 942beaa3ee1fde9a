"""Sets loguru up once per process: words on standard error, JSON lines with trace and span ids for machines."""

import json
import logging
import sys
import traceback
from typing import TYPE_CHECKING, Any, TextIO

from loguru import logger

from dslmodel.settings import LogSettings

if TYPE_CHECKING:
    from loguru import Message, Record

_PEOPLE = "<dim>{time:HH:mm:ss}</dim> <level>{level: <8}</level> {message}"


def configure_logging(log: LogSettings, *, stream: TextIO | None = None, colour: bool | None = None) -> None:
    """Replace loguru's handlers, and lead the standard library's warnings through it.

    Args:
        log: from `settings.log_settings`.
        stream: where to write; standard error when None. JSON lines unless it is a terminal, when `log` leaves it open.
        colour: None lets loguru decide by the terminal, NO_COLOR and TERM.
    """
    target = sys.stderr if stream is None else stream
    json_lines = not target.isatty() if log.json_lines is None else log.json_lines
    logger.remove()
    # Values of variables don't belong in logs: they may be somebody's data or secrets.
    if json_lines:
        logger.add(_JsonLines(target), level=log.level, format="{message}", backtrace=False, diagnose=False)
    else:
        logger.add(target, level=log.level, format=log.form or _PEOPLE, colorize=colour, backtrace=False, diagnose=False)
    logging.basicConfig(handlers=[_Intercept()], level=logging.WARNING, force=True)
    for notice in log.notices:
        logger.info(notice)


class _JsonLines:
    """A sink that writes one JSON object a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, message: "Message") -> None:
        self._stream.write(json.dumps(_document(message.record), default=str, ensure_ascii=False) + "\n")

    def flush(self) -> None:
        self._stream.flush()


class _Intercept(logging.Handler):
    """Hands records of the standard library's loggers to loguru under their own names."""

    def emit(self, record: logging.LogRecord) -> None:
        logger.patch(lambda entry: entry.update({"name": record.name})).opt(exception=record.exc_info).log(
            record.levelname if record.levelname in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"} else record.levelno,
            "{}",
            record.getMessage(),
        )


def _document(record: "Record") -> dict[str, Any]:
    document: dict[str, Any] = {
        "time": record["time"].isoformat(),
        "level": record["level"].name,
        "message": record["message"],
        "logger": record["name"],
        **_span_ids(),
        **record["extra"],
    }
    if record["exception"] is not None:
        document["exception"] = "".join(traceback.format_exception(*record["exception"]))
    return document


def _span_ids() -> dict[str, str]:
    """Ids of the active span. While nobody has imported OpenTelemetry's API there can be none."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    context = trace.get_current_span().get_span_context()
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"} if context.is_valid else {}
