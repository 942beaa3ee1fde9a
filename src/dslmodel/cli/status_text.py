"""`dsl telemetry status` for people: plain text by hand, because the probe can't afford a rendering library."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    Document = dict[str, Any]

WIDTH = 80
_MAX_SERVICES = 20
_MAX_FINDINGS = 10
_STATES = {"optimal": "32", "healthy": "32", "degraded": "33", "critical": "31", "unknown": "35", "good": "32", "bad": "31"}


def colour_allowed(stream: "TextIO") -> bool:
    """Colour only on a terminal that wants it."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def render(data: "Document", *, colour: bool) -> str:
    """The whole screen."""
    paint = _paint if colour else _plain
    parts = [_head(data, paint), _services(data["telemetry"], paint), _findings(data["telemetry"], paint), _foot(data)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(data: "Document", paint: "Any") -> str:
    telemetry = data["telemetry"]
    score, state = telemetry["health_score"], telemetry["health_state"]
    if score is None:
        last = telemetry.get("last_health_score")
        health = paint("unknown", _STATES["unknown"]) + (f"   (last known {last:.2f})" if last is not None else "")
    else:
        health = paint(f"{score:.2f}  {state}", _STATES.get(state, "1"))
        parts = [f"{name} {value:.2f}" for name, value in telemetry["components"].items() if value is not None]
        health += f"   ({', '.join(parts)})" if parts else ""
    lines = [("Health", health), ("Daemon", _daemon(data))]
    trust = telemetry["telemetry_health"]
    if telemetry["engine"] and telemetry["processing"]:
        rate = telemetry["throughput_per_second"] or 0.0
        lines.append(("Stream", f"{rate:,.1f} spans/s over {telemetry['window_seconds']:g} s, {telemetry['engine']} engine"))
        lines.append(("Data", paint(trust["state"], _STATES.get(trust["state"], "1"))))
        lines += [("", f"! {problem}") for problem in trust["problems"]]
    return "\n".join(f"{paint(name.ljust(9), '1')}{text}" for name, text in lines)


def _daemon(data: "Document") -> str:
    daemon, telemetry = data.get("daemon"), data["telemetry"]
    if daemon is None:
        return "never started here"
    age = telemetry["age_seconds"]
    last = f", last tick {duration(age)} ago" if age is not None else ""
    if telemetry["processing"]:
        return f"running (pid {daemon['pid']}){last if age is not None else ', starting'}"
    if daemon.get("stopped_at"):
        return f"stopped at {daemon['stopped_at']}"
    return f"not healthy (pid {daemon['pid']}){last}"


def _services(telemetry: "Document", paint: "Any") -> str:
    counts = telemetry["span_counts"]
    if not counts or not telemetry["processing"]:
        return ""
    troubled: dict[str, list[str]] = {}
    for finding in telemetry["patterns"]:
        troubled.setdefault(finding["service"], []).append(finding["pattern"])
    learning = set(telemetry["learning"])
    totals = {service: sum(operations.values()) for service, operations in counts.items()}
    order = sorted(totals, key=lambda service: (service not in troubled, -totals[service], service))
    lines = [paint(f"{'SERVICE':<24}{'SPANS':>9}{'ERRORS':>9}{'P50 ms':>9}{'P95 ms':>9}  STATE", "1")]
    for service in order[:_MAX_SERVICES]:
        state = ", ".join(sorted(set(troubled.get(service, ())))) or ("learning" if service in learning else "ok")
        latency = telemetry["latency_ms"].get(service, {})
        row = f"{clip(service, 23):<24}{totals[service]:>9,}{_percent(telemetry['error_rates'].get(service)):>9}"
        row += f"{_milliseconds(latency.get('p50')):>9}{_milliseconds(latency.get('p95')):>9}  "
        lines.append(row + paint(state, "31" if service in troubled else "36" if service in learning else "32"))
    if len(order) > _MAX_SERVICES:
        lines.append(f"... and {len(order) - _MAX_SERVICES} more services (`--json` shows all)")
    return "\n".join(lines)


def _findings(telemetry: "Document", paint: "Any") -> str:
    findings = telemetry["patterns"]
    if not findings:
        return "No open finding." if telemetry["processing"] and telemetry["engine"] else ""
    title = "OPEN FINDING" if telemetry["processing"] else "LAST OPEN"
    lines = [paint(f"{title:<18}{'SINCE':<22}{'PATTERN':<21}{'SERVICE':<13}SCORE", "1")]
    for finding in findings[-_MAX_FINDINGS:]:
        since = str(finding["started_at"])[:19].replace("T", " ")
        row = f"{clip(finding['id'], 17):<18}{since:<22}{finding['pattern']:<21}{clip(finding['service'], 12):<13}"
        lines.append(paint(row + f"{finding['score'] or 0.0:5.2f}", "31"))
        if finding.get("summary"):
            lines.append(f"  {clip(finding['summary'], WIDTH - 2)}")
    if len(findings) > _MAX_FINDINGS:
        lines.append(f"... and {len(findings) - _MAX_FINDINGS} more (`dsl telemetry findings --open`)")
    lines.append("Why: dsl telemetry explain ID")
    return "\n".join(lines)


def _foot(data: "Document") -> str:
    telemetry = data["telemetry"]
    lines = []
    for receiver in telemetry["receivers"]:
        state = ("watched" if receiver["name"] == "coordination" else "listening") if receiver["bound"] else "not bound"
        lines.append(f"{receiver['name']:<14}{receiver['address']:<34}{state}")
        if receiver.get("problem") and telemetry["processing"]:
            lines.append(f"  {clip(receiver['problem'], WIDTH - 2)}")
    dropped = {signal: count for signal, count in telemetry.get("dropped", {}).items() if count}
    if dropped:
        lines.append("dropped       " + ", ".join(f"{count:,} {signal}" for signal, count in sorted(dropped.items())))
    agents = telemetry.get("agents") or {}
    if any(agents.values()):
        lines.append("agents        " + ", ".join(f"{count} {name}" for name, count in agents.items() if count))
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """A length of time in at most two units."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    for size, unit, smaller, small_unit in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{whole} s"


def clip(text: str, width: int) -> str:
    """Text that fits into a column; control characters can't reach the terminal."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= width else text[: width - 3] + "..."


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio * 100:.1f} %"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def _paint(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"


def _plain(text: str, _code: str) -> str:
    return text
