"""Lists, ids by their beginning, explanations."""

import pytest

from dslmodel.api.queries import NotFound, explain, finding_by, list_findings, list_incidents, parse_since
from dslmodel.clock import SECOND
from tests.unit.api.samples import NOW, Records, finding, incident


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("30m", NOW - 1800 * SECOND),
        ("1.5h", NOW - 5400 * SECOND),
        (" 7d ", NOW - 604_800 * SECOND),
        ("2027-01-15T08:00:00Z", NOW),
        ("2027-01-15T08:00:00", NOW),
        ("2027-01-15T09:00:00.25+01:00", NOW + SECOND // 4),
    ],
)
def test_since_is_a_length_of_time_or_a_time(text, at):
    assert parse_since(text, NOW) == at


@pytest.mark.parametrize("text", ["", "h", "1y", "-1h", "yesterday", "1h30m"])
def test_since_that_is_neither_is_named_with_examples(text):
    with pytest.raises(ValueError, match="neither a length of time"):
        parse_since(text, NOW)


def test_a_finding_is_found_by_the_beginning_of_its_id():
    records = Records([finding("abcd11"), finding("abcd22"), finding("abcd")])
    assert finding_by(records, "abcd1").id == "abcd11"
    assert finding_by(records, "abcd").id == "abcd"  # all of an id wins over the beginning of others


@pytest.mark.parametrize(
    ("prefix", "complaint"),
    [
        ("abc", "at least 4 characters"),
        ("ffff", "no finding has an id"),
        ("abcd", "2 ids begin with 'abcd': abcd11, abcd22"),
        ("", "at least"),
    ],
)
def test_an_id_that_fits_none_or_several_says_so(prefix, complaint):
    with pytest.raises(NotFound, match=complaint):
        finding_by(Records([finding("abcd11"), finding("abcd22")]), prefix)


def test_lists_are_filtered():
    records = Records([finding("old1", at=NOW - 10), finding("new1", service="web"), finding("over", resolved_at=NOW)], [incident()])
    assert [row["id"] for row in list_findings(records, NOW, None, open_only=False)] == ["new1", "over"]
    assert [row["id"] for row in list_findings(records, None, "payments", open_only=True)] == ["old1"]
    assert [row["id"] for row in list_incidents(records, NOW + 1, None, open_only=False)] == []


def test_a_finding_is_explained_with_the_newest_incident_that_it_belongs_to():
    records = Records([finding("aaaa")], [incident("i001", ("aaaa",)), incident("i002", ("aaaa",)), incident("i003", ("other",))])
    explained = explain(records, "aaaa")
    assert explained["kind"] == "finding"
    assert explained["incident"]["id"] == "i002"


def test_an_incident_is_explained_with_its_findings_and_what_speaks_for_each_suspect():
    explained = explain(Records([finding("aaaa")], [incident("i001", ("aaaa",))]), "i001")
    assert explained["kind"] == "incident"
    assert explained["finding"] is None
    assert [clause["value"] for clause in explained["incident"]["root_causes"][0]["clauses"]] == [0.41, "shadow"]
    assert explained["incident"]["findings"][0]["clauses"][0]["rule"] == "> 0.05"
