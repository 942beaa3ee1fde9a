from collections.abc import Mapping
from dataclasses import replace

import pytest

from dslmodel.clock import VirtualClock
from dslmodel.demo.daemon import Seen, SeenIncident
from dslmodel.demo.faults import FAULTS, Fault, Verdict
from dslmodel.demo.run import Demonstration, Pace
from tests.unit.demo.builders import START, incident, seen

AT_ONCE = Pace(baseline=0.0, learn_at_most=0.0, find_at_most=0.0, hold=0.0, close_at_most=0.0, pause=0.0)


class Rehearsal:
    """Daemon and system in one: every switch of a fault raises or closes what `raises` says of it."""

    def __init__(self, raises: Mapping[str, list[tuple[str, str]]], blamed: Mapping[str, str], *, closes: bool = True) -> None:
        self.clock = VirtualClock(START)
        self.log: list[str] = []
        self._raises, self._blamed, self._closes = raises, blamed, closes
        self._findings: dict[str, list[Seen]] = {}

    def begin(self, fault: Fault) -> int:
        self.clock.advance(1)
        self.log.append(f"begin {fault.name}")
        self._findings[fault.name] = [
            replace(seen(pattern, service, at=self.clock.now()), id=f"{fault.name}:{pattern}:{service}")
            for pattern, service in self._raises.get(fault.name, [(fault.pattern.value, fault.service)])
        ]
        return self.clock.now()

    def end(self, fault: Fault) -> int:
        self.clock.advance(1)
        self.log.append(f"end {fault.name}")
        if self._closes:
            self._findings[fault.name] = [replace(finding, resolved_at=self.clock.now()) for finding in self._findings[fault.name]]
        return self.clock.now()

    def findings(self) -> list[Seen]:
        return [finding for findings in self._findings.values() for finding in findings]

    def incidents(self) -> list[SeenIncident]:
        return [
            incident(findings, self._blamed.get(name, next(fault.service for fault in FAULTS if fault.name == name)))
            for name, findings in self._findings.items()
        ]


def _rehearse(monkeypatch, rehearsal: Rehearsal) -> dict[str, tuple[Verdict, int]]:
    faults = tuple(
        replace(fault, begin=lambda _, fault=fault: rehearsal.begin(fault), end=lambda _, fault=fault: rehearsal.end(fault))
        for fault in FAULTS
    )
    monkeypatch.setattr("dslmodel.demo.run.FAULTS", faults)
    demonstration = Demonstration(is_fast=True, environment={}, say=lambda _: None, clock=rehearsal.clock)
    demonstration._pace = AT_ONCE
    results = demonstration._break_all(rehearsal, rehearsal)
    return {result.fault.name: (result.verdict, len(result.diagnosis.raised)) for result in results}


def test_faults_never_overlap_and_each_is_judged(monkeypatch):
    rehearsal = Rehearsal({}, {})
    verdicts = _rehearse(monkeypatch, rehearsal)
    assert rehearsal.log == [f"{word} {fault.name}" for fault in FAULTS for word in ("begin", "end")]
    assert verdicts == {fault.name: (Verdict.SEEN, 1) for fault in FAULTS}


@pytest.mark.parametrize(
    ("raises", "blamed", "expected"),
    [
        ({"errors": []}, {}, Verdict.UNSEEN),
        ({"errors": [("error_spike", "storefront")]}, {}, Verdict.UNSEEN),
        ({}, {"errors": "storefront"}, Verdict.MISATTRIBUTED),
    ],
)
def test_wrong_diagnosis_of_one_fault_leaves_the_others_alone(monkeypatch, raises, blamed, expected):
    verdicts = _rehearse(monkeypatch, Rehearsal(raises, blamed))
    assert verdicts.pop("errors")[0] is expected
    assert {verdict for verdict, _ in verdicts.values()} == {Verdict.SEEN}


def test_finding_that_stays_open_is_told(monkeypatch):
    verdicts = _rehearse(monkeypatch, Rehearsal({}, {}, closes=False))
    assert {verdict for verdict, _ in verdicts.values()} == {Verdict.NOT_CLOSED}


def test_finding_out_of_a_faults_reach_is_not_charged_to_it(monkeypatch):
    rehearsal = Rehearsal({"latency": [("latency_increase", "carriers"), ("error_spike", "cart")]}, {})
    assert _rehearse(monkeypatch, rehearsal)["latency"] == (Verdict.SEEN, 1)
