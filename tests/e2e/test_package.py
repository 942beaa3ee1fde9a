"""The wheel that users install: everything in it that the source tree has, under the licence that it names."""

import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import dslmodel
from tests.e2e.running import environment

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("build")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist", "."]
    subprocess.run(command, cwd=folder, env=environment(), check=True)
    (built,) = (folder / "dist").glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_has_every_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    package = ROOT / "src" / "dslmodel"
    files = {str(f.relative_to(ROOT / "src")) for f in package.rglob("*") if f.is_file() and "__pycache__" not in f.parts}
    assert files <= set(wheel.namelist())


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    information = f"dslmodel-{dslmodel.__version__}.dist-info"
    metadata = message_from_bytes(wheel.read(f"{information}/METADATA"))
    assert metadata["Version"] == dslmodel.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "dsl = dslmodel.cli.main:main" in wheel.read(f"{information}/entry_points.txt").decode()
    assert wheel.read(f"{information}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
