"""The durable memory of the engine, in one SQLite file with one writer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Engine, delete, select

from dslmodel.audit import schema
from dslmodel.audit.database import damage, open_for_reading, open_for_writing, translated, upsert, writing
from dslmodel.audit.rows import finding_of, finding_row, incident_of, incident_row
from dslmodel.records import Finding, Incident

_BASELINES = "current"


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredState:
    """A value that somebody asked for by a command; it outlives restarts."""

    value: Any  # JSON
    at: int
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something a person asked of the engine."""

    number: int
    at: int
    by: str
    name: str  # "ack", "false_positive", "baseline_reset", …
    arguments: Mapping[str, Any]


class Store:
    """Findings, incidents, baselines, desired state and events.

    A call that writes is one transaction that is on the disk when the call returns. Safe to use from several threads. Every
    failure is an AuditError that names the file, the cause and the fix; what was recorded before stays.
    """

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path = path
        self._engine = engine

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open for writing: made when missing, migrated when old (a copy `state.db.bak-<version>` is kept)."""
        return cls(path, open_for_writing(path))

    @classmethod
    def open_readonly(cls, path: Path) -> Self | None:
        """Open what is there without changing or creating anything; None when there is nothing."""
        engine = open_for_reading(path)
        return None if engine is None else cls(path, engine)

    def close(self) -> None:
        """Close all connections; the last one folds the write-ahead log into the database."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def damage(self) -> str:
        """What is wrong with the whole file; empty when it is sound."""
        with translated(self.path, "checked"), self._engine.connect() as connection:
            return damage(connection)

    # ------------------------------------------------------------ findings and incidents

    def record(self, findings: Iterable[Finding], incidents: Iterable[Incident]) -> None:
        """Insert or replace by id, all or nothing."""
        found, opened = list(findings), list(incidents)
        if not found and not opened:
            return
        with translated(self.path, "written"), writing(self._engine) as connection:
            upsert(connection, schema.findings, [finding_row(finding) for finding in found])
            upsert(connection, schema.incidents, [incident_row(incident) for incident in opened])

    def findings(
        self, *, since: int | None = None, service: str | None = None, open_only: bool = False, limit: int | None = None
    ) -> Sequence[Finding]:
        """Findings, newest last.

        Args:
            since: found at this time (ns) or later.
            service: of this service.
            open_only: not resolved.
            limit: only the newest so many.
        """
        table = schema.findings
        query = select(table).order_by(table.c.at.desc(), table.c.id.desc()).limit(limit)
        if since is not None:
            query = query.where(table.c.at >= since)
        if service is not None:
            query = query.where(table.c.service == service)
        if open_only:
            query = query.where(table.c.resolved_at.is_(None))
        with translated(self.path, "read"), self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        return [finding_of(dict(row)) for row in reversed(rows)]

    def incidents(
        self, *, since: int | None = None, service: str | None = None, open_only: bool = False, limit: int | None = None
    ) -> Sequence[Incident]:
        """Incidents, newest last; `since` counts from the opening, `service` is a root cause or has a finding in it."""
        table = schema.incidents
        query = select(table).order_by(table.c.opened_at.desc(), table.c.id.desc())
        if since is not None:
            query = query.where(table.c.opened_at >= since)
        if open_only:
            query = query.where(table.c.resolved_at.is_(None))
        if service is None:
            query = query.limit(limit)
        with translated(self.path, "read"), self._engine.connect() as connection:
            found = [incident_of(dict(row)) for row in connection.execute(query).mappings()]
            if service is not None:
                ids = set(connection.execute(select(schema.findings.c.id).where(schema.findings.c.service == service)).scalars())
                found = [incident for incident in found if _concerns(incident, service, ids)][:limit]
        return found[::-1]

    def prune(self, before: int, *, max_findings: int | None = None) -> int:
        """Forget what ended before a time (ns), and of the rest the oldest beyond `max_findings` findings and as many incidents.

        What is still open is forgotten last, and never for its age.

        Returns:
            How many findings and incidents were forgotten.
        """
        forgotten = 0
        with translated(self.path, "written"), writing(self._engine) as connection:
            for table, began in ((schema.findings, schema.findings.c.at), (schema.incidents, schema.incidents.c.opened_at)):
                forgotten += connection.execute(delete(table).where(table.c.resolved_at < before)).rowcount
                if max_findings is not None:
                    kept = select(table.c.id).order_by(table.c.resolved_at.is_not(None), began.desc()).limit(max_findings)
                    forgotten += connection.execute(delete(table).where(table.c.id.not_in(kept))).rowcount
        return forgotten

    # ------------------------------------------------------------ what was learnt, what was asked for

    def save_baselines(self, data: bytes) -> None:
        """Replace what was learnt."""
        with translated(self.path, "written"), writing(self._engine) as connection:
            upsert(connection, schema.baselines, [{"name": _BASELINES, "data": data}])

    def load_baselines(self) -> bytes | None:
        """What was learnt; None when nothing was."""
        query = select(schema.baselines.c.data).where(schema.baselines.c.name == _BASELINES)
        with translated(self.path, "read"), self._engine.connect() as connection:
            return connection.execute(query).scalar()

    def put_setting(self, name: str, value: Any, *, at: int, by: str) -> None:
        """Keep a value that a command asked for, and that it was asked for."""
        with translated(self.path, "written"), writing(self._engine) as connection:
            upsert(connection, schema.desired_state, [{"name": name, "value": value, "at": at, "by": by}])
            _append(connection, {"at": at, "by": by, "name": "set", "arguments": {"name": name, "value": value}})

    def settings(self) -> Mapping[str, DesiredState]:
        """Values that commands asked for, by name."""
        table = schema.desired_state
        with translated(self.path, "read"), self._engine.connect() as connection:
            rows = connection.execute(select(table).order_by(table.c.name)).all()
        return {row.name: DesiredState(value=row.value, at=row.at, by=row.by) for row in rows}

    def append_event(self, name: str, arguments: Mapping[str, Any], *, at: int, by: str) -> None:
        """Write down that somebody asked for something. Can't be changed or removed afterwards."""
        with translated(self.path, "written"), writing(self._engine) as connection:
            _append(connection, {"at": at, "by": by, "name": name, "arguments": dict(arguments)})

    def events(self, *, since: int | None = None, limit: int | None = None) -> Sequence[Event]:
        """What was asked for, newest last."""
        table = schema.events
        query = select(table).order_by(table.c.number.desc()).limit(limit)
        if since is not None:
            query = query.where(table.c.at >= since)
        with translated(self.path, "read"), self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        return [Event(**dict(row)) for row in reversed(rows)]


def _append(connection: Connection, row: Mapping[str, Any]) -> None:
    connection.execute(schema.events.insert(), dict(row))


def _concerns(incident: Incident, service: str, finding_ids: set[str]) -> bool:
    return any(cause.service == service for cause in incident.root_causes) or any(name in finding_ids for name in incident.findings)
