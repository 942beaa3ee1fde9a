"""Our own telemetry goes out only when asked for, and never into our own ports."""

import pytest

from dslmodel.settings import own_telemetry

PORTS = (4317, 4318, 8020)
ALL = {"traces", "metrics", "logs"}
CASES = [
    ({}, set()),
    ({"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"}, set()),
    ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, set()),
    ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}, ALL),
    ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317", "OTEL_SDK_DISABLED": "true"}, set()),
    ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"}, set()),
    ({"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4317"}, set()),
    ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1]:4318"}, set()),
    ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://LOCALHOST:8020/x"}, set()),
    ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost"}, set()),
    ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://10.0.0.5:4317"}, set()),
    ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:5317"}, ALL),
    ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, {"traces"}),
    ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317", "OTEL_METRICS_EXPORTER": "none"}, {"traces", "logs"}),
    ({"OTEL_TRACES_EXPORTER": "otlp"}, set()),
    ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, set()),
    ({"OTEL_TRACES_EXPORTER": "console"}, {"traces"}),
    ({"OTEL_TRACES_EXPORTER": "console,otlp"}, set()),
    ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:port"}, ALL),
]


@pytest.mark.parametrize(("environ", "signals"), CASES)
def test_signals_that_are_exported(environ, signals):
    telemetry = own_telemetry(environ, own_ports=PORTS, own_hosts=("10.0.0.5",))
    assert telemetry.signals == signals
    assert telemetry.enabled is bool(signals)
    assert set(telemetry.reasons) == ALL - signals


def test_default_endpoint_is_used_when_its_port_is_not_ours():
    assert own_telemetry({"OTEL_TRACES_EXPORTER": "otlp"}, own_ports=(9000,)).signals == {"traces"}


def test_the_reason_says_whose_port_it_is():
    telemetry = own_telemetry({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"}, own_ports=PORTS)
    assert telemetry.reasons["traces"] == "localhost:4317 is our own port"
