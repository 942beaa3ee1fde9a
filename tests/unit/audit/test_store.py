"""The store on real files: what is written stays, readers change nothing, every failure says what to do."""

import os
import resource
import shutil
import sqlite3
import stat
import threading
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from dslmodel.audit import schema
from dslmodel.audit.database import _back_up, _engine, _upgrade, open_for_writing, writing
from dslmodel.audit.store import Store
from dslmodel.errors import AuditError
from dslmodel.records import Clause, Finding, Incident, Pattern, RootCause


def finding(number, **changes):
    values = {
        "id": f"f{number:06}",
        "at": number,
        "pattern": Pattern.ERROR_SPIKE,
        "service": "web",
        "operation": "GET /",
        "score": 0.5,
        "started_at": number,
        "summary": "x" * 100,
        "clauses": (Clause(name="rate", value=0.1 + 0.2, rule=">= 0.3", holds=True),),
        "exemplars": ("ab" * 16,),
    }
    return Finding(**{**values, **changes})


def incident(number, **changes):
    values = {
        "id": f"i{number:06}",
        "opened_at": number,
        "resolved_at": None,
        "root_causes": (RootCause(service="db", score=0.9),),
        "findings": (f"f{number:06}",),
    }
    return Incident(**{**values, **changes})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "coordination" / ".dslmodel" / "state.db"


@pytest.fixture
def store(path):
    with Store.open(path) as opened:
        yield opened


def test_what_was_recorded_is_there_after_a_restart(path):
    with Store.open(path) as store:
        store.record([finding(1), finding(2)], [incident(1)])
    with Store.open(path) as store:
        assert store.findings() == [finding(1), finding(2)]
        assert store.incidents() == [incident(1)]
        assert not store.damage()


def test_a_record_replaces_the_one_with_its_id(store):
    store.record([finding(1), finding(2)], [incident(1)])
    store.record([finding(1, resolved_at=9, updated_at=9)], [incident(1, resolved_at=9)])
    assert store.findings() == [finding(1, resolved_at=9, updated_at=9), finding(2)]
    assert store.incidents() == [incident(1, resolved_at=9)]


def test_one_call_is_all_or_nothing(store):
    store.record([finding(1)], [])
    with pytest.raises(AuditError, match="can't be written"):
        store.record([finding(1, resolved_at=5)], [incident(1, opened_at=2**70)])
    assert store.findings() == [finding(1)]
    assert store.incidents() == []


@pytest.mark.timeout(10)
@given(st.lists(st.integers(1, 30), max_size=20), st.integers(0, 30), st.integers(0, 10))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
def test_queries_choose_and_put_the_newest_last(tmp_path, numbers, since, limit):
    everything = {n: finding(n, service="web" if n % 2 else "db", resolved_at=None if n % 3 else n + 1) for n in numbers}
    file = tmp_path / "query.db"
    file.unlink(missing_ok=True)
    with Store.open(file) as store:
        store.record(everything.values(), [])
        oldest_first = [everything[n] for n in sorted(everything)]
        assert store.findings() == oldest_first
        assert store.findings(since=since) == [one for one in oldest_first if one.at >= since]
        assert store.findings(service="web") == [one for one in oldest_first if one.service == "web"]
        assert store.findings(open_only=True) == [one for one in oldest_first if one.resolved_at is None]
        assert store.findings(limit=limit) == (oldest_first[-limit:] if limit else [])


def test_incidents_of_a_service_are_those_it_caused_or_suffered(store):
    store.record([finding(1, service="web"), finding(2, service="cart"), finding(3, service="cart")], [incident(n) for n in (1, 2, 3)])
    assert [one.id for one in store.incidents(service="web")] == ["i000001"]
    assert [one.id for one in store.incidents(service="cart", limit=1)] == ["i000003"]
    assert len(store.incidents(service="db")) == 3
    assert store.incidents(service="other") == []
    assert [one.id for one in store.incidents(since=2, limit=5)] == ["i000002", "i000003"]


def test_old_findings_are_forgotten_and_open_ones_are_not(store):
    store.record([finding(1), finding(2, resolved_at=3), finding(4, resolved_at=10)], [incident(1), incident(2, resolved_at=3)])
    assert store.prune(10) == 2
    assert [one.at for one in store.findings()] == [1, 4]
    assert [one.opened_at for one in store.incidents()] == [1]


def test_too_many_findings_are_forgotten_from_the_oldest_and_the_open_ones_last(store):
    store.record([finding(1), *(finding(n, resolved_at=n) for n in range(2, 8)), finding(8)], [])
    store.prune(0, max_findings=4)
    assert [one.at for one in store.findings()] == [1, 6, 7, 8]
    store.prune(0, max_findings=1)
    assert [one.at for one in store.findings()] == [8]


def test_baselines_are_replaced_whole(store):
    assert store.load_baselines() is None
    store.save_baselines(b"\x00first")
    store.save_baselines(bytes(range(256)) * 4000)
    assert store.load_baselines() == bytes(range(256)) * 4000


def test_desired_state_says_who_asked_and_when_and_keeps_the_trail(store):
    store.put_setting("remediation.enabled", True, at=1, by="ann")
    store.put_setting("remediation.enabled", False, at=2, by="bob")
    (name, state), *rest = store.settings().items()
    assert (name, state.value, state.at, state.by, rest) == ("remediation.enabled", False, 2, "bob", [])
    assert [(event.by, event.arguments["value"]) for event in store.events()] == [("ann", True), ("bob", False)]


def test_events_are_append_only(store):
    store.append_event("ack", {"id": "f1"}, at=1, by="ann")
    store.append_event("baseline_reset", {"service": None}, at=2, by="bob")
    for statement in ("UPDATE events SET by = 'eve'", "DELETE FROM events"):
        with pytest.raises(IntegrityError, match="append-only"), writing(store._engine) as connection:
            connection.exec_driver_sql(statement)
    assert [(event.number, event.name, event.by) for event in store.events()] == [(1, "ack", "ann"), (2, "baseline_reset", "bob")]
    assert [event.name for event in store.events(since=2)] == [event.name for event in store.events(limit=1)] == ["baseline_reset"]


def test_threads_write_and_read_at_the_same_time(path):
    with Store.open(path) as store:
        failures = []

        def work(start):
            try:
                for number in range(start, start + 10):
                    store.record([finding(number)], [])
                    store.findings(limit=3)
            except AuditError as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(n * 10,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert len(store.findings()) == 40


# ---------------------------------------------------------------- files


def test_only_the_owner_can_read_the_files(path):
    before = os.umask(0)
    try:
        with Store.open(path) as store:
            store.record([finding(1)], [])
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_every_commit_is_synced_to_the_disk(store):
    with store._engine.connect() as connection:
        pragmas = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_reader_creates_nothing(path):
    assert Store.open_readonly(path) is None
    assert not path.parent.exists()
    with Store.open(path) as store:
        store.record([finding(1)], [])
    with Store.open_readonly(path) as reader:
        assert reader.findings() == [finding(1)]
        with pytest.raises(AuditError, match="readonly"):
            reader.record([finding(2)], [])
    assert [file.name for file in path.parent.iterdir()] == ["state.db"]


def test_a_reader_sees_what_a_running_writer_committed(store, path):
    store.record([finding(1)], [])
    with Store.open_readonly(path) as reader:
        assert reader.findings() == [finding(1)]
        store.record([finding(2)], [])
        assert reader.findings() == [finding(1), finding(2)]


@pytest.mark.parametrize("left_behind", ["-wal", "-shm"])
def test_what_was_committed_before_a_crash_is_read(store, path, tmp_path, left_behind):
    store.record([finding(1)], [])
    crashed = tmp_path / "crashed"
    shutil.copytree(path.parent, crashed)
    if left_behind == "-wal":
        (crashed / "state.db-shm").unlink()
    with Store.open_readonly(crashed / path.name) as reader:
        assert reader.findings() == [finding(1)]
    with Store.open(crashed / path.name) as reopened:
        assert reopened.findings() == [finding(1)]


def test_names_with_odd_characters_are_only_names(tmp_path):
    path = tmp_path / "a?mode=memory#b%20 c" / "state.db"
    with Store.open(path) as store:
        store.record([finding(1)], [])
    assert path.stat().st_size > 0
    with Store.open_readonly(path) as reader:
        assert reader.findings() == [finding(1)]


# ---------------------------------------------------------------- versions


def old_database(path, version="0001"):
    path.parent.mkdir(parents=True)
    path.touch()
    engine = _engine(path, "rw")
    with writing(engine) as connection:
        _upgrade(connection, version)
        connection.exec_driver_sql(
            "INSERT INTO findings VALUES ('f', 1, 'error_spike', 'web', NULL, 0.5, 1, NULL, 0, 0, NULL, NULL, 'kept', '[]', '[]')"
        )
    engine.dispose()


def test_an_old_database_is_brought_up_and_kept_beside(path):
    old_database(path)
    with pytest.raises(AuditError, match=r"older version 0001; `dsl telemetry start-processing` brings it to"):
        Store.open_readonly(path)
    with Store.open(path) as store:
        assert [one.summary for one in store.findings()] == ["kept"]
        store.append_event("ack", {}, at=1, by="ann")
    backup = path.with_name("state.db.bak-0001")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with closing(sqlite3.connect(backup)) as copy:
        assert copy.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        assert copy.execute("SELECT summary FROM findings").fetchall() == [("kept",)]
    assert sorted(file.name for file in path.parent.iterdir()) == ["state.db", "state.db.bak-0001"]


def test_the_newest_migration_gives_the_declared_schema(path):
    def shape(connection):
        tables = [row[0] for row in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {
            name: sorted(tuple(row)[1:4] + tuple(row)[5:] for row in connection.exec_driver_sql(f"PRAGMA table_info('{name}')"))
            for name in tables
            if not name.startswith(("sqlite_", "alembic_"))
        }

    migrated = open_for_writing(path)
    declared = _engine(path, "memory")
    with migrated.connect() as real, declared.connect() as wanted:
        schema.metadata.create_all(wanted)
        assert shape(real) == shape(wanted)
        assert real.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == schema.VERSION
    migrated.dispose()
    declared.dispose()


def test_a_migration_that_fails_changes_nothing(path, monkeypatch):
    old_database(path)
    monkeypatch.setattr(schema, "VERSION", "0009")
    before = path.read_bytes()
    with pytest.raises(Exception, match="0009"):
        Store.open(path)
    assert path.read_bytes() == before


def test_a_newer_database_is_refused_and_left_alone(path):
    with Store.open(path) as store, writing(store._engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0999'")
    before = path.read_bytes()
    for way in (Store.open, Store.open_readonly):
        with pytest.raises(AuditError, match=r"has version 0999, this dslmodel knows versions up to .* Install a newer dslmodel"):
            way(path)
    assert path.read_bytes() == before


def test_a_database_of_another_program_is_refused_and_left_alone(path):
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(AuditError, match="is not a database of dslmodel"):
        Store.open(path)
    assert path.read_bytes() == before


def test_a_half_made_backup_is_made_again(path):
    old_database(path)
    path.with_name("state.db.bak-0001.tmp").write_bytes(b"half")
    _back_up(path, "0001")
    assert path.with_name("state.db.bak-0001").stat().st_size == path.stat().st_size


# ---------------------------------------------------------------- failures


def test_a_file_that_is_no_database_is_named_with_the_fix(path):
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a database at all, " * 100)
    for way in (Store.open, Store.open_readonly):
        with pytest.raises(AuditError, match=r"state\.db can't be .*not a database .*move it away"):
            way(path)


def test_a_damaged_database_is_named_with_the_fix(path):
    with Store.open(path) as store:
        store.record([finding(n) for n in range(500)], [])
    data = bytearray(path.read_bytes())
    for place in range(8192, len(data), 4096):
        data[place : place + 64] = b"\xff" * 64
    path.write_bytes(data)
    with pytest.raises(AuditError, match=r"malformed.*move it away"):
        Store.open(path)


def test_a_folder_in_its_place_is_named(path):
    path.mkdir(parents=True)
    with pytest.raises(AuditError, match="can't be opened"):
        Store.open(path)


def test_a_locked_database_is_named_with_the_fix(store, path, monkeypatch):
    monkeypatch.setattr("dslmodel.audit.database._BUSY_SECONDS", 0.05)
    with Store.open(path) as second, writing(store._engine), pytest.raises(AuditError, match=r"locked .*dsl doctor"):
        second.record([finding(1)], [])
    store.record([finding(1)], [])
    assert store.findings() == [finding(1)]


def fill(store):
    """Record until it fails; gives what was recorded."""
    recorded = []

    def go_on():
        for number in range(100_000):
            batch = [finding(number * 100 + n) for n in range(100)]
            store.record(batch, [])
            recorded.extend(batch)

    with pytest.raises(AuditError, match=r"the disk is full or fails: free space; nothing that was recorded before is lost"):
        go_on()
    return recorded


def test_a_full_database_loses_nothing_and_goes_on_when_there_is_space(store):
    with writing(store._engine) as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar() + 40
    with store._engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    recorded = fill(store)
    assert store.findings() == recorded
    with store._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    store.record([finding(999_999)], [])
    assert store.findings() == [*recorded, finding(999_999)]


def test_a_disk_that_refuses_to_write_loses_nothing_and_goes_on_when_it_does(path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Store.open(path) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
        try:
            recorded = fill(store)
            assert recorded
            assert store.findings() == recorded
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        store.record([finding(999_999)], [])
    with Store.open(path) as store:
        assert store.findings() == [*recorded, finding(999_999)]
