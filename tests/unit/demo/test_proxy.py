import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import closing

import pytest

from dslmodel.demo.proxy import Proxy
from dslmodel.demo.wire import Request, Response, answer, serve
from tests.unit.demo.listening import listening


def _named(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        return answer(200, {"name": name, "traceparent": request.headers.get("traceparent")})

    return handle


def _set(ports: list[int], *, is_broken: bool = False) -> Request:
    return Request(method="PUT", path="/_proxy/cart", body=json.dumps({"ports": ports, "is_broken": is_broken}).encode())


GET = Request(method="GET", path="/cart", headers={"host": "cart", "traceparent": "00-x"})


async def _closed_port() -> int:
    server, port = await serve(_named("gone"))
    server.close()
    await server.wait_closed()
    return port


def test_instances_are_taken_in_turn_and_headers_pass():
    async def scenario():
        (first, a), (second, b) = await serve(_named("a")), await serve(_named("b"))
        async with first, second:
            with closing(Proxy()) as proxy:
                await proxy.handle(_set([a, b]))
                return [json.loads((await proxy.handle(GET)).body) for _ in range(4)]

    answers = asyncio.run(scenario())
    assert [document["name"] for document in answers] == ["a", "b", "a", "b"]
    assert {document["traceparent"] for document in answers} == {"00-x"}


def test_dead_instance_is_passed_over_for_reads():
    async def scenario():
        server, port = await serve(_named("a"))
        async with listening(server):
            with closing(Proxy()) as proxy:
                await proxy.handle(_set([await _closed_port(), port]))
                return [(await proxy.handle(GET)).status for _ in range(4)]

    assert asyncio.run(scenario()) == [200] * 4


def test_write_is_not_repeated_on_another_instance():
    async def scenario():
        server, port = await serve(_named("a"))
        async with listening(server):
            with closing(Proxy()) as proxy:
                await proxy.handle(_set([await _closed_port(), port]))
                return (await proxy.handle(Request(method="POST", path="/", headers={"host": "cart"}))).status

    assert asyncio.run(scenario()) == 502


def test_no_living_instance_is_a_bad_gateway():
    async def scenario():
        proxy = Proxy()
        await proxy.handle(_set([await _closed_port()]))
        return await proxy.handle(GET)

    assert asyncio.run(scenario()).status == 502


def test_broken_circuit_answers_at_once_and_closes_again():
    async def scenario():
        server, port = await serve(_named("a"))
        async with listening(server):
            with closing(Proxy()) as proxy:
                await proxy.handle(_set([port], is_broken=True))
                broken = await proxy.handle(GET)
                await proxy.handle(_set([port]))
                return broken, await proxy.handle(GET)

    broken, mended = asyncio.run(scenario())
    assert (broken.status, mended.status) == (503, 200)


def test_unknown_host_is_not_found():
    assert asyncio.run(Proxy().handle(GET)).status == 404


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"ports": 3}', b'{"ports": ["x"]}'])
def test_bad_control_request_says_what_is_expected(body):
    response = asyncio.run(Proxy().handle(Request(method="PUT", path="/_proxy/cart", body=body)))
    assert response.status == 400
    assert "ports" in json.loads(response.body)["error"]
