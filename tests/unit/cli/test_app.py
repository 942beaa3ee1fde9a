"""The command tree: global options anywhere, errors that help, exit codes, envelopes for everything."""

import json
from importlib.resources import files

import jsonschema
import pytest

from dslmodel import __version__, errors
from dslmodel.cli import app
from dslmodel.cli.output import Reply, UsageError

SCHEMAS = files("dslmodel.cli").joinpath("schemas")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(line, capsys):
    code = app.run(line.split())
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("nosuch", 'Unknown command "nosuch"'),
        ("telemetry stats", 'Did you mean "status"?'),
        ("telemetry findings --servise web", "Did you mean --service?"),
        ("telemetry status --jsn", "Did you mean --json?"),
        ("telemetry explain", "ID requires an argument"),
        ("telemetry explain one two", "Too many arguments: two"),
        ("telemetry status --fail-under much", 'unable to convert "much" into float'),
        ("telemetry status --fail-under 2", "a health score is between 0 and 1"),
        ("telemetry status -c a -c b", "give --coord-dir once"),
        ("telemetry findings --since soon", "neither a length of time"),
        ("telemetry start-processing --api-port http", "unable to convert"),
        ("telemetry replay", "at least one recording"),
        ("-c", "requires an argument"),
    ],
)
def test_a_wrong_line_is_exit_2_with_what_is_wrong_and_what_to_do(line, complaint, capsys):
    code, out, err = run(line, capsys)
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert complaint in err
    assert "Traceback" not in err
    code, out, err = run(f"--json {line}", capsys)
    envelope = json.loads(out)
    jsonschema.validate(envelope, json.loads(SCHEMAS.joinpath("envelope.json").read_text()))
    assert (code, envelope["success"], err) == (2, False, "")
    assert complaint in envelope["errors"][0]


@pytest.mark.parametrize(
    "line", ["--json -c here telemetry findings", "telemetry findings --json -c here", "telemetry --json findings --coord-dir=here"]
)
def test_global_options_go_anywhere(line, capsys):
    code, out, _ = run(line, capsys)
    envelope = json.loads(out)
    assert (code, envelope["command"], envelope["data"]) == (0, "telemetry findings", {"findings": []})
    assert "here" in envelope["warnings"][0]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.DslModelError("x"), 1),
        (errors.AuditError("x"), 1),
        (UsageError("x"), 2),
        (errors.ConfigurationError("x"), 3),
        (errors.DaemonUnreachable("x"), 4),
        (errors.ConditionNotMet("x"), 5),
        (PermissionError(13, "Permission denied", "file"), 1),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("x"), 1),
    ],
)
def test_every_error_has_its_exit_code_and_no_traceback(error, code, capsys, monkeypatch):
    def fails(*, context=None):
        raise error

    monkeypatch.setitem(app._COMMANDS[""], "init", fails)
    assert run("init", capsys)[0] == code
    done, out, err = run("--json init", capsys)
    assert done == code
    assert json.loads(out)["errors"]
    assert "Traceback" not in err


def test_debug_shows_where_an_error_comes_from(capsys, monkeypatch):
    def fails():
        raise errors.DslModelError("deep down")

    monkeypatch.setitem(app._COMMANDS[""], "init", fails)
    with pytest.raises(errors.DslModelError, match="deep down"):
        app.run(["init", "--debug"])


def test_a_reply_decides_the_exit_code(capsys, monkeypatch):
    monkeypatch.setitem(app._COMMANDS[""], "init", lambda: Reply(text="half", errors=["not all"], exit_code=1))
    assert run("init", capsys) == (1, "half\n", "error: not all\n")


@pytest.mark.parametrize("line", ["--help", "telemetry --help", "telemetry baseline --help", "telemetry", ""])
def test_help_lists_commands_and_global_options(line, capsys):
    code, out, err = run(line, capsys)
    assert (code, err) == (0, "")
    assert "--coord-dir" in out
    assert "Usage: dsl" in out


def test_every_command_says_what_it_is_for(capsys):
    for group, commands in app._COMMANDS.items():
        for name in commands:
            code, out, _ = run(f"{group} {name} --help", capsys)
            assert code == 0
            summary = out.splitlines()[2]
            assert len(summary) > 10, (group, name)


def test_every_command_has_a_schema_for_its_data():
    for group, commands in app._COMMANDS.items():
        for name in commands:
            file = SCHEMAS.joinpath("_".join(f"{group} {name}".split()).replace("-", "_") + ".json")
            jsonschema.Draft202012Validator.check_schema(json.loads(file.read_text()))


def test_version_and_help_are_envelopes_with_json(capsys):
    assert run("--version", capsys) == (0, f"{__version__}\n", "")
    assert json.loads(run("--json --version", capsys)[1])["data"]["text"].strip() == __version__
    assert "Usage" in json.loads(run("telemetry --help --json", capsys)[1])["data"]["text"]
