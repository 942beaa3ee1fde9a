"""A recording through the whole engine on a virtual clock. Hermetic: reads and writes no state; the same files give the same bytes."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from dslmodel.clock import SECOND
from dslmodel.engine.pipeline import Pipeline, Tick
from dslmodel.engine.runtime import build_pipeline
from dslmodel.errors import ConfigurationError
from dslmodel.ingest.files import read_inputs
from dslmodel.ingest.lines import Header, known_at
from dslmodel.records import Finding, FindingId, Incident, IncidentId, Input
from dslmodel.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """Everything that was found, oldest first, and the virtual time of the last tick."""

    findings: Sequence[Finding]
    incidents: Sequence[Incident]
    ended_at: int
    warnings: Sequence[str]


class _Found:
    """All findings and incidents of a run, in their last form; not bounded like the pipeline's own memory."""

    def __init__(self) -> None:
        self.findings: dict[FindingId, Finding] = {}
        self.incidents: dict[IncidentId, Incident] = {}

    def add(self, tick: Tick) -> None:
        self.findings.update((finding.id, finding) for finding in tick.findings)
        self.incidents.update((incident.id, incident) for incident in tick.incidents)


def replay(paths: Sequence[str | os.PathLike[str]], settings: Settings, baselines: bytes | None = None) -> ReplayResult:
    """Put files through the engine.

    A recording made by `--record` begins with the settings and baselines it was made with; they count before `settings`, so that its
    replay finds what the live run found. `baselines` counts before both.

    Raises:
        ConfigurationError: A file can't be opened, or its header or the baselines can't be used.
        IngestError: A line can't be used.
    """
    warnings: list[str] = []
    with read_inputs(paths, warn=warnings.append) as inputs:
        header = inputs.header
        pipeline = build_pipeline(_recorded(header, settings))
        known = baselines or (header.baselines if header else None)
        if known:
            pipeline.load_baselines(known)
        found = _Found()
        ended_at = run(pipeline, inputs, found.add, started_at=header.started_at if header else None)
        ended_at = _finish(pipeline, inputs.ended_at, ended_at, found)
    return ReplayResult(
        findings=tuple(found.findings.values()), incidents=tuple(found.incidents.values()), ended_at=ended_at, warnings=tuple(warnings)
    )


def run(pipeline: Pipeline, inputs: Iterable[Input], take: Callable[[Tick], object], *, started_at: int | None = None) -> int:
    """Feed inputs in their order and tick every second up to each, through gaps too. Returns the time of the last tick (0: none)."""
    next_tick = None if started_at is None else started_at // SECOND * SECOND + SECOND
    last = 0
    for item in inputs:
        at = known_at(item)
        if next_tick is None:
            next_tick = at // SECOND * SECOND + SECOND
        while next_tick <= at:
            take(pipeline.tick(next_tick))
            last, next_tick = next_tick, next_tick + SECOND
        pipeline.feed(item)
    if next_tick is not None:
        take(pipeline.tick(next_tick))
        last = next_tick
    return last


def _finish(pipeline: Pipeline, recorded_end: int | None, last: int, found: _Found) -> int:
    """Tick on to the end that a recording states: a live run ticks also when nothing comes any more."""
    if recorded_end is not None and last:
        while last + SECOND <= recorded_end:
            last += SECOND
            found.add(pipeline.tick(last))
    return last


def _recorded(header: Header | None, settings: Settings) -> Settings:
    if header is None or not header.settings:
        return settings
    try:
        return Settings.model_validate(dict(header.settings))
    except ValidationError as error:
        raise ConfigurationError(
            f"the settings in the recording's header can't be used: {error.errors()[0]['msg']} (made by {header.version})"
        ) from error
