import pytest

from dslmodel.demo.faults import FAULTS, Verdict, diagnose, judge
from dslmodel.demo.topology import SERVICES
from tests.unit.demo.builders import START, fault_called, incident, seen


def test_four_faults_show_four_patterns_on_services_that_exist():
    assert [fault.pattern.value for fault in FAULTS] == ["error_spike", "latency_increase", "cascade_failure", "throughput_drop"]
    assert {fault.service for fault in FAULTS} <= set(SERVICES)


@pytest.mark.parametrize(
    ("name", "findings", "blamed", "is_closed", "verdict"),
    [
        ("errors", [("error_spike", "cart")], ["cart"], True, Verdict.SEEN),
        ("errors", [("error_spike", "cart")], ["cart", "storefront"], False, Verdict.NOT_CLOSED),
        ("errors", [("error_spike", "cart")], ["storefront", "cart"], True, Verdict.MISATTRIBUTED),
        ("errors", [("error_spike", "storefront")], ["cart"], True, Verdict.UNSEEN),
        ("errors", [("latency_increase", "cart")], ["cart"], True, Verdict.UNSEEN),
        ("errors", [], [], True, Verdict.UNSEEN),
        ("death", [("cascade_failure", "ledger")], ["ledger"], True, Verdict.SEEN),
        ("death", [("error_spike", "payments"), ("cascade_failure", "storefront")], ["ledger", "payments"], True, Verdict.SEEN),
        ("death", [("cascade_failure", "storefront")], ["payments", "ledger"], True, Verdict.MISATTRIBUTED),
        ("death", [("error_spike", "ledger")], ["ledger"], True, Verdict.UNSEEN),
        ("silence", [("throughput_drop", "reviews")], [], True, Verdict.MISATTRIBUTED),
    ],
)
def test_verdict(name, findings, blamed, is_closed, verdict):
    raised = [seen(pattern, service) for pattern, service in findings]
    diagnosis = diagnose(fault_called(name), raised, [incident(raised, *blamed)] if blamed else [])
    assert judge(fault_called(name), diagnosis, is_closed=is_closed) is verdict


def test_findings_outside_the_incident_are_told_apart_from_consequences():
    expected, follows = seen("error_spike", "cart"), seen("error_spike", "storefront")
    stranger = seen("throughput_drop", "shipping")
    diagnosis = diagnose(fault_called("errors"), [expected, follows, stranger], [incident([expected, follows], "cart")])
    assert diagnosis.expected == expected
    assert list(diagnosis.consequences) == [follows]
    assert list(diagnosis.unrelated) == [stranger]


def test_diagnosis_is_closed_when_all_that_was_raised_is():
    expected, follows = seen("error_spike", "cart", resolved_at=START), seen("error_spike", "storefront")
    assert not diagnose(fault_called("errors"), [expected, follows], []).is_closed
    assert diagnose(fault_called("errors"), [expected], []).is_closed
