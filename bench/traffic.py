"""Export requests as a Collector in front of a small shop sends them: whole traces by service, about 15 attributes a span, from a seed.

Requests are stamped from prototypes, so that making them costs little beside what is measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from dslmodel.clock import SECOND
from dslmodel.records import Kind

START = 1_767_225_600 * SECOND
SPANS_PER_SECOND = 10_000  # of virtual time
_MS = 1_000_000
_ROUTES = 20  # operations of each service
_ERROR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One span of a trace: where it happens, under which step, and when (milliseconds from the start of the trace)."""

    service: str
    kind: Kind
    parent: int | None
    begin: float
    end: float
    peer: str = ""


# One request: the gateway asks cart (redis), catalogue (postgres) and checkout, which asks payment.
TRACE: Sequence[Step] = (
    Step(service="gateway", kind=Kind.SERVER, parent=None, begin=0, end=60),
    Step(service="gateway", kind=Kind.CLIENT, parent=0, begin=1, end=12, peer="cart"),
    Step(service="cart", kind=Kind.SERVER, parent=1, begin=2, end=11),
    Step(service="cart", kind=Kind.INTERNAL, parent=2, begin=3, end=5),
    Step(service="cart", kind=Kind.CLIENT, parent=2, begin=5, end=8, peer="redis"),
    Step(service="gateway", kind=Kind.CLIENT, parent=0, begin=13, end=30, peer="catalogue"),
    Step(service="catalogue", kind=Kind.SERVER, parent=5, begin=14, end=29),
    Step(service="catalogue", kind=Kind.CLIENT, parent=6, begin=16, end=27, peer="postgresql"),
    Step(service="gateway", kind=Kind.CLIENT, parent=0, begin=31, end=58, peer="checkout"),
    Step(service="checkout", kind=Kind.SERVER, parent=8, begin=32, end=57),
    Step(service="checkout", kind=Kind.INTERNAL, parent=9, begin=33, end=38),
    Step(service="checkout", kind=Kind.CLIENT, parent=9, begin=39, end=56, peer="payment"),
    Step(service="payment", kind=Kind.SERVER, parent=11, begin=40, end=55),
)
SERVICES = tuple(dict.fromkeys(step.service for step in TRACE))


class Traffic:
    """Makes export requests, one after the other. The same seed gives the same bytes."""

    def __init__(self, seed: int = 1, *, routes: int = _ROUTES, failing: str = "") -> None:
        """`routes` is the number of operations of a service; every request to the service `failing` is an error."""
        self._random = Random(seed)
        self._routes = routes
        self._failing = failing
        self._prototypes = [[_prototype(step, route) for step in TRACE] for route in range(routes)]

    def body(self, spans: int, at: int) -> bytes:
        """A request of `spans` spans, the traces of which end by `at` (nanoseconds since the epoch)."""
        rng = self._random
        request = ExportTraceServiceRequest()
        scopes = {}
        for service in SERVICES:
            resource = request.resource_spans.add()
            resource.resource.attributes.extend(_resource(service))
            scopes[service] = resource.scope_spans.add().spans
        left = spans
        while left > 0:
            steps = TRACE[:left]
            left -= len(steps)
            prototypes = self._prototypes[rng.randrange(self._routes)]
            trace_id = rng.randbytes(16)
            ids = [rng.randbytes(8) for _ in steps]
            began = at - rng.randrange(80 * _MS, 900 * _MS)
            pace = rng.lognormvariate(0.0, 0.2)
            for step, prototype, span_id in zip(steps, prototypes, ids, strict=False):
                span = scopes[step.service].add()
                span.CopyFrom(prototype)
                span.trace_id, span.span_id = trace_id, span_id
                if step.parent is not None:
                    span.parent_span_id = ids[step.parent]
                span.start_time_unix_nano = began + int(step.begin * pace * _MS)
                span.end_time_unix_nano = min(at, began + int(step.end * pace * _MS))
                if step.service == self._failing and step.kind is Kind.SERVER:
                    span.status.code = _ERROR  # type: ignore[assignment]
        return request.SerializeToString()


def virtual_time(index: int, spans: int) -> int:
    """When the request number `index`, each of `spans` spans, is received in virtual time."""
    return START + (index + 1) * spans * SECOND // SPANS_PER_SECOND


def attributes(values: Mapping[str, str | int]) -> list[KeyValue]:
    """OTLP attributes."""
    return [
        KeyValue(key=key, value=AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value))
        for key, value in values.items()
    ]


def _resource(service: str) -> list[KeyValue]:
    return attributes(
        {
            "service.name": service,
            "service.version": "1.4.2",
            "service.instance.id": f"{service}-7d9f8-x2x4b",
            "telemetry.sdk.language": "python",
            "telemetry.sdk.name": "opentelemetry",
            "telemetry.sdk.version": "1.45.0",
            "host.name": "node-3",
            "k8s.pod.name": f"{service}-7d9f8-x2x4b",
        }
    )


def _prototype(step: Step, route: int) -> Any:
    path = f"/api/v1/{step.peer or step.service}/resource{chr(97 + route % 26)}{route // 26 or ''}"
    if step.kind is Kind.INTERNAL:
        name, values = f"work {chr(97 + route % 26)}", _internal(step, route)
    elif step.peer in {"redis", "postgresql"}:
        name, values = f"SELECT {step.peer}", _database(step, route)
    elif step.kind is Kind.CLIENT:
        name, values = "GET", _client(step, path)
    else:
        name, values = f"GET {path}/{{id}}", _server(step, path)
    return Span(name=name, kind=int(step.kind), attributes=attributes(values | _COMMON), flags=257)  # type: ignore[arg-type]


_COMMON = {"thread.id": 140_190_114, "thread.name": "worker-7", "enduser.id": "u-48213", "deployment.environment.name": "production"}


def _server(step: Step, path: str) -> dict[str, str | int]:
    return {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": f"{path}/48213",
        "http.route": f"{path}/{{id}}",
        "server.address": step.service,
        "server.port": 8080,
        "client.address": "10.1.7.23",
        "client.port": 51822,
        "network.protocol.version": "1.1",
        "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0",
        "http.response.status_code": 200,
    }


def _client(step: Step, path: str) -> dict[str, str | int]:
    return {
        "http.request.method": "GET",
        "url.full": f"http://{step.peer}:8080{path}/48213?page=2",
        "server.address": step.peer,
        "server.port": 8080,
        "network.peer.address": "10.1.9.4",
        "network.peer.port": 8080,
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "http.request.resend_count": 0,
        "http.response.body.size": 4812,
        "http.response.status_code": 200,
    }


def _database(step: Step, route: int) -> dict[str, str | int]:
    return {
        "db.system.name": step.peer,
        "db.namespace": "shop",
        "db.collection.name": f"table_{route}",
        "db.operation.name": "SELECT",
        "db.query.text": f"SELECT id, name, price, stock FROM table_{route} WHERE tenant = $1 AND id = $2 ORDER BY id LIMIT 50",
        "db.response.returned_rows": 12,
        "server.address": f"{step.peer}.internal",
        "server.port": 5432,
        "network.peer.address": "10.1.9.77",
        "network.peer.port": 5432,
        "db.client.connection.pool.name": "main",
    }


def _internal(step: Step, route: int) -> dict[str, str | int]:
    return {
        "code.function.name": f"{step.service}.work_{route}",
        "code.file.path": f"/app/{step.service}/work.py",
        "code.line.number": 42 + route,
        "app.tenant": "acme",
        "app.plan": "enterprise",
        "app.items": 3,
        "app.cached": "false",
        "app.currency": "EUR",
        "app.region": "eu-central-1",
        "app.feature.flags": "new-cart,fast-search",
        "app.batch.size": 16,
    }
