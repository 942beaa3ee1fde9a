"""Findings, explanations and marks with no daemon, from what one left behind."""

import json
from importlib.resources import files

import jsonschema
import pytest

from dslmodel.audit.store import Store
from dslmodel.cli import findings
from dslmodel.cli.output import Context, render
from dslmodel.engine.runtime import build_pipeline
from dslmodel.engine.state import StateDirectory
from dslmodel.errors import DslModelError
from dslmodel.settings import Settings
from tests.unit.api.samples import NOW, finding, incident
from tests.unit.cli.places import daemon_ran


@pytest.fixture
def context(tmp_path):
    """A directory where a daemon ran, found two things and stopped."""
    coord_dir = tmp_path / "coordination"
    state = daemon_ran(coord_dir, stopped_at="2027-01-15T08:00:00Z")
    with Store.open(state.path / "state.db") as store:
        over = finding("f0002222", service="catalogue", operation=None, resolved_at=NOW + 1)
        store.record([finding("f0001111"), over], [incident("i0001111", ("f0001111",))])
        store.save_baselines(build_pipeline(Settings()).dump_baselines())
    return Context(given_coord_dirs=(coord_dir,))


def check(reply, name):
    jsonschema.validate(reply.data, json.loads(files("dslmodel.cli").joinpath("schemas", f"{name}.json").read_text()))


def shown(reply, capsys):
    render(reply, Context())
    return capsys.readouterr().out


def test_lists_show_what_the_daemon_left_and_take_filters(context, capsys):
    everything = findings.findings(context=context)
    check(everything, "telemetry_findings")
    assert [row["id"] for row in everything.data["findings"]] == ["f0001111", "f0002222"]
    assert [row["id"] for row in findings.findings(open=True, context=context).data["findings"]] == ["f0001111"]
    assert [row["id"] for row in findings.findings(service="catalogue", context=context).data["findings"]] == ["f0002222"]
    assert findings.findings(since="2028-01-01T00:00:00Z", context=context).warnings == ["no finding here"]
    text = shown(everything, capsys)
    assert "error_spike" in text
    assert "payments POST /pay" in text


def test_incidents_show_their_suspects(context, capsys):
    reply = findings.incidents(context=context)
    check(reply, "telemetry_incidents")
    text = shown(reply, capsys)
    assert text.index("payments 0.80") < text.index("database 0.20")


@pytest.mark.parametrize("prefix", ["f0001", "i0001"])
def test_explanations_show_every_condition_with_its_value(context, capsys, prefix):
    reply = findings.explain(prefix, context=context)
    check(reply, "telemetry_explain")
    text = shown(reply, capsys)
    for part in ("error ratio", "0.41", "> 0.05", "yes", "mode", "shadow", "no", "Incident i0001111", "1. payments"):
        assert part in text


def test_an_acknowledgement_is_kept_and_written_down(context):
    reply = findings.ack("f0001", context=context)
    check(reply, "telemetry_ack")
    assert reply.data["finding"]["acknowledged_at"]
    assert reply.data["finding"]["resolved_at"] is None
    with Store.open_readonly(context.coord_dir / ".dslmodel" / "state.db") as store:
        assert store.findings()[0].acknowledged_at
        assert [(event.name, event.by) for event in store.events()] == [("ack", "cli")]


def test_a_false_positive_without_a_daemon_closes_and_says_that_nothing_was_learnt(context):
    reply = findings.false_positive("f0001", context=context)
    check(reply, "telemetry_false_positive")
    assert reply.data["finding"]["resolved_at"]
    assert "can't learn" in reply.warnings[0]


def test_baselines_are_shown_and_forgotten(context):
    check(findings.baseline_show(context=context), "telemetry_baseline_show")
    check(findings.baseline_reset(context=context), "telemetry_baseline_reset")
    check(findings.baseline_reset(service="payments", context=context), "telemetry_baseline_reset")


def test_baselines_that_cannot_be_read_can_be_forgotten(context):
    with Store.open(context.coord_dir / ".dslmodel" / "state.db") as store:
        store.save_baselines(b"not what was saved")
    with pytest.raises(DslModelError, match="baseline reset"):
        findings.baseline_show(context=context)
    findings.baseline_reset(context=context)
    findings.baseline_show(context=context)


def test_nothing_is_changed_while_somebody_holds_the_lock(context):
    with StateDirectory(context.coord_dir), pytest.raises(DslModelError, match="locked by another process"):
        findings.ack("f0001", context=context)


def test_an_unknown_id_is_an_error(context):
    with pytest.raises(DslModelError, match="no finding has an id"):
        findings.ack("ffff", context=context)
