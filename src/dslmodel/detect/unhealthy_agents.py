"""Agents that should be alive and give no sign of life."""

from collections.abc import Iterable

from dslmodel.clock import SECOND
from dslmodel.detect.base import Judgement, View
from dslmodel.detect.fleet import STALE_SECONDS
from dslmodel.records import Clause, Pattern

SERVICE = "agents"
_SHOWN = 20


class UnhealthyAgents:
    """Fires when an agent's heartbeat (the field in its file, or the file's own time, whichever is newer) is over 60 s old.

    Formula: now - max(last_heartbeat, mtime) > 60 s for an agent whose status does not say that it has ended. Units: seconds.

    >>> from dslmodel.detect.base import View
    >>> from dslmodel.detect.fleet import Agent
    >>> silent = Agent(id="a1", status="active", heartbeat_at=0, is_expected=True)
    >>> view = View(now=61 * 10**9, readings=(), callers={}, failing={}, agents=[silent])
    >>> [(j.service, j.fires) for j in UnhealthyAgents().inspect(view)]
    [('agents', True)]
    """

    pattern = Pattern.UNHEALTHY_AGENTS

    def inspect(self, view: View) -> Iterable[Judgement]:
        """One judgement on the fleet, when there is one."""
        if not view.agents and (self.pattern, SERVICE) not in view.open:
            return
        stale = sorted((a for a in view.agents if a.is_stale(view.now)), key=lambda a: (a.heartbeat_at, a.id))
        yield Judgement(
            pattern=self.pattern,
            service=SERVICE,
            operation=None,
            fires=bool(stale),
            holds=bool(stale),
            score=round(0.5 + 0.5 * len(stale) / len(view.agents), 4) if stale else 0.0,
            started_at=stale[0].heartbeat_at + STALE_SECONDS * SECOND if stale else view.now,
            window_seconds=STALE_SECONDS,
            summary=f"{len(stale)} of {len(view.agents)} agents give no sign of life: {', '.join(a.id for a in stale[:5])}"
            if stale
            else "all agents are alive",
            clauses=tuple(
                Clause(
                    name=f"heartbeat of {a.id}",
                    value=round((view.now - a.heartbeat_at) / SECOND, 1),
                    rule=f"<= {STALE_SECONDS} s",
                    holds=False,
                )
                for a in stale[:_SHOWN]
            ),
        )
