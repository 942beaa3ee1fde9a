from pathlib import Path
from typing import Any

import yaml
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from dslmodel.demo.run import OWN_RESOURCE, SPAN_NAME
from tests.unit.demo.builders import report

REGISTRY = Path(__file__).parents[3] / "semconv"
TYPES = {"string": str, "int": int, "double": float, "boolean": bool}


def _groups() -> dict[str, dict[str, Any]]:
    files = [path for path in REGISTRY.glob("*.yaml") if path.name != "manifest.yaml"]
    return {group["id"]: group for path in files for group in yaml.safe_load(path.read_text())["groups"]}


def _attributes() -> dict[str, dict[str, Any]]:
    return {attribute["id"]: attribute for group in _groups().values() for attribute in group["attributes"] if "id" in attribute}


def test_every_reference_of_the_registry_is_defined_and_everything_says_what_it_is():
    for group in _groups().values():
        assert {"id", "type", "brief", "attributes"} <= group.keys()
        assert group["type"] in {"span", "attribute_group"}
        if group["type"] == "span":
            assert {"span_kind", "stability"} <= group.keys()
        for attribute in group["attributes"]:
            assert attribute.get("ref", attribute.get("id")) in _attributes()
    for attribute in _attributes().values():
        assert attribute["type"] in TYPES
        assert {"brief", "stability"} <= attribute.keys()
        assert attribute["type"] != "string" or attribute["examples"]


def test_emitted_span_is_as_declared():
    declared = _groups()[f"span.{SPAN_NAME}"]["attributes"]
    spans = TracerProvider(resource=Resource(OWN_RESOURCE), shutdown_on_exit=False)
    span = spans.get_tracer("test").start_span(SPAN_NAME, attributes=report().span_attributes())
    assert {attribute["ref"] for attribute in declared if attribute["requirement_level"] == "required"} == set(span.attributes)
    for name, value in span.attributes.items():
        assert type(value) is TYPES[_attributes()[name]["type"]], name


def test_own_mark_is_declared():
    assert type(OWN_RESOURCE["dslmodel.own"]) is TYPES[_attributes()["dslmodel.own"]["type"]]
