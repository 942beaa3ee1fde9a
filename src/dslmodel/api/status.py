"""The API: liveness, metrics, status, findings, incidents, explanations, baselines, events, and the few calls that change something."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from dslmodel.api import queries
from dslmodel.api.events import MAX_READERS, Hub
from dslmodel.api.metrics import Metrics
from dslmodel.api.publisher import Publisher
from dslmodel.api.shapes import clean, finding_shape
from dslmodel.engine.runner import Runner
from dslmodel.records import Command, Input

_LIVE_SECONDS = 10.0
_COMMAND_SECONDS = 5.0
_COMMAND_BYTES = 512


class Intake(Protocol):
    """The buffer, as far as commands need it."""

    def put_input(self, make: Callable[[int], Input], size: int) -> bool:
        """Queue an input that is made with its stamp."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """What the API answers from."""

    runner: Runner
    records: queries.Records
    intake: Intake
    publisher: Publisher
    metrics: Metrics
    hub: Hub
    is_ready: Callable[[], bool]
    note: Callable[[str, dict[str, str | None], int], None]  # writes down who asked for what: (name, arguments, at)


class StatusApi:
    """Takes requests in the event loop; gives frozen snapshots and stored records; owns nothing.

    Commands enter the pipeline's queue like data, so that a recording repeats them; the answer comes after the tick that
    took them in.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def app(self) -> Starlette:
        """The ASGI application (without access rules; see `access.Guard`)."""
        return Starlette(
            routes=[
                Route("/livez", self.livez),
                Route("/readyz", self.readyz),
                Route("/metrics", self.metrics),
                Route("/api/v1/status", self.status),
                Route("/api/v1/findings", self.findings),
                Route("/api/v1/incidents", self.incidents),
                Route("/api/v1/explain/{id}", self.explain),
                Route("/api/v1/baseline", self.baseline),
                Route("/api/v1/baseline/reset", self.reset, methods=["POST"]),
                Route("/api/v1/findings/{id}/ack", self.acknowledge, methods=["POST"]),
                Route("/api/v1/findings/{id}/false-positive", self.false_positive, methods=["POST"]),
                Route("/api/v1/events", self.events),
            ],
            exception_handlers={404: _no_such_path, 405: _wrong_method, queries.NotFound: _not_found, ValueError: _bad_request},
        )

    # ------------------------------------------------------------ probes

    async def livez(self, _request: Request) -> Response:
        """200 while the loop ticks."""
        age = self._backend.publisher.status()["telemetry"]["age_seconds"]
        alive = self._backend.runner.is_alive and (age is None or age < _LIVE_SECONDS)
        return PlainTextResponse("ok\n" if alive else "the engine does not tick\n", status_code=200 if alive else 503)

    async def readyz(self, _request: Request) -> Response:
        """200 when receivers listen and the first tick is done."""
        ready = self._backend.is_ready()
        return PlainTextResponse("ok\n" if ready else "not ready\n", status_code=200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        """Prometheus or OpenMetrics text."""
        body, content_type = await asyncio.to_thread(self._backend.metrics.exposition, request.headers.get("accept", ""))
        return Response(body, media_type=content_type)

    # ------------------------------------------------------------ reads

    async def status(self, _request: Request) -> Response:
        """`data` of `dsl --json telemetry status`."""
        return _json(self._backend.publisher.status())

    async def findings(self, request: Request) -> Response:
        """Findings, newest last."""
        since, service, open_only = _filters(request)
        rows = await asyncio.to_thread(queries.list_findings, self._backend.records, since, service, open_only=open_only)
        return _json({"findings": rows})

    async def incidents(self, request: Request) -> Response:
        """Incidents, newest last."""
        since, service, open_only = _filters(request)
        rows = await asyncio.to_thread(queries.list_incidents, self._backend.records, since, service, open_only=open_only)
        return _json({"incidents": rows})

    async def explain(self, request: Request) -> Response:
        """Why a finding or an incident is there."""
        return _json(await asyncio.to_thread(queries.explain, self._backend.records, request.path_params["id"]))

    async def baseline(self, request: Request) -> Response:
        """What is taken as normal."""
        service = request.query_params.get("service")
        rows = await asyncio.wrap_future(self._backend.runner.ask(lambda pipeline: pipeline.describe_baselines(service)))
        return _json({"baselines": clean(rows)})

    async def events(self, _request: Request) -> Response:
        """What changes, as it changes."""
        if self._backend.hub.readers >= MAX_READERS:
            return _json({"error": f"{MAX_READERS} readers are connected, that is the limit"}, 503)
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._backend.hub.stream(), media_type="text/event-stream", headers=headers)

    # ------------------------------------------------------------ commands

    async def acknowledge(self, request: Request) -> Response:
        """Somebody has seen it."""
        return await self._on_finding("ack", request)

    async def false_positive(self, request: Request) -> Response:
        """It was nothing: the baseline learns."""
        return await self._on_finding("false_positive", request)

    async def reset(self, request: Request) -> Response:
        """Forget what was learnt, of one service or of all."""
        await _refuse_more_than(request, "service")  # a service that isn't read where it was put would cost all baselines
        service = request.query_params.get("service")
        refusal = await self._command("baseline_reset", {"service": service})
        return refusal or _json({"service": service, "reset": True})

    async def _on_finding(self, name: str, request: Request) -> Response:
        records = self._backend.records
        finding = await asyncio.to_thread(queries.finding_by, records, request.path_params["id"])
        refusal = await self._command(name, {"id": finding.id})
        return refusal or _json({"finding": finding_shape(await asyncio.to_thread(queries.finding_by, records, finding.id))})

    async def _command(self, name: str, arguments: dict[str, str | None]) -> Response | None:
        """Queue a command and wait until it is done; an answer only when that fails."""
        stamps: list[int] = []

        def make(received_at: int) -> Command:
            stamps.append(received_at)
            return Command(name=name, arguments=arguments, received_at=received_at)

        if not self._backend.intake.put_input(make, _COMMAND_BYTES):
            return _json({"error": "the queue is full; try again"}, 503)
        await asyncio.to_thread(self._backend.note, name, arguments, stamps[0])
        if not await self._backend.hub.wait_for_tick_after(stamps[0], _COMMAND_SECONDS):
            return _json({"error": f"queued, but the engine has not come to it within {_COMMAND_SECONDS:g} s"}, 504)
        return None


async def _refuse_more_than(request: Request, *names: str) -> None:
    """Raises ValueError for a body and for parameters of other names."""
    allowed = " and ".join(f"?{name}=" for name in names)
    unknown = sorted(set(request.query_params) - set(names))
    if unknown:
        raise ValueError(f"{unknown[0][:100]!r} is not a parameter of this call; it takes {allowed}")
    async for chunk in request.stream():
        if chunk:
            raise ValueError(f"this call takes no body; it takes {allowed}")


def _filters(request: Request) -> tuple[int | None, str | None, bool]:
    since = request.query_params.get("since")
    is_open = request.query_params.get("open", "").lower() in {"1", "true", "yes"}
    return queries.parse_since(since, time.time_ns()) if since else None, request.query_params.get("service"), is_open


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS), status_code=status, media_type="application/json")


async def _not_found(_request: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, 404)


async def _bad_request(_request: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, 400)


async def _no_such_path(request: Request, _error: Exception) -> Response:
    return _json({"error": f"no such path: {request.url.path[:200]}"}, 404)


async def _wrong_method(request: Request, error: Exception) -> Response:
    return Response(
        orjson.dumps({"error": f"{request.method} is not possible here"}),
        status_code=405,
        media_type="application/json",
        headers=dict(getattr(error, "headers", None) or {}),
    )
