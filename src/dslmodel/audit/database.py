"""Opens `state.db`: made and migrated for the one writer, never touched for readers. SQLite's errors become AuditErrors.

All that is particular to SQLite stands here and in the migrations.
"""

import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from dslmodel.audit import schema
from dslmodel.errors import AuditError

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection

_BUSY_SECONDS = 5.0
_LARGEST_LOG_BYTES = 2**24  # kept of the write-ahead log after a checkpoint; a saved baseline can be large
# What SQLite says, and what a person does about it.
_FIXES = (
    (r"disk is full|disk I/O error", "the disk is full or fails: free space; nothing that was recorded before is lost"),
    (r"locked|busy", "another process holds it: see who runs on this directory with `dsl doctor`"),
    (
        r"not a database|malformed|disk image|Failed integrity",
        "it is damaged: move it away and put a state.db.bak-* in its place, or start without it",
    ),
    (r"readonly|unable to open|[Pp]ermission", "this user must own it and be able to write its folder"),
)


def open_for_writing(path: Path) -> Engine:
    """Make the database if there is none, bring it to the newest version, and give the engine that writes it."""
    with translated(path, "opened"):
        _create(path)
        version = _inspect(path)
        if version is not None and version < schema.VERSION:
            _back_up(path, version)
        engine = _engine(path, "rw")
        if version != schema.VERSION:
            try:
                with writing(engine) as connection:
                    _upgrade(connection, schema.VERSION)
            except BaseException:
                engine.dispose()
                raise
        return engine


def open_for_reading(path: Path) -> Engine | None:
    """An engine that can't change anything; None when there is no database."""
    with translated(path, "read"):
        if not path.exists():
            return None
        # A reader of a WAL database makes the -wal and -shm files when they are missing. Without a -wal nobody is writing, and
        # the file can be read as it lies.
        engine = _engine(path, "ro" if Path(f"{path}-wal").exists() else "ro&immutable=1")
        try:
            with engine.connect() as connection:
                version = _version(connection)
        except BaseException:
            engine.dispose()
            raise
        if version != schema.VERSION:
            engine.dispose()
            raise AuditError(f"{path}: {_mismatch(version)}")
        return engine


@contextmanager
def translated(path: Path, what: str) -> Iterator[None]:
    """Errors of the database and the disk as AuditErrors that name the file, the cause and the fix."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError, UnicodeError, OverflowError) as error:
        cause = " ".join(str(getattr(error, "orig", None) or error).split())
        fix = next((f" ({fix})" for pattern, fix in _FIXES if re.search(pattern, cause)), "")
        raise AuditError(f"{path} can't be {what}: {cause}{fix}") from error


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that takes the write lock at once, so that it never fails half-way for another writer."""
    with engine.connect().execution_options(dslmodel_begin="BEGIN IMMEDIATE") as connection, connection.begin():
        yield connection


def upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, or replace those with the same key."""
    if rows:
        statement = insert(table)
        keys = [column.name for column in table.primary_key]
        changed = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
        connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), [dict(row) for row in rows])


def damage(connection: Connection) -> str:
    """What SQLite finds wrong with the whole file; empty when it is sound."""
    verdict = str(connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar())
    return "" if verdict == "ok" else " ".join(verdict.split())


def _engine(path: Path, mode: str) -> Engine:
    name = str(path.resolve()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(f"file:{name}?mode={mode}", uri=True, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None)

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool)

    @event.listens_for(engine, "connect")
    def configure(connection: "DBAPIConnection", _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys = ON")
        if mode == "rw":
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = FULL")
            cursor.execute(f"PRAGMA journal_size_limit = {_LARGEST_LOG_BYTES}")
        cursor.close()

    # The driver's own transactions would leave DDL outside of them and start as readers.
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("dslmodel_begin", "BEGIN"))

    return engine


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # SQLite gives its -wal and -shm files the mode of the database.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _inspect(path: Path) -> str | None:
    """The version of a database that is sound and ours, None for an empty one. Changes nothing."""
    with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(f"database disk image is malformed: {verdict}")
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if "alembic_version" in tables else None
    version = row[0] if row else None
    if (version is None and tables) or (version is not None and version > schema.VERSION):
        raise AuditError(f"{path}: {_mismatch(version)}. Nothing was changed")
    return version


def _version(connection: Connection) -> str | None:
    """The version of the schema; None for a database without one."""
    found = connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").scalar()
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() if found else None


def _mismatch(version: str | None) -> str:
    if version is None:
        return "is not a database of dslmodel, or is being made just now"
    if version > schema.VERSION:
        return (
            f"has version {version}, this dslmodel knows versions up to {schema.VERSION}. "
            "Install a newer dslmodel, or use another coordination directory"
        )
    return f"has the older version {version}; `dsl telemetry start-processing` brings it to {schema.VERSION}"


def _upgrade(connection: Connection, version: str) -> None:
    """Run the migrations up to a version inside the connection's transaction."""
    from alembic.config import Config  # noqa: PLC0415  272 ms that only a migration pays
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    folder = str(Path(__file__).parent / "migrations")
    script = ScriptDirectory(folder, version_locations=[folder])

    def steps(revision: Any, _context: Any) -> Any:
        return script._upgrade_revs(version, revision)  # noqa: SLF001  what alembic's own commands call

    with EnvironmentContext(Config(), script, fn=steps, destination_rev=version) as environment:
        environment.configure(connection=connection, transactional_ddl=True)
        environment.run_migrations()


def _back_up(path: Path, version: str) -> None:
    """A copy beside the database, complete or not there at all."""
    target = path.with_name(f"{path.name}.bak-{version}")
    partial = target.with_name(f"{target.name}.tmp")
    partial.unlink(missing_ok=True)
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(partial)) as copy:
        source.backup(copy)
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.replace(target)
