"""What was found and what is taken as normal: lists, explanations, acknowledgements, baselines."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from dslmodel.cli.client import running_daemon
from dslmodel.cli.output import Context, Reply, UsageError
from dslmodel.engine import presence

if TYPE_CHECKING:
    from dslmodel.api.queries import Records
    from dslmodel.api.shapes import Shape
    from dslmodel.audit.store import Store

Global = Annotated[Context, Parameter(parse=False)]
_STORE_FILE = "state.db"


def findings(*, since: str | None = None, service: str | None = None, open: bool = False, context: Global) -> Reply:  # noqa: A002
    """What was found, newest last, with the ids that `explain` takes.

    Args:
        since: Only what was found since then: 30m, 1h, 7d ago, or an RFC 3339 time.
        service: Only of this service.
        open: Only what is still going on.
        context: the global options.
    """
    from dslmodel.api.queries import list_findings
    from dslmodel.cli.tables import findings_table

    rows = _listed(context, lambda store: list_findings(store, _since(since), service, open_only=open))
    return Reply(data={"findings": rows}, text=findings_table(rows) if rows else None, warnings=_nothing(rows, context, "finding"))


def incidents(*, since: str | None = None, service: str | None = None, open: bool = False, context: Global) -> Reply:  # noqa: A002
    """Findings that belong together, with their likely root causes, newest last.

    Args:
        since: Only those opened since then: 30m, 1h, 7d ago, or an RFC 3339 time.
        service: Only those that this service caused or has a finding in.
        open: Only what is still going on.
        context: the global options.
    """
    from dslmodel.api.queries import list_incidents
    from dslmodel.cli.tables import incidents_table

    rows = _listed(context, lambda store: list_incidents(store, _since(since), service, open_only=open))
    return Reply(data={"incidents": rows}, text=incidents_table(rows) if rows else None, warnings=_nothing(rows, context, "incident"))


def explain(id: str, /, *, context: Global) -> Reply:  # noqa: A002
    """Why a finding or an incident is there: every condition with its value.

    Args:
        id: Id of a finding or an incident, or the beginning of one.
        context: the global options.
    """
    from dslmodel.api import queries
    from dslmodel.cli.tables import explanation

    with _reading(context) as store:
        data = queries.explain(store, id)
    return Reply(data=data, text=explanation(data))


def ack(id: str, /, *, context: Global) -> Reply:  # noqa: A002
    """Say that somebody has seen a finding and looks after it.

    Args:
        id: Id of the finding, or the beginning of one.
        context: the global options.
    """
    return _mark(context, "ack", id)


def false_positive(id: str, /, *, context: Global) -> Reply:  # noqa: A002
    """Say that a finding was nothing: it closes, and the baseline learns from it.

    Args:
        id: Id of the finding, or the beginning of one.
        context: the global options.
    """
    return _mark(context, "false_positive", id)


def baseline_show(*, service: str | None = None, context: Global) -> Reply:
    """Show what is taken as normal, and what is still learning.

    Args:
        service: Only of this service.
        context: the global options.
    """
    from dslmodel.cli.tables import baselines_table

    daemon = running_daemon(context.coord_dir)
    if daemon is not None:
        rows = daemon.get("/api/v1/baseline", {"service": service})["baselines"]
    else:
        from dslmodel.api.shapes import clean

        with _reading(context) as store:
            rows = clean(_pipeline(store).describe_baselines(service))
    return Reply(data={"baselines": rows}, text=baselines_table(rows) if rows else None, warnings=_nothing(rows, context, "baseline"))


def baseline_reset(*, service: str | None = None, context: Global) -> Reply:
    """Forget what was learnt, of one service or of all. Nothing is found there until it has been learnt again.

    Args:
        service: Only of this service.
        context: the global options.
    """
    daemon = running_daemon(context.coord_dir)
    if daemon is not None:
        daemon.post("/api/v1/baseline/reset", {"service": service})
    else:
        from dslmodel.clock import SECOND
        from dslmodel.records import Command

        with _writing(context) as store:
            # Baselines that can't be read are forgotten, too.
            pipeline, now = _pipeline(store if service else _Empty()), time.time_ns()
            pipeline.feed(Command(name="baseline_reset", arguments={"service": service}, received_at=now))
            pipeline.tick(now // SECOND * SECOND + SECOND)
            store.save_baselines(pipeline.dump_baselines())
            store.append_event("baseline_reset", {"service": service}, at=now, by="cli")
    return Reply(data={"service": service, "reset": True}, text=f"Forgot the baselines of {service or 'all services'}.")


# ---------------------------------------------------------------- with or without a daemon


def _mark(context: Context, name: str, prefix: str) -> Reply:
    """Acknowledge a finding or call it a false positive: through the daemon, or in the store under its lock."""
    daemon = running_daemon(context.coord_dir)
    warnings: Sequence[str] = ()
    if daemon is not None:
        finding = daemon.post(f"/api/v1/findings/{prefix}/{name.replace('_', '-')}")["finding"]
    else:
        finding = _mark_inline(context, name, prefix)
        if name == "false_positive":
            warnings = ["no daemon runs here, so the baseline can't learn from the data of that time; only the finding is marked"]
    done = "acknowledged" if name == "ack" else "a false positive"
    text = f"{finding['id']} is {done}: {finding['pattern']} on {finding['service']}"
    return Reply(data={"finding": finding}, text=text, warnings=warnings)


def _mark_inline(context: Context, name: str, prefix: str) -> "Shape":
    from dataclasses import replace

    from dslmodel.api.queries import finding_by
    from dslmodel.api.shapes import finding_shape

    with _writing(context) as store:
        found, now = finding_by(store, prefix), time.time_ns()
        if name == "ack":
            marked = replace(found, acknowledged_at=now, updated_at=now)
        else:
            marked = replace(found, false_positive_at=now, updated_at=now, resolved_at=found.resolved_at or now)
        store.record([marked], [])
        store.append_event(name, {"id": found.id}, at=now, by="cli")
        return finding_shape(marked)


def _listed(context: Context, ask: "Callable[[Records], list[Shape]]") -> "list[Shape]":
    with _reading(context) as store:
        return ask(store)


def _store_path(context: Context) -> Path:
    """The daemon's database: where the settings put it, else in the state directory."""
    from dslmodel.settings import process_environment, quick_value

    url = quick_value("database_url", environ=process_environment(), directory=Path.cwd())
    return Path(url.removeprefix("sqlite:///")) if url else Path(presence.state_path(context.coord_dir, _STORE_FILE))


@contextmanager
def _reading(context: Context) -> "Iterator[Any]":
    """The store as it is, or an empty one. Creates nothing."""
    from dslmodel.audit.store import Store

    store = Store.open_readonly(_store_path(context))
    if store is None:
        yield _Empty()
    else:
        with store:
            yield store


@contextmanager
def _writing(context: Context) -> "Iterator[Store]":
    """The store, under the lock that a daemon would hold."""
    from dslmodel.audit.store import Store
    from dslmodel.engine.state import StateDirectory
    from dslmodel.errors import DslModelError

    path = _store_path(context)
    if not path.exists():
        raise DslModelError(f"nothing has run on {context.coord_dir} yet, so there is nothing to change")
    with StateDirectory(context.coord_dir), Store.open(path) as store:
        yield store


class _Empty:
    """A store where nothing has ever run."""

    def findings(self, **_filters: object) -> Sequence[Any]:
        """None."""
        return ()

    def incidents(self, **_filters: object) -> Sequence[Any]:
        """None."""
        return ()

    def load_baselines(self) -> None:
        """None."""


def _pipeline(store: Any) -> Any:
    """A pipeline that knows what was learnt."""
    from dslmodel.engine.runtime import build_pipeline
    from dslmodel.settings import load_settings

    pipeline = build_pipeline(load_settings())
    baselines = store.load_baselines()
    if baselines:
        pipeline.load_baselines(baselines)
    return pipeline


def _since(text: str | None) -> int | None:
    from dslmodel.api.queries import parse_since

    if text is None:
        return None
    try:
        return parse_since(text, time.time_ns())
    except ValueError as error:
        raise UsageError(f"--since {error}") from error


def _nothing(rows: Sequence[Any], context: Context, what: str) -> list[str]:
    if rows:
        return []
    if not context.coord_dir.is_dir():
        return [f"coordination directory {context.coord_dir} does not exist; nothing has run there"]
    return [f"no {what} here"]
