"""What is kept comes back exactly."""

import json
from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from dslmodel.audit import schema
from dslmodel.audit.rows import finding_of, finding_row, incident_of, incident_row
from dslmodel.records import Clause, Finding, Incident, Pattern, RootCause

TIMES = st.integers(min_value=0, max_value=2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.floats(allow_nan=False)
CLAUSES = st.lists(
    st.builds(Clause, name=TEXT, value=st.none() | NUMBERS | TEXT, rule=TEXT, holds=st.booleans()),
    max_size=3,
).map(tuple)
FINDINGS = st.builds(
    Finding,
    id=TEXT,
    at=TIMES,
    pattern=st.sampled_from(Pattern),
    service=TEXT,
    operation=st.none() | TEXT,
    score=st.floats(0, 1),
    started_at=TIMES,
    resolved_at=st.none() | TIMES,
    updated_at=TIMES,
    is_flapping=st.booleans(),
    acknowledged_at=st.none() | TIMES,
    false_positive_at=st.none() | TIMES,
    summary=TEXT,
    clauses=CLAUSES,
    exemplars=st.lists(TEXT, max_size=3).map(tuple),
)
INCIDENTS = st.builds(
    Incident,
    id=TEXT,
    opened_at=TIMES,
    resolved_at=st.none() | TIMES,
    root_causes=st.lists(st.builds(RootCause, service=TEXT, score=NUMBERS, clauses=CLAUSES), max_size=3).map(tuple),
    findings=st.lists(TEXT, max_size=3).map(tuple),
    updated_at=TIMES,
    is_false_positive=st.booleans(),
)


def stored(row):
    """A row as the database gives it back."""
    return {name: json.loads(json.dumps(value)) for name, value in row.items()}


@given(FINDINGS)
def test_findings_come_back_exactly(finding):
    assert finding_of(stored(finding_row(finding))) == finding


@given(INCIDENTS)
def test_incidents_come_back_exactly(incident):
    assert incident_of(stored(incident_row(incident))) == incident


def test_every_field_has_a_column():
    assert set(schema.findings.columns.keys()) == {field.name for field in fields(Finding)}
    assert set(schema.incidents.columns.keys()) == {field.name for field in fields(Incident)}
    assert {field.name for field in fields(RootCause)} == {"service", "score", "clauses"}


@given(st.text())
def test_any_text_can_be_kept(text):
    finding = Finding(id=text, at=1, pattern=Pattern.ERROR_SPIKE, service=text, operation=text, score=1.0, started_at=1, summary=text)
    row = finding_row(finding)
    for name in ("id", "service", "operation", "summary"):
        row[name].encode()
