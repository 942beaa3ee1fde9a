"""The command tree, the global options, and how every outcome becomes an exit code. Heavy imports stay inside the commands."""

import difflib
import errno
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts
from cyclopts import App, Group, Parameter

from dslmodel import __version__, errors
from dslmodel.cli import config, demo, findings, replay, telemetry
from dslmodel.cli.output import (
    CONFIGURATION,
    FAILED,
    INTERRUPTED,
    NOT_MET,
    UNREACHABLE,
    USAGE,
    Context,
    Reply,
    UsageError,
    errors_console,
    render,
)

if TYPE_CHECKING:
    from rich.console import Console

_CODES: Sequence[tuple[type[BaseException], int]] = (
    (UsageError, USAGE),
    (errors.ConfigurationError, CONFIGURATION),
    (errors.DaemonUnreachable, UNREACHABLE),
    (errors.ConditionNotMet, NOT_MET),
    (errors.DslModelError, FAILED),
    (OSError, FAILED),
)
_GLOBAL_OPTIONS = ("--json", "--coord-dir", "--verbose", "--debug", "--help", "--version")

# Group -> name -> command. These modules are light: what is heavy is imported when a command runs.
_COMMANDS: Mapping[str, Mapping[str, Callable[..., Reply]]] = {
    "": {"init": config.init, "doctor": config.doctor},
    "config": {"view": config.view, "check": config.check},
    "telemetry": {
        "start-processing": telemetry.start_processing,
        "status": telemetry.status,
        "findings": findings.findings,
        "incidents": findings.incidents,
        "explain": findings.explain,
        "ack": findings.ack,
        "false-positive": findings.false_positive,
        "replay": replay.replay,
        "demo-8020": demo.demo_8020,
    },
    "telemetry baseline": {"show": findings.baseline_show, "reset": findings.baseline_reset},
}
_GROUPS = {
    "config": "The settings that hold here, and where they come from.",
    "telemetry": "Receive, watch and explain the span stream.",
    "telemetry baseline": "What is taken as normal.",
}


def build() -> App:
    """The whole command tree."""
    root = App(
        name="dsl",
        help="Closed-loop operations for OpenTelemetry that you can prove before you switch it on.",
        version=__version__,
        help_format="markdown",
        default_parameter=Parameter(negative=(), show_default=False),
    )
    groups = {"": root}
    for path, text in _GROUPS.items():
        parent, _, name = path.rpartition(" ")
        groups[path] = App(name=name, help=text)
        groups[parent].command(groups[path])
    for path, commands in _COMMANDS.items():
        for name, command in commands.items():
            groups[path].command(command, name=name)
    root.register_install_completion_command(name="--install-completion")
    return root


class Launcher:
    """Runs one command line: global options from anywhere in it, the command, its reply."""

    def __init__(self, arguments: Sequence[str]) -> None:
        plain = arguments[: arguments.index("--")] if "--" in arguments else arguments
        # Known before parsing, because an error of the parsing must be shown in the right form, too.
        self.context = Context(command=_words(plain), json="--json" in plain, debug="--debug" in plain)
        self._arguments = list(arguments)
        self._app = build()
        self._app.meta.group_parameters = Group("Everywhere", sort_key=100)
        self._app.meta.default(self._launch)
        self._app.meta.suppress_keyboard_interrupt = False

    def run(self) -> int:
        """Gives the exit code. Everything has been printed."""
        try:
            reply = self._run_command()
        except KeyboardInterrupt:
            reply = Reply(errors=["interrupted"], exit_code=INTERRUPTED)
        try:
            render(reply, self.context)
        except BrokenPipeError:
            # The reader has what it wanted. Python would complain once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return reply.exit_code

    def _run_command(self) -> Reply:
        printed = io.StringIO()
        try:
            answer = self._app.meta(
                self._arguments,
                exit_on_error=False,
                print_error=False,
                result_action="return_value",
                console=_plain_console(printed) if self.context.json else None,
                error_console=errors_console(),
            )
        except BrokenPipeError:
            raise
        except cyclopts.CycloptsError as error:
            return Reply(errors=[self._usage_error(error)], exit_code=USAGE)
        except Exception as error:
            if self.context.debug:
                raise
            return _failure(error)
        # Help and version are printed by the framework.
        return answer if isinstance(answer, Reply) else Reply(data={"text": printed.getvalue()} if self.context.json else {})

    def _launch(
        self,
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        json: Annotated[bool, Parameter(negative=())] = False,
        coord_dir: Annotated[list[Path] | None, Parameter(name=["--coord-dir", "-c"], negative=())] = None,
        verbose: Annotated[bool, Parameter(negative=())] = False,
        debug: Annotated[bool, Parameter(negative=())] = False,
    ) -> Any:
        """Run a command.

        Args:
            tokens: the command and its own options.
            json: Print one JSON envelope instead of text.
            coord_dir: Coordination directory, ./coordination unless given. start-processing takes several; state lives in the first.
            verbose: Log more.
            debug: Show the traceback of an error.
        """
        command, bound, ignored = self._app.parse_args(tokens, exit_on_error=False, print_error=False, error_console=errors_console())
        chain, _, _ = self._app.parse_commands(tokens)
        self.context = Context(
            command=" ".join(chain) or self.context.command,
            json=json,
            verbose=verbose,
            debug=debug,
            given_coord_dirs=tuple(coord_dir or ()),
        )
        injected = {name: self.context for name in ignored if name == "context"}
        return command(*bound.args, **bound.kwargs, **injected)

    def _usage_error(self, error: cyclopts.CycloptsError) -> str:
        error.verbose = False
        text = str(error).strip()
        if isinstance(error, cyclopts.UnusedCliTokensError):
            text = f"Too many arguments: {' '.join(error.unused_tokens or ())}."
        if isinstance(error, cyclopts.UnknownOptionError) and "Did you mean" not in text:
            close = difflib.get_close_matches(error.token.keyword or error.token.value, _GLOBAL_OPTIONS, n=1)
            text += f" Did you mean {close[0]}?" if close else ""
        chain = " ".join(["dsl", *(error.command_chain or ())])
        return f"{text} See `{chain} --help`"


def run(arguments: Sequence[str]) -> int:
    """Run one command line; gives the exit code."""
    return Launcher(arguments).run()


def _plain_console(file: io.StringIO) -> "Console":
    from rich.console import Console

    return Console(file=file, width=80, no_color=True)


def _failure(error: Exception) -> Reply:
    for kind, code in _CODES:
        if isinstance(error, kind):
            return Reply(errors=[_sentence(error)], exit_code=code)
    return Reply(errors=[f"internal error: {type(error).__name__}: {error}. Run again with --debug and report it"], exit_code=FAILED)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        fix = "; free space on its file system" if error.errno == errno.ENOSPC else ""
        return f"{error.filename}: {error.strerror}{fix}" if error.filename else f"{error.strerror}{fix}"
    return str(error)


def _words(arguments: Sequence[str]) -> str:
    """The command as it was meant, for an envelope about a line that could not be parsed."""
    words: list[str] = []
    for argument in arguments:
        if argument.startswith("-"):
            if words:
                break
            continue
        words.append(argument)
    return " ".join(words[:2])
