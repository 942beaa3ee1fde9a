from pathlib import Path

import pytest

from dslmodel.demo.child import Child, clean
from dslmodel.errors import DslModelError


def test_what_would_lead_children_astray_is_not_inherited():
    environment = {
        "PATH": "/bin",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://elsewhere",
        "DSLMODEL_API_PORT": "1",
        "LOGURU_FORMAT": "x",
        "HTTP_PROXY": "http://proxy",
        "https_proxy": "http://proxy",
        "no_proxy": "*",
    }
    assert clean(environment) == {"PATH": "/bin", "no_proxy": "*"}


def test_child_that_ends_at_once_is_reported_with_its_log(tmp_path: Path):
    child = Child("broken", ["dslmodel.demo.nothing_here"], directory=tmp_path, environment={})
    with pytest.raises(DslModelError, match=r"broken was not ready .*nothing_here"):
        child.wait_ready(1.5)
    child.stop()
