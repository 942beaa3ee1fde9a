"""docs/reference.md against the code: every setting with its default, every command with its options, nothing that isn't there."""

import re
from pathlib import Path

import pytest
from cyclopts import App

from dslmodel.cli.app import build
from dslmodel.settings import Settings
from dslmodel.settings.loading import description, setting_paths, shown, value_of
from dslmodel.settings.names import key_of, variable_of

PAGE = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
# Options that every command takes, documented once above the table.
EVERYWHERE = {"--json", "--coord-dir", "--verbose", "--debug", "--help", "--version"}


def settings_table() -> list[str]:
    """The rows of the page's settings table."""
    defaults = Settings()
    return [
        f"| `{key_of(path)}` | `{variable_of(path)}` | {default(shown(path, value_of(defaults, path)))} | {description(path)} |"
        for path in setting_paths()
    ]


def default(text: str) -> str:
    return f"`{text}`" if text not in {"", "None"} else "unset"


@pytest.mark.parametrize("row", settings_table(), ids=lambda row: row.split("`")[1])
def test_every_setting_is_on_the_page(row: str) -> None:
    assert row in SECTIONS["Settings"].splitlines()


def test_the_page_has_no_setting_that_does_not_exist() -> None:
    rows = [line for line in SECTIONS["Settings"].splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(settings_table())


def commands(app: App, words: tuple[str, ...] = ()) -> dict[str, App]:
    """Every command of the tree by its words."""
    found = {}
    for name in app:
        if name.startswith("-"):
            continue
        command = app[name]
        below = commands(command, (*words, name))
        found |= below or {" ".join((*words, name)): command}
    return found


def documented() -> dict[str, str]:
    """Rows of the page's command table by command."""
    rows = re.findall(r"^\| `dsl ([a-z0-9 -]+?)((?: [A-Z…]+)*)((?: \[.*?\])*)` \| (.+) \|$", SECTIONS["Commands"], re.MULTILINE)
    return {name: options for name, _, options, _ in rows}


def test_the_page_has_exactly_the_commands_that_exist() -> None:
    assert set(documented()) == set(commands(build()))


def test_the_page_has_exactly_the_options_that_exist() -> None:
    rows = documented()
    for name, command in commands(build()).items():
        options = {
            option
            for argument in command.assemble_argument_collection()
            if argument.parse
            for option in argument.names
            if option.startswith("--") and not option.startswith("--no-")
        }
        assert set(re.findall(r"--[a-z-]+", rows[name])) == options - EVERYWHERE, name
