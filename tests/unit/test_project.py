"""The project itself: locks, size limits, links of the documentation, changelog."""

import ast
import re
import sys
import tomllib
from importlib.metadata import entry_points, packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dslmodel
from tests.sizes import excesses, main

ROOT = Path(__file__).parents[2]
LOCKS = {"requirements.lock": ["dependencies"], "requirements-dev.lock": ["dependencies", "test", "dev"]}
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def pins(lock: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes by package."""
    found = {}
    for block in re.split(r"\n(?=[a-z0-9])", (ROOT / lock).read_text()):
        match = re.match(r"([a-z0-9._-]+)==(\S+)", block)
        if match:
            found[canonicalize_name(match[1])] = (match[2], block.count("--hash=sha256:"))
    return found


def requirements(groups: list[str]) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [line for group in groups for line in (project["dependencies"] if group == "dependencies" else extras[group])]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize(("lock", "groups"), LOCKS.items())
def test_a_lock_pins_what_the_project_asks_for(lock: str, groups: list[str]) -> None:
    locked = pins(lock)
    for requirement in requirements(groups):
        pinned, _ = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pinned, prereleases=True), f"{requirement} is locked at {pinned}: run make lock"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash_and_no_address(lock: str) -> None:
    assert all(hashes > 0 for _, hashes in pins(lock).values())
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE), "an option of pip in a lock file"


def test_both_locks_agree() -> None:
    running, checking = pins("requirements.lock"), pins("requirements-dev.lock")
    assert running.items() <= checking.items()


def imports() -> set[str]:
    """Top packages that the source imports from outside the standard library."""
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"dslmodel"}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    declared = {canonicalize_name(requirement.name) for requirement in requirements(["dependencies"])}
    providers = packages_distributions()
    used = set()
    for package in imports():
        by = {canonicalize_name(name) for name in providers[package]} & declared
        assert by, f"{package} is imported, but none of {providers[package]} is a dependency"
        used |= by
    assert declared - used == {"httptools"}, "uvicorn imports it by itself"


def test_the_locks_bring_the_build_backend() -> None:
    needed = [Requirement(line) for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]]
    for lock in LOCKS:
        assert all(r.specifier.contains(pins(lock)[canonicalize_name(r.name)][0]) for r in needed)


def test_the_installed_package_is_this_one() -> None:
    assert version("dslmodel") == dslmodel.__version__
    (script,) = (e for e in entry_points(group="console_scripts") if e.name == "dsl")
    assert script.value == "dslmodel.cli.main:main"


def test_the_changelog_says_what_comes_next() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]*(?:#[^)\s]*)?)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        if "://" in name:
            continue
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name}: {target} has no such heading"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_sizes_names_what_is_too_large(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = "\n".join(f"    x = {n}" for n in range(60))
    (tmp_path / "long.py").write_text(
        f"class A:\n  def short(self, a, b, c, d, e, f): pass\ndef much(a, b, c, *, d, e, f, **g):\n{body}\n" + "\n" * 500
    )
    found = list(excesses(tmp_path / "long.py"))
    assert len(found) == 3
    assert "563 lines" in found[0]
    assert "much has 61 lines" in found[1]
    assert "much takes 7 parameters" in found[2]
    assert main([str(tmp_path)]) == 1
    assert "split it" in capsys.readouterr().out
    assert main([str(tmp_path / "no-such-folder")]) == 1, "a check of nothing is no check"
