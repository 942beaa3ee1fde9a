"""Our own numbers, as Prometheus reads them."""

import math

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from dslmodel.api.metrics import Meters, Metrics
from dslmodel.clock import SECOND
from dslmodel.engine.runner import RunnerStats
from dslmodel.ingest.buffer import BufferStats
from tests.unit.api.samples import NOW, finding, report, snapshot

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def metrics(current):
    return Metrics(
        Meters(
            snapshot=lambda: current,
            runner=lambda: RunnerStats(ticks=5, inputs=9, pipeline_errors=1),
            buffer=lambda: BufferStats(items=3, bytes=900, accepted={"traces": 7}, dropped={"traces": 4}),
            received=lambda: [("otlp_grpc", "traces", "items", 70), ("otlp_http", "traces", "too_large", 2)],
            forwarded=lambda: {"sent": 6},
            version="1.2.3",
        )
    )


def samples(made, parse=prometheus, accept=""):
    text = made.exposition(accept)[0].decode()
    return {(s.name, *sorted(s.labels.items())): s for family in parse(text) for s in family.samples}


def test_unknown_health_is_nan():
    assert math.isnan(samples(metrics(None))["dslmodel_health_score",].value)
    assert math.isnan(samples(metrics(snapshot(score=None)))["dslmodel_health_score",].value)


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("dslmodel_health_score", {}, 0.72),
        ("dslmodel_spans_total", {"result": "accepted"}, 48_746),
        ("dslmodel_spans_total", {"result": "late"}, 6),
        ("dslmodel_dropped_total", {"signal": "traces", "reason": "queue_full"}, 4),
        ("dslmodel_dropped_total", {"signal": "traces", "reason": "too_large"}, 2),
        ("dslmodel_received_total", {"transport": "otlp_grpc", "signal": "traces", "result": "items"}, 70),
        ("dslmodel_findings_open", {"pattern": "error_spike", "service": "payments"}, 1),
        ("dslmodel_queue_items", {}, 3),
        ("dslmodel_queue_bytes", {}, 900),
        ("dslmodel_errors_total", {"where": "pipeline"}, 1),
        ("dslmodel_forwarded_total", {"outcome": "sent"}, 6),
        ("dslmodel_service_error_ratio", {"service": "payments"}, 0.41),
        ("dslmodel_telemetry_health", {"state": "good"}, 1),
        ("dslmodel_agents", {"state": "pending"}, 5),
        ("dslmodel_last_tick_timestamp_seconds", {}, NOW / SECOND),
        ("dslmodel_build_info", {"version": "1.2.3", "engine": "reference"}, 1),
    ],
)
@pytest.mark.parametrize(("parse", "accept"), [(prometheus, "text/plain"), (openmetrics, OPENMETRICS)])
def test_what_is_known_is_exposed_in_both_formats(name, labels, value, parse, accept):
    assert samples(metrics(snapshot()), parse, accept)[name, *sorted(labels.items())].value == value


def test_ticks_and_delays_are_histograms_with_trace_ids_as_exemplars():
    made = metrics(snapshot())
    made.observe(report(findings=[finding()]))
    found = samples(made, openmetrics, OPENMETRICS)
    assert found["dslmodel_tick_duration_seconds_count",].value == 1
    assert found["dslmodel_finding_delay_seconds_sum", ("pattern", "error_spike")].value == 2
    exemplars = [s.exemplar for s in found.values() if s.exemplar]
    assert [exemplar.labels["trace_id"] for exemplar in exemplars] == ["0af7651916cd43dd8448eb211c80319c"]


def test_a_finding_that_only_changed_is_not_counted_again():
    made = metrics(snapshot())
    made.observe(report(NOW + 5 * SECOND, findings=[finding()]))
    made.observe(report(NOW, findings=[finding(resolved_at=NOW)]))
    assert ("dslmodel_finding_delay_seconds_count", ("pattern", "error_spike")) not in samples(made)


def test_two_registries_do_not_mix():
    metrics(None)
    metrics(None)
