"""What was found, for people: rich renderables that fit into 80 columns."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]
_ID_LENGTH = 14


def findings_table(rows: Sequence[Row]) -> list[object]:
    """A list of findings."""
    table = _table("id", "found (UTC)", "pattern", "where", "score", "state")
    for row in rows:
        table.add_row(
            _short(row["id"]), _when(row["at"]), row["pattern"], _where(row), f"{row['score'] or 0.0:.2f}", _state(row), style=_style(row)
        )
    return [table]


def incidents_table(rows: Sequence[Row]) -> list[object]:
    """A list of incidents."""
    table = _table("id", "opened (UTC)", "likely root causes", "findings", "state")
    for row in rows:
        causes = "\n".join(f"{cause['service']} {cause['score'] or 0.0:.2f}" for cause in row["root_causes"][:3]) or "unknown"
        state = "false positive" if row["is_false_positive"] else f"closed {_when(row['resolved_at'])}" if row["resolved_at"] else "open"
        style = "" if row["resolved_at"] else "red"
        table.add_row(_short(row["id"]), _when(row["opened_at"]), _plain(causes), str(len(row["findings"])), state, style=style)
    return [table]


def replayed(found: Sequence[Row], opened: Sequence[Row]) -> list[object]:
    """What a replay found."""
    parts: list[object] = [f"{len(found)} findings, {len(opened)} incidents"]
    parts += ["", *findings_table(found)] if found else []
    parts += ["", *incidents_table(opened)] if opened else []
    return parts


def baselines_table(rows: Sequence[Row]) -> list[object]:
    """What is taken as normal, with whatever columns the rows have."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = _table(*(name.replace("_", " ") for name in names))
    for row in rows:
        table.add_row(*(_value(row.get(name)) for name in names))
    return [table]


def explanation(data: Row) -> list[object]:
    """A finding or an incident with every condition."""
    if data["kind"] == "finding":
        parts = _finding(data["finding"])
        incident = data["incident"]
        if incident:
            parts += ["", _heading(f"Incident {incident['id']}"), *_suspects(incident)]
        return parts
    incident = data["incident"]
    state = f"closed {_when(incident['resolved_at'])}" if incident["resolved_at"] else "open"
    parts = [_heading(f"Incident {incident['id']}"), f"opened {_when(incident['opened_at'])} UTC, {state}", *_suspects(incident)]
    for finding in incident["findings"]:
        parts += ["", *(_finding(finding) if "pattern" in finding else [f"finding {finding['id']} is no longer kept"])]
    return parts


def _finding(row: Row) -> list[object]:
    head = f"{row['pattern']} on {_where(row)}"
    parts: list[object] = [_heading(head), f"id {row['id']}, score {row['score'] or 0.0:.2f}, {_state(row)}"]
    parts.append(f"began {_when(row['started_at'])}, found {_when(row['at'])} UTC")
    if row["summary"]:
        parts.append(row["summary"])
    parts.append(_clauses(row["clauses"]))
    if row["exemplars"]:
        parts.append("traces: " + ", ".join(row["exemplars"][:3]))
    return parts


def _suspects(incident: Row) -> list[object]:
    parts: list[object] = []
    for place, cause in enumerate(incident["root_causes"], 1):
        parts.append(f"{place}. {cause['service']}, score {cause['score'] or 0.0:.2f}")
        if cause.get("clauses"):
            parts.append(Padding(_clauses(cause["clauses"]), (0, 0, 0, 3)))
    return parts or ["no root cause is known"]


def _clauses(clauses: Sequence[Row]) -> Table | str:
    if not clauses:
        return "no conditions were kept"
    table = _table("condition", "value", "rule", "holds")
    for clause in clauses:
        holds = Text("yes", style="green") if clause["holds"] else Text("no", style="yellow")
        table.add_row(_plain(clause["name"]), _plain(_value(clause["value"])), _plain(clause["rule"]), holds)
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        # Ids and times are copied and compared: they are never cut or folded.
        table.add_column(heading, no_wrap=heading in {"id", "score", "holds"}, overflow="fold")
    return table


def _heading(text: str) -> Text:
    return Text(_safe(text), style="bold")


def _plain(text: str) -> Text:
    return Text(_safe(text))


def _safe(text: str) -> str:
    """Names come from other programs: what they hold can't steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def _where(row: Row) -> str:
    where = f"{row['service']} {row['operation']}" if row["operation"] else str(row["service"])
    return _safe(where)


def _state(row: Row) -> str:
    if row["false_positive_at"]:
        return "false positive"
    state = "over" if row["resolved_at"] else "open"
    extras = [name for name, is_so in (("flapping", row["is_flapping"]), ("acknowledged", row["acknowledged_at"])) if is_so]
    return ", ".join([state, *extras])


def _style(row: Row) -> str:
    return "" if row["resolved_at"] else "red"


def _short(identifier: str) -> str:
    return identifier[:_ID_LENGTH]


def _when(instant: str | None) -> str:
    return "-" if instant is None else f"{instant[5:10]} {instant[11:19]}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    return "-" if value is None else str(value)
