"""One instance of a service: `python -m dslmodel.demo.service NAME INSTANCE PROXY_PORT OTLP_ADDRESS`.

Every request gives a server span, every call a client span, the context travels as W3C traceparent. `PUT /_fault` breaks it.
"""

import asyncio
import json
import math
import random
import sys
from dataclasses import asdict, dataclass

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from dslmodel.demo.process import live
from dslmodel.demo.topology import BACKGROUND_ERROR_RATIO, SERVICES, Call, Endpoint, Service
from dslmodel.demo.tracing import provider
from dslmodel.demo.wire import Client, Request, Response, WireError, answer

FAULT_PATH = "/_fault"
_CALL_TIMEOUT_SECONDS = 2.0
_WORK_SIGMA = 0.25
_LATENCY_LIMIT_MS = 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong with this instance on purpose."""

    error_ratio: float = 0.0
    latency_ms: float = 0.0  # added to the work of each request while it holds a worker, so that a slow service also queues

    def __post_init__(self) -> None:
        if not 0.0 <= self.error_ratio <= 1.0:
            raise ValueError(f"error_ratio is {self.error_ratio}, it must be from 0 to 1")
        if not 0.0 <= self.latency_ms <= _LATENCY_LIMIT_MS:
            raise ValueError(f"latency_ms is {self.latency_ms}, it must be from 0 to {_LATENCY_LIMIT_MS:.0f}")


class Instance:
    """Answers the requests of one service."""

    def __init__(self, service: Service, spans: TracerProvider, proxy_port: int, seed: str) -> None:
        self._service = service
        self._tracer = spans.get_tracer("dslmodel.demo")
        self._context = TraceContextTextMapPropagator()
        self._proxy_port = proxy_port
        self._client = Client(_CALL_TIMEOUT_SECONDS)
        self._workers = asyncio.Semaphore(service.workers)
        self._random = random.Random(seed)
        self._fault = Fault()

    async def handle(self, request: Request) -> Response:
        """Answer one request: the control endpoint's, or a user's."""
        if request.path == FAULT_PATH:
            return self._control(request)
        endpoint = next((e for e in self._service.endpoints if e.matches(request.method, request.path)), None)
        with self._tracer.start_as_current_span(
            f"{request.method} {endpoint.route}" if endpoint else request.method,
            context=self._context.extract(request.headers),
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": request.method,
                "url.scheme": "http",
                "url.path": request.path,
                "server.address": self._service.name,
                **({"http.route": endpoint.route} if endpoint else {}),
            },
        ) as span:
            status = await self._serve(endpoint) if endpoint else 404
            _conclude(span, status, is_error=status >= 500)
        return answer(status, {"service": self._service.name, "status": status})

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def _control(self, request: Request) -> Response:
        if request.method == "PUT":
            try:
                self._fault = Fault(**json.loads(request.body))
            except (TypeError, ValueError) as error:
                return answer(400, {"error": str(error)})
        return answer(200, asdict(self._fault))

    async def _serve(self, endpoint: Endpoint) -> int:
        """Do the work, then make the calls; the status to answer with."""
        async with self._workers:
            work_ms = self._random.lognormvariate(math.log(self._service.work_ms), _WORK_SIGMA)
            await asyncio.sleep((work_ms + self._fault.latency_ms) / 1000.0)
        if self._random.random() < max(self._fault.error_ratio, BACKGROUND_ERROR_RATIO):
            return 500
        for call in endpoint.calls:
            status = await self._call(call)
            if status >= 400 and not call.is_optional:
                return 502
        return 200

    async def _call(self, call: Call) -> int:
        with self._tracer.start_as_current_span(
            call.method,
            kind=SpanKind.CLIENT,
            attributes={
                "http.request.method": call.method,
                "server.address": call.service,
                "url.full": f"http://{call.service}{call.path}",
            },
        ) as span:
            headers = {"host": call.service}
            self._context.inject(headers)
            try:
                response = await self._client.send(self._proxy_port, Request(method=call.method, path=call.path, headers=headers))
            except WireError as error:
                span.set_status(Status(StatusCode.ERROR, str(error)))
                span.set_attribute("error.type", "timeout")
                return 504
            _conclude(span, response.status, is_error=response.status >= 400)
            return response.status


def _conclude(span: Span, status: int, *, is_error: bool) -> None:
    span.set_attribute("http.response.status_code", status)
    if is_error:
        span.set_status(Status(StatusCode.ERROR))
        span.set_attribute("error.type", str(status))


def main(name: str, instance: str, proxy_port: str, otlp: str) -> None:
    """Run one instance until it is told to end."""
    spans = provider(otlp, {"service.name": name, "service.instance.id": instance, "service.version": "1.0.0"})
    try:
        asyncio.run(live(Instance(SERVICES[name], spans, int(proxy_port), seed=instance)))
    finally:
        spans.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
