"""Findings that graph and time connect are one incident; it closes with them; its root causes are ranked by what arose where."""

import pytest

from dslmodel.detect.base import Family
from dslmodel.detect.incidents import Incidents
from dslmodel.detect.root_cause import Evidence, rank
from dslmodel.records import FindingId
from tests.unit.detect.build import at, blame, finding, reading

# web → cart → db, web → mail; far apart: batch → store
GRAPH = {
    "cart": frozenset({"web"}),
    "db": frozenset({"cart"}),
    "mail": frozenset({"web"}),
    "store": frozenset({"batch"}),
}


class Told:
    """Incidents told of findings tick by tick."""

    def __init__(self, **bounds) -> None:
        self.incidents = Incidents(**{"retention_hours": 1.0, "max_incidents": 100, **bounds})

    def tick(self, second: float, *findings, blames=(), readings=(), clearing: bool = False):
        going_on: set[FindingId] = (
            set() if clearing else {f for incident in self.incidents._open for f in incident.findings} | {f.id for f in findings}
        )
        return self.incidents.update(findings, going_on, (blames, readings), GRAPH, at(second))


@pytest.fixture
def t() -> Told:
    return Told()


def test_findings_of_services_that_call_each_other_are_one_incident(t):
    (one,) = t.tick(1, finding("web", 1))
    (other,) = t.tick(20, finding("cart", 20))
    assert other.id == one.id
    assert other.findings == (finding("web", 1).id, finding("cart", 20).id)
    assert other.opened_at == at(1)


def test_a_silent_service_between_them_does_not_part_them(t):
    t.tick(1, finding("web", 1))
    t.tick(2, finding("db", 2))
    assert len(t.incidents.open()) == 1


def test_callees_of_one_caller_belong_together(t):
    t.tick(1, finding("cart", 1), finding("mail", 1))
    assert len(t.incidents.open()) == 1


def test_what_no_call_connects_is_another_incident(t):
    t.tick(1, finding("web", 1), finding("store", 1))
    assert len(t.incidents.open()) == 2


def test_what_comes_long_after_is_another_incident(t):
    t.tick(1, finding("web", 1))
    t.tick(2000, finding("cart", 2000))
    assert len(t.incidents.open()) == 2


def test_what_begins_elsewhere_while_one_is_clearing_is_another_incident(t):
    t.tick(1, finding("cart", 1))
    t.tick(60, finding("mail", 60), clearing=True)
    assert len(t.incidents.open()) == 2


def test_incident_closes_with_its_last_finding(t):
    t.tick(1, finding("web", 1), finding("cart", 1))
    assert t.tick(50, finding("web", 1, resolved=50))[0].resolved_at is None
    (closed,) = t.tick(60, finding("cart", 1, resolved=60))
    assert closed.resolved_at == at(60)
    assert t.incidents.open() == []
    assert t.incidents.all() == [closed]


def test_a_closed_incident_takes_nothing_more(t):
    t.tick(1, finding("web", 1))
    t.tick(30, finding("web", 1, resolved=30))
    (new,) = t.tick(40, finding("web", 40))
    assert len(t.incidents.all()) == 2
    assert new.findings == (finding("web", 40).id,)


def test_resolved_finding_opens_no_incident(t):
    assert t.tick(1, finding("web", 1, resolved=1)) == []


def test_incident_of_nothing_but_false_positives_says_so(t):
    from dataclasses import replace

    t.tick(1, finding("web", 1))
    (told,) = t.tick(5, replace(finding("web", 1, resolved=5), false_positive_at=at(5)))
    assert told.is_false_positive
    assert told.resolved_at == at(5)


def test_incident_is_told_again_only_when_something_changed(t):
    t.tick(1, finding("web", 1), blames=[blame("cart")])
    assert t.tick(2) == []
    (told,) = t.tick(3, blames=[blame("db", amount=5.0)])
    assert told.root_causes[0].service == "db"


def test_ids_follow_from_the_first_finding():
    assert Told().tick(1, finding("web", 1))[0].id == Told().tick(1, finding("web", 1))[0].id
    assert Told().tick(1, finding("web", 1))[0].id != Told().tick(1, finding("cart", 1))[0].id


def test_what_arose_shortly_before_the_first_finding_counts(t):
    t.tick(1, blames=[blame("db", amount=9.0)])
    t.tick(5, blames=[blame("store", amount=9.0)])
    (told,) = t.tick(10, finding("web", 10))
    assert [cause.service for cause in told.root_causes] == ["db"]


def test_what_arose_far_from_it_does_not_count(t):
    (told,) = t.tick(1, finding("web", 1), blames=[blame("db"), blame("store", amount=100.0)])
    assert "store" not in {cause.service for cause in told.root_causes}


def test_resolved_incidents_are_kept_as_long_as_was_set():
    t = Told(max_incidents=3)
    for i in range(10):
        t.tick(i * 10 + 1, finding("web", i * 10 + 1))
        t.tick(i * 10 + 5, finding("web", i * 10 + 1, resolved=i * 10 + 5))
    t.tick(120)
    assert len(t.incidents.all()) == 3
    t.tick(3600 * 2)
    assert t.incidents.all() == []


# ---------------------------------------------------------------- ranking

RANKINGS = {
    "errors arose in the callee": ([blame("db", Family.ERRORS, 9), blame("web", Family.ERRORS, 1)], [reading("web")], ["db", "web"]),
    "time arose in the callee": (
        [blame("db", Family.TIME, 900), blame("web", Family.TIME, 20)],
        [reading("web", "latency_shift")],
        ["db", "web"],
    ),
    "requests that don't come count little beside errors": (
        [blame("web", Family.RATE, 500), blame("db", Family.ERRORS, 1)],
        [reading("web", "throughput"), reading("db")],
        ["db", "web"],
    ),
    "the convincing family decides": (
        [blame("web", Family.TIME, 1), blame("db", Family.ERRORS, 1)],
        [reading("web", "latency_shift", z=7.0, limit=9.0), reading("db", z=90.0)],
        ["db", "web"],
    ),
    "equal blame: the deeper one": ([blame("web"), blame("cart"), blame("db")], [], ["db", "cart", "web"]),
    "only touched": ([], [reading("web")], ["web"]),
    "nothing": ([], [], []),
}


@pytest.mark.parametrize("name", sorted(RANKINGS))
def test_root_causes_are_ranked_by_what_arose_where(name):
    blames, readings, expected = RANKINGS[name]
    evidence = Evidence()
    evidence.add(blames, readings, {"web", "cart", "db", "mail"})
    causes = rank(evidence, GRAPH)
    assert [cause.service for cause in causes] == expected
    assert [cause.score for cause in causes] == sorted((cause.score for cause in causes), reverse=True)
    assert all(0.0 <= cause.score <= 1.0 for cause in causes)
    assert all(type(cause.score) is float for cause in causes)


def test_list_of_root_causes_is_bounded():
    evidence = Evidence()
    services = {f"s{i}" for i in range(100)}
    evidence.add([blame(service) for service in services], [], services)
    assert len(rank(evidence, {})) == 10


def test_order_in_which_evidence_comes_does_not_matter():
    blames = [blame("db", Family.ERRORS, 3), blame("web", Family.TIME, 5), blame("db", Family.TIME, 1)]
    readings = [reading("web", "latency_shift"), reading("db")]
    one, other = Evidence(), Evidence()
    one.add(blames, readings, {"web", "db"})
    other.add(blames[::-1], readings[::-1], {"web", "db"})
    assert [(c.service, c.score) for c in rank(one, GRAPH)] == [(c.service, c.score) for c in rank(other, GRAPH)]
