"""`dsl telemetry start-processing` and `status`."""

import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from dslmodel.cli import status_probe, status_text
from dslmodel.cli.output import DEFAULT_COORD_DIR, INTERRUPTED, SUCCESS, Context, Reply, UsageError, render, say

if TYPE_CHECKING:
    from dslmodel.settings import Settings

_WATCH_SECONDS = 1.0
_HOME_AND_CLEAR = "\x1b[H\x1b[J"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ListenFlags:
    """Flags that override the settings of `[server]`.

    Args:
        bind: Address to listen on; anything but loopback needs a token file.
        api_port: Port of the API; 0 takes any free one.
        otlp_grpc_port: Port of the OTLP/gRPC receiver; 0 takes any free one.
        otlp_http_port: Port of the OTLP/HTTP receiver; 0 takes any free one.
        token_file: File with mode 0600 that holds the token.
    """

    bind: str | None = None
    api_port: int | None = None
    otlp_grpc_port: int | None = None
    otlp_http_port: int | None = None
    token_file: Path | None = None

    def flags(self) -> dict[str, Any]:
        """By setting."""
        names = ("bind", "api_port", "otlp_grpc_port", "otlp_http_port", "token_file")
        return {f"server.{name}": getattr(self, name) for name in names}


def start_processing(
    *,
    record: Path | None = None,
    replay: Path | None = None,
    listen: ListenFlags | None = None,
    context: Annotated[Context, Parameter(parse=False)],
) -> Reply:
    """Run the daemon in the foreground: receivers, coordination directory, detection, API.

    Drains and ends on SIGTERM (exit 0) and Ctrl-C (exit 130); reloads its settings on SIGHUP. A second daemon on the same
    directory is a standby and takes over when the first one ends.

    Args:
        record: Keep everything that is received in this file (`*.gz` is compressed); `dsl telemetry replay` takes it.
        replay: Instead of receiving, play a recording in real time; ends with it.
        listen: where to listen.
        context: the global options.
    """
    from dslmodel.settings import load, log_settings, process_environment

    environ = process_environment()
    log = log_settings(environ, verbose=context.verbose)  # before loguru is imported: it fails on its own variables

    from dslmodel.api.daemon import Daemon, Options
    from dslmodel.engine.logs import configure_logging

    configure_logging(log)
    flags = (listen or ListenFlags()).flags()
    loaded = load(environ=environ, flags=flags)
    for warning in loaded.warnings:
        say(f"warning: {warning}", style="yellow")
    reporter = _Reporter(context)

    def reload() -> "Settings":
        return load(environ=environ, flags=flags).settings

    options = Options(coord_dirs=context.coord_dirs, record=record, replay=replay)
    ended_by = Daemon(loaded.settings, options, reporter.emit, reload).run()
    return Reply(data=reporter.summary, exit_code=INTERRUPTED if ended_by == signal.SIGINT else SUCCESS)


class _Reporter:
    """Shows what happens in the daemon: one envelope a line with --json, else words on stderr."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.summary: dict[str, Any] = {"event": "stopped"}

    def emit(self, name: str, data: dict[str, Any]) -> None:
        """Show one event. The last one becomes the command's own reply."""
        if name == "stopped":
            self.summary |= data
        elif self._context.json:
            warnings = [data["message"]] if name == "warning" else []
            render(Reply(data={"event": name, **data}, warnings=warnings), self._context)
        else:
            self._say(name, data)

    def _say(self, name: str, data: dict[str, Any]) -> None:
        from loguru import logger

        if name == "started":
            say(_welcome(data))
        elif name == "standby":
            active = f" (pid {data['active_pid']})" if data["active_pid"] else ""
            say(f"Standby: another daemon{active} runs on {data['coord_dir']}. This one takes over when it ends.")
        elif name == "finding":
            state = "over" if data["resolved_at"] else "acknowledged" if data["acknowledged_at"] else "found"
            logger.warning("{}: {} on {} ({}) {}", state, data["pattern"], data["service"], data["id"], data["summary"])
        elif name == "incident":
            causes = ", ".join(cause["service"] for cause in data["root_causes"][:3]) or "unknown"
            state = "closed" if data["resolved_at"] else "open"
            logger.warning("incident {} {}: {} findings, likely cause {}", data["id"], state, len(data["findings"]), causes)
        elif name == "warning":
            logger.warning(data["message"])


def _welcome(data: dict[str, Any]) -> str:
    """What a person needs to know at the start, in one block."""
    lines = [f"dslmodel runs (pid {data['pid']})"]
    if data["replay"]:
        lines.append(f"  replaying        {data['replay']} in real time; nothing else is received")
    for receiver in data["receivers"]:
        where = receiver["address"] if receiver["bound"] else f"not listening: {receiver['problem']}"
        lines.append(f"  {receiver['name']:<15}  {where}")
    lines.append(f"  {'api':<15}  {data['api']}   (/metrics, /livez, /readyz, /api/v1/status)")
    lines.append(f"  {'state':<15}  {data['state']}")
    if data["record"]:
        lines.append(f"  {'recording to':<15}  {data['record']}")
    endpoint, protocol = (data["otlp_grpc"], "grpc") if data["otlp_grpc"] else (data["otlp_http"], "http/protobuf")
    if endpoint:
        lines.append("Send spans to it from any OpenTelemetry SDK:")
        lines.append(f"  export OTEL_EXPORTER_OTLP_ENDPOINT={endpoint} OTEL_EXPORTER_OTLP_PROTOCOL={protocol}")
        lines.append("  export OTEL_SERVICE_NAME=my-service")
    coord_dir = Path(data["coord_dirs"][0])
    lines.append("Watch it: dsl telemetry status --watch" + ("" if coord_dir == DEFAULT_COORD_DIR else f" -c {coord_dir}"))
    return "\n".join(lines)


def status(
    *,
    watch: bool = False,
    fail_under: float | None = None,
    context: Annotated[Context, Parameter(parse=False)],
) -> Reply:
    """Health, services, open findings, receivers. Works with and without a daemon.

    Exits 1 when the daemon died uncleanly or hangs; 0 when it runs, was stopped, or never ran.

    Args:
        watch: Show it again every second until Ctrl-C.
        fail_under: Exit 5 when the health score is under this (0 to 1) or unknown.
        context: the global options.
    """
    if len(context.given_coord_dirs) > 1:
        raise UsageError("status looks at one coordination directory: give --coord-dir once, with the first one of the daemon")
    if fail_under is not None and not 0.0 <= fail_under <= 1.0:
        raise UsageError(f"--fail-under {fail_under:g}: a health score is between 0 and 1")
    asked = status_probe.Asked(str(context.coord_dir), fail_under)
    while watch:
        _show(_status_reply(asked), context)
        time.sleep(_WATCH_SECONDS)
    return _status_reply(asked)


def _status_reply(asked: status_probe.Asked) -> Reply:
    verdict = status_probe.inspect(asked)
    text = status_text.render(verdict.data, colour=status_text.colour_allowed(sys.stdout))
    return Reply(data=verdict.data, text=text, errors=verdict.errors, warnings=verdict.warnings, exit_code=verdict.code)


def _show(reply: Reply, context: Context) -> None:
    if not context.json and sys.stdout.isatty():
        sys.stdout.write(_HOME_AND_CLEAR)
    render(reply, context)
