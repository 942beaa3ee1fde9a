"""The report as one self-contained HTML page: a timeline in SVG and a table, no script, nothing loaded from elsewhere."""

from collections.abc import Callable
from html import escape

from dslmodel.api.shapes import instant
from dslmodel.demo.faults import Verdict
from dslmodel.demo.report import FEATURE_NAME, FaultResult, Report, seconds_between

_WIDTH, _LEFT, _RIGHT, _LANE, _TOP = 1000, 190, 30, 46, 30
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1040px;padding:0 1rem;color:#1c2430;background:#fff}
h1{font-size:1.4rem}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #d5dae1}
td.n{text-align:right;font-variant-numeric:tabular-nums}.ok{color:#14692f}.bad{color:#a81c1c;font-weight:600}
svg{width:100%;height:auto}svg text{font:13px system-ui,sans-serif;fill:#1c2430}.axis{stroke:#c3cad3}.fault{fill:#e0a1a1}.open{fill:#a81c1c}
.baseline{fill:#cfe0f3}small{color:#566070}
@media(prefers-color-scheme:dark){body{color:#e4e8ee;background:#14181e}svg text{fill:#e4e8ee}th,td{border-color:#39424e}.ok{color:#6fce8c}
.bad,.open{color:#ff8b8b;fill:#ff8b8b}.fault{fill:#7c3a3a}.baseline{fill:#29435f}.axis{stroke:#4a5461}small{color:#9aa5b3}}
"""


def page(report: Report) -> str:
    """Write the report as HTML."""
    verdict = '<span class="ok">passed</span>' if report.passed else '<span class="bad">failed</span>'
    seconds = seconds_between(report.started_at, report.ended_at)
    notes = "".join(f'<li class="bad">{escape(text)}</li>' for text in report.problems) + "".join(
        f"<li>{escape(text)}</li>" for text in report.remarks
    )
    rows = "".join(_row(result) for result in report.faults)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>DSLModel {FEATURE_NAME}</title><style>{_STYLE}</style></head><body>
<h1>DSLModel {FEATURE_NAME}: {verdict}</h1>
<p>{len(report.services)} services in {report.processes} processes, {escape(str(instant(report.started_at)))}, {seconds:.1f} s in all,
{report.baseline_seconds:.1f} s of them to learn what is normal. {report.spans.get("accepted", 0):,} spans received.</p>
{_timeline(report)}
<table><thead><tr><th>What was done</th><th>Found</th><th>on</th><th>after</th><th>Root cause</th><th>Closed after repair</th>
<th>Verdict</th></tr></thead><tbody>{rows}</tbody></table>
{f"<ul>{notes}</ul>" if notes else ""}
<p><small>Times are from the start of the fault to the finding, and from the repair to its closing, by the daemon's own record.</small></p>
</body></html>
"""


def _row(result: FaultResult) -> str:
    found = result.diagnosis.expected
    cells = [
        escape(result.fault.what),
        escape(found.pattern) if found else "-",
        escape(found.service) if found else "-",
        _seconds(result.seconds_to_finding),
        escape(result.diagnosis.blamed[0]) if result.diagnosis.blamed else "-",
        _seconds(result.seconds_to_close),
        f'<span class="{"ok" if result.verdict is Verdict.SEEN else "bad"}">{result.verdict.value}</span>',
    ]
    raised = [f"{escape(finding.pattern)} on {escape(finding.service)}" for finding in result.diagnosis.consequences]
    also = f'<tr><td colspan="7"><small>in the same incident: {", ".join(raised)}</small></td></tr>' if raised else ""
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + f"</tr>{also}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def _timeline(report: Report) -> str:
    """One lane for each fault: how long it lasted (pale), and from when to when its finding was open (strong)."""
    total = max(seconds_between(report.started_at, report.ended_at), 1.0)
    height = _TOP + _LANE * len(report.faults) + 30

    def x(at: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * min(max(seconds_between(report.started_at, at) / total, 0.0), 1.0)

    begin = report.started_at + round(report.startup_seconds * 1e9)
    learnt = begin + round(report.baseline_seconds * 1e9)
    parts = [_bar("baseline", x(begin), x(learnt), _TOP, height - _TOP - 30, "learning what is normal")]
    parts.append(f'<text x="{x(begin) + 4:.0f}" y="{_TOP - 8}">baseline</text>')
    for second in range(0, int(total) + 1, 10):
        at = x(report.started_at + second * 1_000_000_000)
        parts.append(f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{height - 30}"/>')
        parts.append(f'<text x="{at:.1f}" y="{height - 10}" text-anchor="middle">{second} s</text>')
    for lane, result in enumerate(report.faults):
        parts.append(_lane(result, x, _TOP + lane * _LANE, report.ended_at))
    label = "Timeline of the faults and their findings; the table below has the numbers"
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _lane(result: FaultResult, x: Callable[[int], float], y: int, end: int) -> str:
    parts = [f'<text x="0" y="{y + 27}">{escape(result.fault.service)}: {escape(result.fault.name)}</text>']
    parts.append(_bar("fault", x(result.began_at), x(result.ended_at), y + 8, 12, "fault"))
    for finding in result.diagnosis.raised:
        is_expected = finding is result.diagnosis.expected
        title = f"{finding.pattern} on {finding.service}"
        parts.append(
            _bar("open", x(finding.at), x(finding.resolved_at or end), y + (22 if is_expected else 36), 12 if is_expected else 4, title)
        )
    return "".join(parts)


def _bar(kind: str, left: float, right: float, y: int, height: int, title: str) -> str:
    box = f'x="{left:.1f}" y="{y}" width="{max(right - left, 2.0):.1f}" height="{height}"'
    return f'<rect class="{kind}" {box}><title>{escape(title)}</title></rect>'
