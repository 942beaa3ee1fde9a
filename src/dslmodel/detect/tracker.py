"""Judgements -> findings that open, stay, flap and close."""

import hashlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dslmodel.clock import SECOND
from dslmodel.detect.base import Judgement
from dslmodel.records import Finding, FindingId, Pattern

Key = tuple[Pattern, str]

CLEAR_SECONDS = 15  # clean for this long: over
_BLIND_SECONDS = 300  # nothing measured for this long: can't be said to go on
_FLAP_WINDOW = 1800 * SECOND
_FLAP_COUNT = 3
_MAX_HOLD_SECONDS = 600
ACCEPTED_SECONDS = 3600  # a false positive's signal is learnt as normal for this long before it may raise again
_NOTEWORTHY = 0.05  # a change of the score that is worth recording


@dataclass(slots=True)
class _State:
    finding: Finding | None = None
    bad_at: int = 0
    judged_at: int = 0
    window_seconds: float = 0.0
    opened_at: deque[int] = field(default_factory=lambda: deque(maxlen=16))
    accepted_until: int = 0
    closed_at: int = 0


class Tracker:
    """One finding per pattern and service at a time."""

    def __init__(self, *, retention_hours: float, max_findings: int, clear_seconds: int = CLEAR_SECONDS) -> None:
        self._clear = clear_seconds
        self._retention = round(retention_hours * 3600 * SECOND)
        self._max = max_findings
        self._states: dict[Key, _State] = {}
        self._kept: dict[FindingId, Finding] = {}

    def update(self, judgements: Iterable[Judgement], exemplars: Mapping[str, Sequence[str]], now: int) -> list[Finding]:
        """Findings that changed."""
        changed: list[Finding] = []
        for judgement in judgements:
            state = self._states.get((judgement.pattern, judgement.service))
            if state is None:
                if not judgement.fires:
                    continue
                state = self._states[judgement.pattern, judgement.service] = _State()
            state.judged_at, state.window_seconds = now, judgement.window_seconds
            if judgement.holds:
                state.bad_at = now
            if state.finding is None:
                if judgement.fires and now >= state.accepted_until:
                    changed.append(self._open(state, judgement, exemplars, now))
            elif judgement.fires and judgement.score > state.finding.score + _NOTEWORTHY:
                changed.append(
                    self._set(
                        state,
                        replace(state.finding, score=judgement.score, clauses=judgement.clauses, summary=judgement.summary, updated_at=now),
                    )
                )
        changed += [self._close(state, now) for state in self._states.values() if state.finding is not None and self._is_over(state, now)]
        if now // SECOND % 60 == 0:
            self._prune(now)
        return changed

    def _open(self, state: _State, judgement: Judgement, exemplars: Mapping[str, Sequence[str]], now: int) -> Finding:
        # What was over before is not this trouble; and one start is one id.
        started_at = min(max(judgement.started_at, state.closed_at), now)
        state.opened_at.append(now)
        recent = [at for at in state.opened_at if at > now - _FLAP_WINDOW]
        finding = Finding(
            id=finding_id(judgement.pattern, judgement.service, judgement.operation, started_at),
            at=now,
            pattern=judgement.pattern,
            service=judgement.service,
            operation=judgement.operation,
            score=judgement.score,
            started_at=started_at,
            updated_at=now,
            is_flapping=len(recent) >= _FLAP_COUNT,
            summary=judgement.summary,
            clauses=judgement.clauses,
            exemplars=tuple(exemplars.get(judgement.service, ())),
        )
        return self._set(state, finding)

    def _is_over(self, state: _State, now: int) -> bool:
        if now - state.judged_at >= max(_BLIND_SECONDS, 3 * state.window_seconds) * SECOND:
            return True
        hold = self._clear
        if state.finding is not None and state.finding.is_flapping:
            recent = sum(at > now - _FLAP_WINDOW for at in state.opened_at)
            hold = min(_MAX_HOLD_SECONDS, self._clear * 2 ** (recent - _FLAP_COUNT + 1))
        return state.judged_at > state.bad_at and now - state.bad_at >= hold * SECOND

    def _close(self, state: _State, now: int) -> Finding:
        assert state.finding is not None  # callers choose open states
        closed = self._set(state, replace(state.finding, resolved_at=now, updated_at=now))
        state.finding, state.closed_at = None, now
        return closed

    def _set(self, state: _State, finding: Finding) -> Finding:
        state.finding = finding
        self._kept[finding.id] = finding
        return finding

    def _prune(self, now: int) -> None:
        old = [f.id for f in self._kept.values() if f.resolved_at is not None and f.resolved_at < now - self._retention]
        resolved = [f.id for f in self._kept.values() if f.resolved_at is not None]
        for finding in {*old, *resolved[: max(0, len(self._kept) - self._max)]}:
            del self._kept[finding]
        for key in [
            k for k, s in self._states.items() if s.finding is None and s.judged_at < now - _FLAP_WINDOW and s.accepted_until < now
        ]:
            del self._states[key]

    # ------------------------------------------------------------ what people say

    def acknowledge(self, finding_id: str, now: int) -> Finding | None:
        """Somebody has seen it. None when there is no such finding."""
        return self._mark(finding_id, now, false_positive=False)

    def reject(self, finding_id: str, now: int) -> Finding | None:
        """It was no trouble: close it, and let what it saw be learnt as normal."""
        return self._mark(finding_id, now, false_positive=True)

    def _mark(self, finding_id: str, now: int, *, false_positive: bool) -> Finding | None:
        known = self._kept.get(FindingId(finding_id))
        if known is None:
            return None
        if not false_positive:
            marked = replace(known, acknowledged_at=now, updated_at=now)
        else:
            marked = replace(known, false_positive_at=now, resolved_at=known.resolved_at or now, updated_at=now)
        state = self._states.get((known.pattern, known.service))
        if state is not None and state.finding is not None and state.finding.id == known.id:
            state.finding = None if false_positive else marked
        if false_positive:
            self._states.setdefault((known.pattern, known.service), _State()).accepted_until = now + ACCEPTED_SECONDS * SECOND
        self._kept[known.id] = marked
        return marked

    # ------------------------------------------------------------ reading

    def open(self) -> list[Finding]:
        """Open findings, oldest first."""
        return sorted((s.finding for s in self._states.values() if s.finding is not None), key=lambda f: (f.at, f.id))

    def going_on(self) -> set[FindingId]:
        """Open findings whose trouble was seen at the last look; the others are clearing."""
        return {s.finding.id for s in self._states.values() if s.finding is not None and s.bad_at >= s.judged_at}

    def all(self) -> list[Finding]:
        """Everything retained, oldest first."""
        return list(self._kept.values())


def finding_id(pattern: Pattern, service: str, operation: str | None, started_at: int) -> FindingId:
    """A hash of what the finding is about, so that a replay gives the same id."""
    text = "\0".join((pattern, service, operation or "", str(started_at)))
    return FindingId("f-" + hashlib.sha256(text.encode()).hexdigest()[:12])
