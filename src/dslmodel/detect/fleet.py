"""Agents and work files as the coordination directory tells of them."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dslmodel.clock import SECOND
from dslmodel.records import Change, CoordinationEvent

STALE_SECONDS = 60
_ENDED = frozenset({"stopped", "exited", "terminated", "offline", "inactive", "dead", "completed", "draining", "retired"})
_WORK_KINDS = {"work": "pending", "claimed": "claimed", "completed": "completed"}
_MAX_FILES = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """One agent: its newest sign of life, and whether its file says that it works."""

    id: str
    status: str
    heartbeat_at: int
    is_expected: bool  # its status doesn't say that it has ended

    def is_stale(self, now: int) -> bool:
        """It should be alive and has given no sign for a minute."""
        return self.is_expected and now - self.heartbeat_at > STALE_SECONDS * SECOND


class Fleet:
    """The current files, by name; bounded, the oldest forgotten first."""

    def __init__(self, parse_time: Callable[[Any], int]) -> None:
        """`parse_time`: nanoseconds of a heartbeat as agents write it; raises ValueError for anything else."""
        self._parse_time = parse_time
        self._agents: dict[str, Agent] = {}
        self._work: dict[str, str] = {}

    def observe(self, event: CoordinationEvent) -> None:
        """Take one change of a file."""
        if event.kind == "agent":
            if event.change is Change.DELETED:
                self._agents.pop(event.name, None)
            else:
                self._agents[event.name] = self._agent(event)
            store: dict[str, Any] = self._agents
        else:
            state = _WORK_KINDS.get(event.kind, event.kind)
            if event.change is Change.DELETED:
                self._work.pop(event.name, None)
            else:
                self._work[event.name] = "failed" if state == "completed" and event.document.get("status") == "failed" else state
            store = self._work
        while len(store) > _MAX_FILES:
            del store[next(iter(store))]

    def _agent(self, event: CoordinationEvent) -> Agent:
        status = str(event.document.get("status", "active"))
        try:
            heartbeat_at = self._parse_time(event.document["last_heartbeat"])
        except (KeyError, ValueError):
            heartbeat_at = 0  # the file's own time counts
        return Agent(
            id=str(event.document.get("id", event.name)),
            status=status,
            heartbeat_at=max(event.modified_at, heartbeat_at),
            is_expected=status.lower() not in _ENDED,
        )

    def agents(self) -> list[Agent]:
        """Every agent known, by file name."""
        return [self._agents[name] for name in sorted(self._agents)]

    def counts(self, now: int) -> Mapping[str, int]:
        """How many agents are active and stale, and how much work is in which state."""
        work = Counter(self._work.values())
        expected = [agent for agent in self._agents.values() if agent.is_expected]
        stale = sum(agent.is_stale(now) for agent in expected)
        return {
            "active": len(expected) - stale,
            "stale": stale,
            **{state: work[state] for state in ("pending", "claimed", "completed", "failed")},
        }
