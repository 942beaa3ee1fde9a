import json
from html.parser import HTMLParser
from importlib.resources import files
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from dslmodel.demo.faults import Verdict
from dslmodel.demo.page import page
from tests.unit.demo.builders import report, result, seen


def test_times_are_from_the_start_of_the_fault_and_from_the_repair():
    told = report().data()["faults"][0]
    assert told["seconds_to_finding"] == 2.0
    assert told["seconds_to_close"] == 6.0


@pytest.mark.parametrize("verdict", list(Verdict))
def test_anything_but_seen_fails_and_says_why(verdict):
    told = report(result("errors", verdict), result("latency"))
    assert told.passed is (verdict is Verdict.SEEN)
    assert len(told.problems) == (0 if verdict is Verdict.SEEN else 1)
    assert all("cart" in problem for problem in told.problems)


def test_finding_without_a_fault_is_told():
    told = report(unprovoked=[seen("latency_increase", "catalog")])
    assert told.remarks == ["latency_increase on catalog was raised while nothing was wrong"]
    assert told.data()["unprovoked"][0]["service"] == "catalog"


def test_span_says_how_many_phases_ended_well():
    attributes = report(result("errors"), result("latency", Verdict.UNSEEN)).span_attributes()
    assert attributes == {"feature_name": "demo-8020", "total_duration_ms": 60_000, "automation_success": False, "phases_completed": 3}


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in {"href", "src"}]

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("verdict", list(Verdict))
def test_page_stands_alone_and_escapes_what_it_shows(verdict):
    read = _Page()
    html = page(report(result("errors", verdict), unprovoked=[seen("<b>", "<i>")]))
    read.feed(html)
    assert read.tags.count("svg") == 1
    assert not read.links
    assert not {"script", "i", "storefront"} & set(read.tags)
    assert verdict.value in read.text
    ET.fromstring(html[html.index("<svg") : html.index("</svg>") + len("</svg>")])  # well-formed


@pytest.mark.parametrize("verdict", list(Verdict))
def test_data_follow_the_shipped_schema(verdict):
    schema = json.loads(files("dslmodel.cli").joinpath("schemas", "telemetry_demo_8020.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(report(result("errors", verdict), unprovoked=[seen("error_spike", "cart")]).data(), schema)
