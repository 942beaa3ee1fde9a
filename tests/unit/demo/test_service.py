import asyncio
import json
from contextlib import closing

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from dslmodel.demo.service import FAULT_PATH, Instance
from dslmodel.demo.topology import Call, Endpoint, Service
from dslmodel.demo.wire import Request, Response, serve
from tests.unit.demo.listening import listening

LEAF = Service(name="leaf", work_ms=0.1, endpoints=(Endpoint(method="GET", route="/things/{id}"),))


def _caller(*, is_optional: bool) -> Service:
    call = Call(service="leaf", method="GET", path="/things/1", is_optional=is_optional)
    return Service(name="caller", work_ms=0.1, endpoints=(Endpoint(method="GET", route="/", calls=(call,)),))


def _instance(service: Service, proxy_port: int = 1) -> tuple[Instance, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    spans = TracerProvider(resource=Resource({"service.name": service.name}), shutdown_on_exit=False)
    spans.add_span_processor(SimpleSpanProcessor(exporter))
    return Instance(service, spans, proxy_port, seed="seed"), exporter


def _put(document: object) -> Request:
    return Request(method="PUT", path=FAULT_PATH, body=json.dumps(document).encode())


def test_request_gives_a_server_span_named_by_its_route():
    instance, exporter = _instance(LEAF)
    response = asyncio.run(instance.handle(Request(method="GET", path="/things/17")))
    (span,) = exporter.get_finished_spans()
    assert response.status == 200
    assert (span.name, span.kind, span.status.status_code) == ("GET /things/{id}", SpanKind.SERVER, StatusCode.UNSET)
    assert span.attributes["http.route"] == "/things/{id}"
    assert span.attributes["http.response.status_code"] == 200


def test_unknown_path_is_no_error_of_the_service():
    instance, exporter = _instance(LEAF)
    assert asyncio.run(instance.handle(Request(method="GET", path="/nowhere"))).status == 404
    assert exporter.get_finished_spans()[0].status.status_code == StatusCode.UNSET


def test_callee_continues_the_callers_trace():
    received: list[Request] = []

    async def leaf(request: Request) -> Response:
        received.append(request)
        return Response(status=200)

    async def scenario():
        server, port = await serve(leaf)
        async with listening(server):
            instance, exporter = _instance(_caller(is_optional=False), port)
            with closing(instance):
                await instance.handle(Request(method="GET", path="/", headers={"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}))
            return exporter.get_finished_spans()

    client, server_span = asyncio.run(scenario())
    assert server_span.parent.span_id == int("cd" * 8, 16)
    assert client.parent.span_id == server_span.context.span_id
    assert client.kind == SpanKind.CLIENT
    assert client.attributes["server.address"] == "leaf"
    assert received[0].headers["traceparent"] == f"00-{'ab' * 16}-{client.context.span_id:016x}-01"
    assert received[0].headers["host"] == "leaf"


@pytest.mark.parametrize(("is_optional", "status"), [(True, 200), (False, 502)])
def test_failed_call_fails_the_page_unless_it_is_optional(is_optional, status):
    async def broken(request: Request) -> Response:
        return Response(status=503)

    async def scenario():
        server, port = await serve(broken)
        async with listening(server):
            instance, exporter = _instance(_caller(is_optional=is_optional), port)
            with closing(instance):
                return await instance.handle(Request(method="GET", path="/")), exporter.get_finished_spans()

    response, (client, _) = asyncio.run(scenario())
    assert response.status == status
    assert client.status.status_code == StatusCode.ERROR


def test_error_ratio_makes_requests_fail_until_it_is_taken_back():
    instance, exporter = _instance(LEAF)

    async def scenario():
        await instance.handle(_put({"error_ratio": 1.0}))
        broken = await instance.handle(Request(method="GET", path="/things/1"))
        await instance.handle(_put({}))
        return broken, await instance.handle(Request(method="GET", path="/things/1"))

    broken, mended = asyncio.run(scenario())
    assert (broken.status, mended.status) == (500, 200)
    assert exporter.get_finished_spans()[0].status.status_code == StatusCode.ERROR
    assert exporter.get_finished_spans()[0].attributes["error.type"] == "500"


def test_latency_is_added_to_the_work():
    instance, exporter = _instance(LEAF)

    async def scenario():
        await instance.handle(_put({"latency_ms": 50.0}))
        await instance.handle(Request(method="GET", path="/things/1"))

    asyncio.run(scenario())
    (span,) = exporter.get_finished_spans()
    assert span.end_time - span.start_time >= 50_000_000


@pytest.mark.parametrize("document", [{"error_ratio": 1.5}, {"latency_ms": -1}, {"unknown": 1}, {"error_ratio": "much"}, [], 7])
def test_bad_fault_is_refused_and_changes_nothing(document):
    instance, _ = _instance(LEAF)

    async def scenario():
        refused = await instance.handle(_put(document))
        return refused, await instance.handle(Request(method="GET", path=FAULT_PATH))

    refused, kept = asyncio.run(scenario())
    assert refused.status == 400
    assert json.loads(kept.body) == {"error_ratio": 0.0, "latency_ms": 0.0}
