import io

import pytest
from rich.console import Console

from dslmodel.cli.demo import _VERDICTS, _text
from dslmodel.demo.faults import Verdict
from tests.unit.demo.builders import report, result


def _shown(told, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    for part in _text(told, None):
        console.print(part, markup=False)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 200])
def test_no_pattern_and_no_verdict_is_cut(width):
    shown = _shown(report(*[result(name, Verdict.MISATTRIBUTED) for name in ("errors", "latency", "death", "silence")]), width)
    assert "…" not in shown
    assert max(len(line) for line in shown.splitlines()) <= width
    for word in ("error_spike", "latency_increase", "cascade_failure", "throughput_drop", "wrong", "cause", "Failed."):
        assert word in shown


def test_fault_that_was_not_seen_shows_as_nothing_found():
    assert "nothing" in _shown(report(result("errors", Verdict.UNSEEN)), 120)


def test_every_verdict_has_its_words():
    assert set(_VERDICTS) == {verdict.value for verdict in Verdict}
