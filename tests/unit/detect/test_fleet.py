"""Agents and work as their files tell, and agents that give no sign of life."""

import pytest

from dslmodel.detect.base import View
from dslmodel.detect.fleet import Fleet
from dslmodel.detect.unhealthy_agents import UnhealthyAgents
from dslmodel.ingest.times import parse_time
from dslmodel.records import Change, CoordinationEvent, Pattern
from tests.unit.detect.build import SECOND, at


def wrote(name: str, document: dict | None = None, *, modified: float = 0, kind: str = "") -> CoordinationEvent:
    return CoordinationEvent(
        kind=kind or name.split("_", maxsplit=1)[0],
        name=name,
        change=Change.WRITTEN if document is not None else Change.DELETED,
        document=document or {},
        modified_at=at(modified),
        received_at=at(modified),
    )


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(parse_time)


def stale(fleet: Fleet, second: float) -> list[str]:
    return [agent.id for agent in fleet.agents() if agent.is_stale(at(second))]


@pytest.mark.parametrize(
    ("document", "modified", "is_stale"),
    [
        ({"id": "a"}, 100, False),
        ({"id": "a"}, 0, True),
        ({"id": "a", "last_heartbeat": at(100) / SECOND}, 0, False),
        ({"id": "a", "last_heartbeat": "2026-01-01T00:01:40Z"}, 0, False),
        ({"id": "a", "last_heartbeat": "yesterday"}, 0, True),
        ({"id": "a", "last_heartbeat": "yesterday"}, 100, False),
        ({"id": "a", "last_heartbeat": None}, 100, False),
        ({"id": "a", "last_heartbeat": [1]}, 100, False),
        ({"id": "a", "last_heartbeat": 0}, 100, False),
        ({"id": "a", "status": "stopped"}, 0, False),
        ({"id": "a", "status": "Draining"}, 0, False),
        ({"id": "a", "status": None}, 0, True),
    ],
)
def test_heartbeat_is_the_field_or_the_files_time_whichever_is_newer(fleet, document, modified, is_stale):
    fleet.observe(wrote("agent_a.json", document, modified=modified))
    assert stale(fleet, 120) == (["a"] if is_stale else [])


def test_limit_is_a_minute(fleet):
    fleet.observe(wrote("agent_a.json", {"id": "a"}))
    assert stale(fleet, 60) == []
    assert stale(fleet, 60.5) == ["a"]


def test_counts_say_what_is_there(fleet):
    for i in range(3):
        fleet.observe(wrote(f"agent_{i}.json", {"id": str(i)}, modified=100 if i else 0))
    fleet.observe(wrote("agent_x.json", {"id": "x", "status": "stopped"}))
    fleet.observe(wrote("work_1.json", {"id": "1"}))
    fleet.observe(wrote("work_2.json", {"id": "2"}))
    fleet.observe(wrote("claimed_3.json", {"id": "3"}))
    fleet.observe(wrote("completed_4.json", {"id": "4", "status": "completed"}))
    fleet.observe(wrote("completed_5.json", {"id": "5", "status": "failed"}))
    fleet.observe(wrote("work_2.json"))
    expected = {"active": 2, "stale": 1, "pending": 1, "claimed": 1, "completed": 1, "failed": 1}
    assert dict(fleet.counts(at(120))) == expected


def test_deleted_agent_is_gone(fleet):
    fleet.observe(wrote("agent_a.json", {"id": "a"}))
    fleet.observe(wrote("agent_a.json"))
    assert fleet.agents() == []
    fleet.observe(wrote("agent_never.json"))


def test_stale_agents_are_one_finding_that_names_them(fleet):
    for i in range(30):
        fleet.observe(wrote(f"agent_{i:02}.json", {"id": f"a{i:02}"}, modified=100 if i > 24 else 0))
    (judgement,) = UnhealthyAgents().inspect(View(now=at(120), readings=(), callers={}, failing={}, agents=fleet.agents()))
    assert judgement.fires
    assert judgement.started_at == at(60)
    assert "25 of 30" in judgement.summary
    assert "a00" in judgement.summary
    assert len(judgement.clauses) == 20
    assert 0.5 < judgement.score <= 1.0


def test_last_agent_that_went_away_closes_the_finding():
    view = View(now=at(120), readings=(), callers={}, failing={}, open=frozenset({(Pattern.UNHEALTHY_AGENTS, "agents")}))
    (judgement,) = UnhealthyAgents().inspect(view)
    assert not judgement.holds
