"""`dsl telemetry replay`: recordings through the whole engine, as fast as it goes."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from dslmodel.cli.output import Reply, UsageError, errors_console


def replay(*files: Path, baseline: Path | None = None) -> Reply:
    """Put recordings through the whole engine on a virtual clock. Reads and writes no state; two runs give the same bytes.

    Takes `*.jsonl` and `*.jsonl.gz`: OTLP/JSON requests, window rows, edge rows, or what --record wrote; several are merged by
    time. `-` is standard input.

    Args:
        files: recordings.
        baseline: What is normal, as `--record` or an earlier run kept it; otherwise it is learnt from the recording.
    """
    if not files:
        raise UsageError("replay needs at least one recording: `dsl telemetry replay FILE…`")

    from dslmodel.api.shapes import finding_shape, incident_shape, replay_shape
    from dslmodel.cli.tables import replayed
    from dslmodel.engine.replay import replay as run
    from dslmodel.settings import load_settings

    with _progress(files):
        result = run(files, load_settings(), baseline.read_bytes() if baseline else None)
    data = replay_shape(result.findings, result.incidents)
    text = replayed([finding_shape(finding) for finding in result.findings], [incident_shape(incident) for incident in result.incidents])
    return Reply(data=data, text=text, warnings=result.warnings, timestamp=result.ended_at)


def _progress(files: Sequence[Path]) -> AbstractContextManager[object]:
    """Something that moves, on a terminal only."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    progress = Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=errors_console(), transient=True)
    progress.add_task(f"replaying {', '.join(file.name for file in files)}", total=None)
    return progress
