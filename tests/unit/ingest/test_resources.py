"""Which metrics become which resource samples, and which log records are errors."""

from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from dslmodel.ingest.otlp_json import to_json
from dslmodel.ingest.resources import log_counts, resource_samples
from dslmodel.records import Encoding, LogCount, Payload, Signal
from dslmodel.testing import START, at, gauges, logs, payload, span

GIB = 1 << 30
Metric = tuple[str, float, dict[str, str]]


def metrics(*points: Metric, encoding: Encoding = Encoding.PROTOBUF, temporality: int = 0, **resource: str) -> Payload:
    """A payload of one resource; whole numbers are sums of int points, others gauges of doubles."""
    request: Any = ExportMetricsServiceRequest()
    block = request.resource_metrics.add()
    for name, text in (
        {"service.name": "shop", "service.instance.id": "1"} | {k.replace("_", "."): v for k, v in resource.items()}
    ).items():
        block.resource.attributes.append(KeyValue(key=name, value=AnyValue(string_value=text)))
    for name, value, attributes in points:
        metric = block.scope_metrics.add().metrics.add(name=name)
        pairs = [KeyValue(key=key, value=AnyValue(string_value=text)) for key, text in attributes.items()]
        if isinstance(value, int):
            metric.sum.aggregation_temporality = temporality or 2
            metric.sum.data_points.add(time_unix_nano=at(0), as_int=value, attributes=pairs)
        elif temporality:
            metric.sum.aggregation_temporality = temporality
            metric.sum.data_points.add(time_unix_nano=at(0), as_double=value, attributes=pairs)
        else:
            metric.gauge.data_points.add(time_unix_nano=at(0), as_double=value, attributes=pairs)
    message: Any = to_json(request, Signal.METRICS) if encoding is Encoding.JSON else request
    return Payload(signal=Signal.METRICS, encoding=encoding, body=b"", message=message, received_at=at(1), source="test")


def state(name: str) -> dict[str, str]:
    return {"state": name}


CASES: list[tuple[str, list[Metric], tuple[str, float | None, float | None]]] = [
    (
        "reported",
        [("system.memory.utilization", 0.9, state("used")), ("system.memory.utilization", 0.1, state("free"))],
        ("memory", 0.9, None),
    ),
    ("no state", [("system.memory.utilization", 0.4, {})], ("memory", 0.4, None)),
    ("semconv state", [("system.memory.utilization", 0.3, {"system.memory.state": "used"})], ("memory", 0.3, None)),
    (
        "hostmetrics usage",
        [("system.memory.usage", n * GIB, state(s)) for n, s in ((6, "used"), (1, "free"), (1, "cached"), (5, "slab_reclaimable"))],
        ("memory", 0.75, 6 * GIB),
    ),
    ("usage and limit", [("system.memory.usage", GIB, state("used")), ("system.memory.limit", 4 * GIB, {})], ("memory", 0.25, GIB)),
    ("usage alone", [("system.memory.usage", GIB, state("used"))], ("memory", None, GIB)),
    ("process", [("process.memory.usage", 5 * GIB, {}), ("process.memory.virtual", 90 * GIB, {})], ("memory", None, 5 * GIB)),
    ("docker", [("container.memory.usage.total", GIB, {}), ("container.memory.usage.limit", 2 * GIB, {})], ("memory", 0.5, GIB)),
    ("docker percent", [("container.memory.percent", 85.0, {})], ("memory", 0.85, None)),
    ("kubelet", [("container.memory.working_set", 3 * GIB, {}), ("container.memory.available", GIB, {})], ("memory", 0.75, 3 * GIB)),
    ("kubelet limit", [("k8s.container.memory_limit_utilization", 0.95, {}), ("container.memory.usage", GIB, {})], ("memory", 0.95, None)),
    ("over the limit", [("container.memory.usage.total", 3, {}), ("container.memory.usage.limit", 2, {})], ("memory", 1.0, 3)),
    (
        "cpu states",
        [
            ("system.cpu.utilization", v, {"cpu": c, "state": s})
            for c, s, v in (("0", "idle", 0.2), ("0", "user", 0.8), ("1", "idle", 0.6), ("1", "user", 0.3), ("1", "wait", 0.1))
        ],
        ("cpu", 0.55, None),
    ),
    ("cpu delta", [("system.cpu.time", 30, state("user")), ("system.cpu.time", 10, state("idle"))], ("cpu", 0.75, None)),
    (
        "process cpu",
        [
            ("process.cpu.utilization", 0.2, state("user")),
            ("process.cpu.utilization", 0.1, state("system")),
            ("process.cpu.utilization", 0.5, state("wait")),
        ],
        ("cpu", 0.3, None),
    ),
    ("docker cpu", [("container.cpu.utilization", 150.0, {}), ("container.cpu.logical.count", 2.0, {})], ("cpu", 0.75, None)),
    ("cpu and limit", [("container.cpu.usage", 0.5, {}), ("container.cpu.limit", 2.0, {})], ("cpu", 0.25, None)),
    ("cpu limit ratio", [("k8s.container.cpu_limit_utilization", 0.7, {})], ("cpu", 0.7, None)),
    (
        "fullest disk",
        [
            ("system.filesystem.utilization", v, {"device": d, "type": t, "mode": m})
            for d, t, m, v in (("a", "ext4", "rw", 0.4), ("b", "xfs", "rw", 0.8), ("c", "squashfs", "ro", 1.0), ("d", "ext4", "ro", 1.0))
        ],
        ("disk", 0.8, None),
    ),
    (
        "disk usage",
        [("system.filesystem.usage", n, {"device": "a", "state": s}) for n, s in ((30, "used"), (10, "free"), (60, "reserved"))],
        ("disk", 0.75, None),
    ),
    ("volume", [("k8s.volume.capacity", 100, {}), ("k8s.volume.available", 10, {})], ("disk", 0.9, None)),
]


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize(("points", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_metrics_become_samples(points: list[Metric], expected: tuple[str, float | None, float | None], encoding: Encoding) -> None:
    temporality = 1 if points[0][0] == "system.cpu.time" else 0
    [sample] = resource_samples(metrics(*points, encoding=encoding, temporality=temporality))
    assert (sample.resource, sample.value) == (expected[0], expected[2])
    assert sample.ratio == pytest.approx(expected[1])
    assert (sample.service, sample.instance, sample.at) == ("shop", "1", at(0))


@pytest.mark.parametrize(
    "points",
    [
        [("http.server.request.duration", 1.0, {})],
        [("system.cpu.time", 30, state("user"))],
        [("container.cpu.utilization", 150.0, {})],
        [("container.cpu.usage", 0.5, {})],
        [("system.memory.utilization", float("nan"), {})],
        [("system.memory.utilization", -0.5, {})],
        [("system.filesystem.utilization", 1.0, {"type": "squashfs"})],
        [("k8s.volume.available", 5, {})],
    ],
)
@pytest.mark.parametrize("encoding", list(Encoding))
def test_what_says_nothing_about_a_limit_gives_no_sample(points: list[Metric], encoding: Encoding) -> None:
    assert resource_samples(metrics(*points, encoding=encoding)) == []


def test_a_machine_without_a_service_goes_by_its_host() -> None:
    request = metrics(("system.memory.utilization", 0.5, {}), service_name="", service_instance_id="", host_name="node-7")
    [sample] = resource_samples(request)
    assert (sample.service, sample.instance) == ("node-7", "node-7")


def test_the_newest_of_several_points_counts() -> None:
    request = metrics(("container.memory.percent", 10.0, {}))
    points = request.message.resource_metrics[0].scope_metrics[0].metrics[0].gauge.data_points
    points.add(time_unix_nano=at(9), as_double=90.0)
    [sample] = resource_samples(request)
    assert (sample.at, sample.ratio) == (at(9), 0.9)


def test_a_payload_that_was_not_decoded_is_decoded_here() -> None:
    for encoding in Encoding:
        sent = gauges({"system.memory.utilization": 0.5}, at(0), encoding=encoding)
        bare = Payload(signal=sent.signal, encoding=encoding, body=sent.body, message=None, received_at=0, source="test")
        assert len(resource_samples(bare)) == 1


@pytest.mark.parametrize(
    "document",
    [
        {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "system.memory.utilization", "gauge": {"dataPoints": [point]}}]}]}]}
        for point in ({"asDouble": "x"}, {"asDouble": []}, {"asInt": True}, {"timeUnixNano": {}, "asDouble": None}, {"attributes": 5})
    ],
)
def test_json_points_of_wrong_types_read_as_absent(document: Any) -> None:
    item = Payload(signal=Signal.METRICS, encoding=Encoding.JSON, body=b"", message=document, received_at=0, source="test")
    assert resource_samples(item) == []


# ---------------------------------------------------------------- logs


@pytest.mark.parametrize("encoding", list(Encoding))
def test_logs_are_counted_by_service_and_second(encoding: Encoding) -> None:
    second = START // 1_000_000_000
    assert log_counts(logs([1, 9, 16, 17, 21, 24], at(0.5), service="shop", encoding=encoding)) == [
        LogCount(service="shop", second=second, records=6, errors=3)
    ]


@pytest.mark.parametrize(
    ("text", "errors"), [("ERROR", 1), ("error", 1), ("Fatal", 1), ("CRITICAL", 1), ("SEVERE", 1), ("WARN", 0), ("", 0), ("info", 0)]
)
@pytest.mark.parametrize("encoding", list(Encoding))
def test_text_decides_when_there_is_no_number(text: str, errors: int, encoding: Encoding) -> None:
    request: Any = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add(severity_text=text, observed_time_unix_nano=at(3))
    message = to_json(request, Signal.LOGS) if encoding is Encoding.JSON else request
    item = Payload(signal=Signal.LOGS, encoding=encoding, body=b"", message=message, received_at=at(9), source="test")
    [count] = log_counts(item)
    assert (count.service, count.second, count.errors) == ("unknown_service", at(3) // 1_000_000_000, errors)


def test_records_without_any_time_count_when_they_were_received() -> None:
    [count] = log_counts(logs([17], 0))
    assert count.second == 0
    item = logs([17], 0)
    late = Payload(signal=item.signal, encoding=item.encoding, body=item.body, message=item.message, received_at=at(7), source="test")
    assert log_counts(late)[0].second == at(7) // 1_000_000_000


def test_other_signals_give_nothing() -> None:
    traces = payload([span("a", at(0), 1)])
    assert (resource_samples(traces), log_counts(traces)) == ([], [])
    assert log_counts(gauges({"a": 1.0}, at(0))) == []
