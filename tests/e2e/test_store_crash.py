"""A process that is killed while it records loses nothing that it was told is recorded."""

import subprocess
import sys

import pytest

from dslmodel.audit.store import Store

WRITER = """
import sys
from pathlib import Path
from dslmodel.audit.store import Store
from dslmodel.records import Finding, Pattern

with Store.open(Path(sys.argv[1])) as store:
    for number in range(1_000_000):
        store.record(
            [
                Finding(id=f"{number}-{part}", at=number, pattern=Pattern.ERROR_SPIKE, service="s", operation=None, score=1.0, started_at=0)
                for part in range(3)
            ],
            [],
        )
        print(number, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 40, 400])
def test_what_was_acknowledged_survives_kill_9(tmp_path, lines):
    path = tmp_path / ".dslmodel" / "state.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        acknowledged = [int(next(writer.stdout)) for _ in range(lines)][-1]
        writer.kill()
        acknowledged = max([acknowledged, *(int(line) for line in writer.stdout if line.endswith("\n"))])
    with Store.open(path) as store:
        assert not store.damage()
        found = [finding.at for finding in store.findings()]
    # Whole calls only, in order, and none that was acknowledged is missing.
    assert found == [number for number in range(found[-1] + 1) for _ in range(3)]
    assert found[-1] >= acknowledged
