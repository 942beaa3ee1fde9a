"""`dsl telemetry demo-8020`: runs the demonstration and shows its report."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dslmodel.cli.output import FAILED, SUCCESS, Reply, say

if TYPE_CHECKING:
    from dslmodel.demo.report import FaultResult, Report


_VERDICTS = {"seen": "seen", "unseen": "not seen", "misattributed": "wrong cause", "not_closed": "not closed"}


def demo_8020(*, fast: bool = False, html: Path | None = None, record: Path | None = None) -> Reply:
    """Run a small real system, break it, and see whether the daemon notices.

    Starts eight HTTP services, their proxy, users and agents on free ports of this machine, learns what is normal, then makes
    one service fail, one slow, kills one and silences one. Exits 1 when a fault went unseen or was blamed on another service.

    Args:
        fast: Under a minute instead of under two.
        html: Also write the report to this file as one self-contained page.
        record: Keep what the daemon received in this file; `dsl telemetry replay` takes it.
    """
    from dslmodel.demo.page import page
    from dslmodel.demo.run import Demonstration
    from dslmodel.settings.sources import process_environment

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # unwind, so that everything is ended
    report = Demonstration(is_fast=fast, environment=process_environment(), say=_progress()).run(record=record)
    if html is not None:
        html.write_text(page(report), encoding="utf-8")
    return Reply(
        data=report.data(),
        text=_text(report, html),
        errors=report.problems,
        warnings=report.remarks,
        exit_code=SUCCESS if report.passed else FAILED,
    )


def _progress() -> Any:
    """Words on stderr while it runs, on a terminal only: a pipe gets the report."""
    return say if sys.stderr.isatty() else lambda _sentence: None


def _text(report: "Report", html: Path | None) -> list[object]:
    from rich.table import Table

    table = Table(title="demo-8020: what was broken, and what the daemon made of it", title_justify="left")
    for heading in ("what was done", "found", "after", "root cause", "closed", "verdict"):
        table.add_column(heading, min_width=16 if heading == "found" else None)  # so that no pattern's name is cut
    for result in report.faults:
        table.add_row(*_row(result))
    seconds = (report.ended_at - report.started_at) / 1e9
    summary = (
        f"{len(report.services)} services in {report.processes} processes; {report.spans.get('accepted', 0):,} spans received; "
        f"started in {report.startup_seconds:.1f} s, learnt in {report.baseline_seconds:.1f} s, {seconds:.0f} s in all."
    )
    meaning = "after: from the start of the fault to the finding; closed: from the repair to its end; by the daemon's own record."
    lines: list[object] = [table, meaning, summary, "Passed." if report.passed else "Failed."]
    return lines + ([f"Report: {html}"] if html else [])


def _row(result: "FaultResult") -> list[str]:
    found = result.diagnosis.expected
    raised = [f"{finding.pattern} on {finding.service}" for finding in ([found] if found else []) + list(result.diagnosis.consequences)]
    return [
        result.fault.what,
        "\n".join(raised) or "nothing",
        _seconds(result.seconds_to_finding),
        result.diagnosis.blamed[0] if result.diagnosis.blamed else "-",
        _seconds(result.seconds_to_close),
        _VERDICTS[result.verdict.value],
    ]


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"
