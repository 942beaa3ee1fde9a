"""Results as tables for people and as JSON for programs."""

import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import psutil

from bench.measure import Result, Row, number

_ABOUT = (
    "Written by `{}`; run it again rather than believe it. Ratios compare what ran in turn within one run, so they hold elsewhere; "
    "rates are this machine's, which other programs may have kept busy. Medians, with first and third quartile."
)
_LIBRARIES = ("protobuf", "grpcio", "numpy", "uvicorn")


def _code() -> str:
    """The commit that was measured, and whether it was all."""
    folder = Path(__file__).parent
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=folder, capture_output=True, text=True, check=False).stdout.strip()
    changed = subprocess.run(
        ["git", "status", "--porcelain", "../src", "."], cwd=folder, capture_output=True, text=True, check=False
    ).stdout
    if not commit:
        return "not a git checkout"
    return f"{commit} with uncommitted changes" if changed else commit


def environment() -> dict[str, str]:
    """What the figures depend on."""
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    cores = f"{psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f} at the end"
    return {
        "commit": _code(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {cores}",
        "libraries": libraries,
    }


def as_markdown(results: Sequence[Result], command: str) -> str:
    """A page with a table for each result."""
    lines = [
        "# Benchmarks",
        "",
        _ABOUT.format(command),
        "",
        *(f"- {name}: {value}" for name, value in environment().items()),
    ]
    for result in results:
        lines += ["", f"## {result.title}", "", result.what, "", "| | median | quartiles |", "|---|---:|---:|"]
        lines += [_line(row) for row in result.rows]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    low, middle, high = row.quartiles
    spread = f"{number(low)} to {number(high)}" if len(row.samples) > 1 else ""
    return f"| {row.label} | {number(middle)} {row.unit} | {spread} |".replace("  |", " |")


def as_json(results: Sequence[Result]) -> dict[str, object]:
    """Everything, samples included."""
    return {
        "environment": environment(),
        "results": [
            {
                "name": result.name,
                "title": result.title,
                "what": result.what,
                "rows": [
                    {"label": row.label, "unit": row.unit, "median": row.quartiles[1], "samples": list(row.samples)} for row in result.rows
                ],
            }
            for result in results
        ],
    }
