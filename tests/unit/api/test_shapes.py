"""Records as JSON: exact, valid, and as the shipped schemas say."""

import json
import math
from importlib.resources import files

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dslmodel.api.shapes import (
    Surroundings,
    clean,
    finding_detail,
    incident_detail,
    instant,
    number,
    replay_shape,
    telemetry_shape,
)
from dslmodel.clock import SECOND
from tests.unit.api.samples import NOW, finding, incident, snapshot


def schema(name):
    return json.loads(files("dslmodel.cli").joinpath("schemas", f"{name}.json").read_text())


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (None, None),
        (0, "1970-01-01T00:00:00Z"),
        (NOW, "2027-01-15T08:00:00Z"),
        (NOW + 500_000_000, "2027-01-15T08:00:00.5Z"),
        (NOW + 1, "2027-01-15T08:00:00.000000001Z"),
    ],
)
def test_an_instant_is_rfc_3339_with_as_many_digits_as_it_needs(at, text):
    assert instant(at) == text


@given(st.integers(0, 4 * 10**18))
def test_an_instant_loses_nothing(at):
    text = instant(at).removesuffix("Z")
    whole, _, fraction = text.partition(".")
    assert at % SECOND == int(fraction.ljust(9, "0") or 0)
    assert len(whole) == 19


@pytest.mark.parametrize(("value", "shown"), [(None, None), (math.nan, None), (-math.inf, None), (0.1 + 0.2, 0.3), (2, 2)])
def test_a_number_is_finite_or_null(value, shown):
    assert number(value) == shown


def test_an_unknown_health_is_null_whatever_its_state_says():
    telemetry = telemetry_shape(snapshot(score=None), Surroundings(processing=True))
    assert telemetry["health_score"] is None
    assert telemetry["health_state"] == "unknown"


def test_the_same_paths_exist_before_and_after_the_first_tick():
    before = telemetry_shape(None, Surroundings())
    after = telemetry_shape(snapshot(), Surroundings(processing=True))
    assert before.keys() == after.keys()


def test_problems_of_the_process_make_telemetry_health_bad():
    telemetry = telemetry_shape(snapshot(), Surroundings(processing=True, problems=["the disk is full"]))
    assert telemetry["telemetry_health"] == {"state": "bad", "problems": ["the disk is full"]}


def test_a_replay_names_findings_by_index_and_follows_its_schema():
    found = [finding("aaaa"), finding("bbbb", service="catalogue", resolved_at=NOW + SECOND, operation=None)]
    data = replay_shape(found, [incident(findings=("bbbb", "aaaa", "gone"))])
    assert data["incidents"][0]["findings"] == [1, 0]
    assert list(data["findings"][0]) == ["id", "at", "pattern", "service", "operation", "score", "started_at", "resolved_at"]
    jsonschema.validate(data, schema("telemetry_replay"))


def test_details_carry_every_clause_and_follow_their_schema():
    found = finding()
    belongs_to = incident_detail(incident(findings=(found.id, "gone")), {found.id: found})
    data = {"kind": "finding", "finding": finding_detail(found), "incident": belongs_to}
    assert [clause["name"] for clause in data["finding"]["clauses"]] == ["error ratio", "mode"]
    assert data["incident"]["findings"][1] == {"id": "gone"}
    jsonschema.validate(data, schema("telemetry_explain"))


LEAVES = st.none() | st.floats() | st.text() | st.booleans()


@settings(max_examples=50)
@given(st.recursive(LEAVES, lambda inner: st.dictionaries(st.text(), inner, max_size=3), max_leaves=8))
def test_cleaned_values_are_valid_json(value):
    json.dumps(clean(value), allow_nan=False)
