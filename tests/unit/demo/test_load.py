import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dslmodel.demo import load as load_module
from dslmodel.demo.load import CONTROL_PATH, Load
from dslmodel.demo.topology import Journey
from dslmodel.demo.wire import Request, Response, serve
from tests.unit.demo.listening import listening


async def _run_for(load: Load, seconds: float) -> None:
    users = asyncio.create_task(load.run())
    await asyncio.sleep(seconds)
    users.cancel()
    await asyncio.gather(users, return_exceptions=True)


@asynccontextmanager
async def _closed(load: Load) -> AsyncIterator[None]:
    yield
    under_way = list(load._under_way)
    load.close()
    await asyncio.gather(*under_way, return_exceptions=True)
    await asyncio.sleep(0.01)


def _stop(*journeys: str) -> Request:
    return Request(method="PUT", path=CONTROL_PATH, body=json.dumps({"stopped": list(journeys)}).encode())


@pytest.fixture
def busy(monkeypatch):
    monkeypatch.setattr(
        load_module,
        "JOURNEYS",
        {name: Journey(name=name, service="s", method="GET", path="/{id}", per_second=400.0) for name in ("browse", "track")},
    )


def test_users_do_not_wait_for_answers_and_are_shed_beyond_the_limit(busy, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(load_module, "_IN_FLIGHT_LIMIT", 20)

    async def never(request: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def scenario():
        server, port = await serve(never)
        load = Load(port, tmp_path)
        async with listening(server), _closed(load):
            await _run_for(load, 0.2)
            return json.loads((await load.handle(Request(method="GET", path=CONTROL_PATH))).body)["counts"]

    counts = asyncio.run(scenario())
    assert counts["browse.sent"] + counts["track.sent"] <= 20
    assert counts["browse.shed"] + counts["track.shed"] > 20


def test_stopped_journey_sends_nothing_while_the_others_go_on(busy, tmp_path: Path):
    async def fine(request: Request) -> Response:
        return Response(status=200)

    async def scenario():
        server, port = await serve(fine)
        load = Load(port, tmp_path)
        async with listening(server), _closed(load):
            assert (await load.handle(_stop("track"))).status == 200
            await _run_for(load, 0.2)
            return json.loads((await load.handle(Request(method="GET", path=CONTROL_PATH))).body)

    answer = asyncio.run(scenario())
    assert answer["stopped"] == ["track"]
    assert "track.sent" not in answer["counts"]
    assert answer["counts"]["browse.ok"] > 10


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"stopped": 3}', b'{"stopped": ["nobody"]}'])
def test_bad_control_request_is_refused(body, tmp_path: Path):
    response = asyncio.run(Load(1, tmp_path).handle(Request(method="PUT", path=CONTROL_PATH, body=body)))
    assert response.status == 400
