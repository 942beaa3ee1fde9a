"""One envelope, two renderers."""

import json
import math
import subprocess
import sys
from importlib.resources import files

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.table import Table

from dslmodel.cli.output import Context, Reply, colour_allowed, dump, envelope, render


def schema(name):
    return json.loads(files("dslmodel.cli").joinpath("schemas", f"{name}.json").read_text())


def no_constant(name):
    raise AssertionError(f"{name} is not JSON")


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3), max_leaves=8)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_every_envelope_is_valid_json_whatever_the_data(data):
    text = dump(envelope("telemetry findings", Reply(data=data, errors=["\ud800 broken"], exit_code=1)))
    assert "\n" not in text
    assert text.isascii()
    document = json.loads(text, parse_constant=no_constant)
    jsonschema.validate(document, schema("envelope"))
    assert document["success"] is False


def test_what_is_not_finite_becomes_null_and_the_rest_stays():
    assert json.loads(dump({"a": math.nan, "b": [math.inf, 1.5], "c": (2,)})) == {"a": None, "b": [None, 1.5], "c": [2]}


def test_the_timestamp_can_be_a_virtual_one():
    assert envelope("x", Reply(timestamp=1_800_000_000_000_000_001))["timestamp"] == "2027-01-15T08:00:00.000000001Z"


def test_json_goes_to_stdout_alone(capsys):
    render(Reply(data={"a": 1}, text="hello", warnings=["careful"], errors=["bad"], exit_code=1), Context(command="x", json=True))
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)["warnings"] == ["careful"]


def test_text_goes_to_stdout_and_words_to_stderr(capsys):
    render(Reply(data={"a": 1}, text="hello", warnings=["careful [red]x[/]"], errors=["bad"], exit_code=1), Context())
    out, err = capsys.readouterr()
    assert out == "hello\n"
    assert err == "warning: careful [red]x[/]\nerror: bad\n"


def test_tables_in_a_pipe_are_as_wide_as_they_need_to_be(capsys):
    table = Table(box=None)
    table.add_column("id")
    table.add_row("x" * 300)
    render(Reply(text=[table, "[bold]no markup[/]"]), Context())
    out = capsys.readouterr().out
    assert "x" * 300 in out
    assert "[bold]no markup[/]" in out


class Stream:
    """A terminal or not."""

    def __init__(self, *, is_terminal):
        self.isatty = lambda: is_terminal


@pytest.mark.parametrize(
    ("is_terminal", "variables", "allowed"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colour_only_on_a_terminal_that_wants_it(monkeypatch, is_terminal, variables, allowed):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert colour_allowed(Stream(is_terminal=is_terminal)) is allowed


def test_importing_it_needs_no_renderer():
    code = "import sys, dslmodel.cli.output; print('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20).stdout == "False\n"
