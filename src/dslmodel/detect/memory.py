"""Baselines to JSON-able documents and back."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from dslmodel.detect.history import History
from dslmodel.detect.measured import Measured
from dslmodel.detect.profiles import Profile, Profiles
from dslmodel.detect.season import Seasons
from dslmodel.detect.stream import Stream
from dslmodel.records import EdgeKey, SeriesKey

FORMAT = 1
_PROFILES = (("requests", SeriesKey), ("calls", EdgeKey), ("waits", EdgeKey), ("work", SeriesKey))


def dump(stream: Stream, measured: Measured) -> dict[str, Any]:
    """Everything learnt."""
    return {
        "format": FORMAT,
        "first_seen": dict(stream.first_seen),
        "callers": {server: sorted(clients) for server, clients in stream.callers.items()},
        "versions": [list(key) for key in stream.versions()],
        "profiles": {name: [[list(key), profile.dump()] for key, profile in getattr(stream, name).items()] for name, _ in _PROFILES},
        "history": stream.history.dump(),
        "seasons": stream.seasons.dump(),
        "measured": {
            "first_seen": dict(measured.first_seen),
            "callers": {server: sorted(clients) for server, clients in measured.callers.items()},
            "pairs": measured.pairs.dump(),
            "seasons": measured.seasons.dump(),
            "singles": measured.singles.dump(),
        },
    }


def describe(stream: Stream, measured: Measured, learning: Sequence[str], service: str | None) -> list[dict[str, Any]]:
    """What is taken as normal: a row by service and operation, or measured signal."""
    rows: list[dict[str, Any]] = []
    for key, profile in sorted(stream.requests.items(), key=lambda item: str(item[0])):
        if isinstance(key, SeriesKey) and service in (None, key.service):
            rows.append(
                {
                    "service": key.service,
                    "operation": key.operation,
                    "version": key.version or None,
                    "state": "learning" if key.service in learning else "ready",
                    "requests_learnt": round(profile.seen, 1),
                    "typical_ms": round(math.exp(profile.mu), 3),
                    "p95_ms": round(math.exp(profile.tau), 3),
                    "error_ratio": round(profile.error_ratio, 6),
                }
            )
    windows = [name for name in sorted(measured.first_seen) if service in (None, name)]
    rows += [{"service": n, "operation": None, "version": None, "state": "measured", **measured.normals(n)} for n in windows]
    return rows


def load(document: Mapping[str, Any], stream: Stream, measured: Measured) -> None:
    """Take what `dump` gave. Raises ValueError for another format."""
    if document.get("format") != FORMAT:
        raise ValueError(f"baselines have format {document.get('format')!r}, this version reads {FORMAT}")
    stream.first_seen.update({name: int(second) for name, second in document["first_seen"].items()})
    for server, clients in document["callers"].items():
        stream.callers.setdefault(server, set()).update(clients)
    for key in document["versions"]:
        stream.remember_version(SeriesKey(*key))
    for name, kind in _PROFILES:
        profiles: Profiles = getattr(stream, name)
        for key, profile in document["profiles"][name]:
            profiles.put(kind(*key), Profile.load(profile))
    _load_history(stream.history, document["history"])
    _load_seasons(stream.seasons, document["seasons"])
    other = document["measured"]
    measured.first_seen.update({name: int(second) for name, second in other["first_seen"].items()})
    for server, clients in other["callers"].items():
        measured.callers.setdefault(server, set()).update(clients)
    _load_history(measured.pairs, other["pairs"])
    _load_seasons(measured.seasons, other["seasons"])
    _load_history(measured.singles, other["singles"])


def _load_history(history: History, rows: Any) -> None:
    for key, values in rows:
        history.load(_hashable(key), values)


def _load_seasons(seasons: Seasons, rows: Any) -> None:
    for key, hours in rows:
        seasons.load(_hashable(key), hours)


def _hashable(key: Any) -> Hashable:
    return tuple(_hashable(part) for part in key) if isinstance(key, list) else key
