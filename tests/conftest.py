"""What holds for every test: a time limit by folder, `--data DIR`, and a loud list of what did not run.

Write `pytest tests --data DIR` or `pytest --data=DIR`: pytest takes a lone `--data DIR` for a path of tests before it has read this.
"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Seconds after which a test hangs, its fixtures included, by the first folder below tests/, and when marked slow. A unit test takes
# less than two on a quiet machine; on a busy one it must still pass.
# A test that needs more says so with @pytest.mark.timeout.
LIMITS = {"unit": 20, "contract": 60, "traps": 60, "e2e": 180}
SLOW = 600
TESTS = Path(__file__).parent

# How long an example takes says more of the machine's load than of the code; the limits above bound the whole test.
settings.register_profile("dslmodel", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("dslmodel")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--data",
        metavar="DIR",
        type=Path,
        help="folder with labelled recordings (detection/ob-day1, detection/petshop-train, …) for the tests that are scored on them",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder == "e2e":
            item.add_marker(pytest.mark.e2e)
        if item.get_closest_marker("timeout") is None:
            limit = SLOW if item.get_closest_marker("slow") else LIMITS.get(folder)
            if limit:
                item.add_marker(pytest.mark.timeout(limit))


@pytest.fixture(scope="session")
def data_dir(request: pytest.FixtureRequest) -> Path:
    """The folder given with `--data`; a test that needs it is skipped, loudly, without it."""
    folder: Path | None = request.config.getoption("--data")
    if folder is None:
        pytest.skip("needs labelled recordings: pytest tests --data DIR, or make test DATA=DIR")
    if not folder.is_dir():
        raise pytest.UsageError(f"--data {folder}: no such folder; give the one that holds detection/")
    return folder.resolve()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name every test that was skipped, so that a green run never hides what it did not check."""
    skipped = terminalreporter.stats.get("skipped", [])
    if not skipped:
        return
    terminalreporter.section(f"NOT RUN: {len(skipped)} skipped", sep="!", yellow=True, bold=True)
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        terminalreporter.line(f"{report.nodeid}: {reason.removeprefix('Skipped: ')}", yellow=True)
