import asyncio
import contextlib

import pytest

from dslmodel.demo.wire import Client, Request, Response, WireError, answer, serve
from tests.unit.demo.listening import listening


async def _send(port: int, request: Request, timeout_seconds: float = 1.0) -> Response:
    client = Client(timeout_seconds)
    try:
        return await client.send(port, request)
    finally:
        client.close()


async def _echo(request: Request) -> Response:
    return answer(200, {"method": request.method, "path": request.path, "host": request.headers.get("host"), "body": request.body.decode()})


def test_request_and_answer_cross_the_wire_whole():
    async def scenario():
        server, port = await serve(_echo)
        async with listening(server):
            return await _send(port, Request(method="PUT", path="/a?b=1", headers={"host": "cart"}, body=b"x" * 5000))

    response = asyncio.run(scenario())
    assert response.status == 200
    assert b'"path": "/a?b=1"' in response.body
    assert b"x" * 5000 in response.body


def test_connection_is_used_again():
    async def scenario():
        opened = 0

        async def count(request: Request) -> Response:
            return Response(status=200)

        server, port = await serve(count)
        original = asyncio.open_connection
        client = Client(1.0)

        async def counting(*arguments, **options):
            nonlocal opened
            opened += 1
            return await original(*arguments, **options)

        asyncio.open_connection = counting
        try:
            async with listening(server):
                for _ in range(5):
                    await client.send(port, Request(method="GET", path="/"))
        finally:
            asyncio.open_connection = original
            client.close()
        return opened

    assert asyncio.run(scenario()) == 1


def test_nobody_listening_is_a_wire_error():
    async def scenario():
        server, port = await serve(_echo)
        server.close()
        await server.wait_closed()
        await _send(port, Request(method="GET", path="/"))

    with pytest.raises(WireError, match="GET / on port"):
        asyncio.run(scenario())


def test_no_answer_in_time_is_a_wire_error():
    async def silent(request: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def scenario():
        server, port = await serve(silent)
        async with listening(server):
            await _send(port, Request(method="GET", path="/"), 0.05)

    with pytest.raises(WireError, match="TimeoutError"):
        asyncio.run(scenario())


@pytest.mark.parametrize(
    "rubbish", [b"\r\n\r\n", b"hello\r\n\r\n", b"GET / HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n", b"\xff" * 100_000]
)
def test_rubbish_ends_the_connection_and_not_the_server(rubbish):
    async def scenario():
        server, port = await serve(_echo)
        async with listening(server):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(rubbish)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
            return await _send(port, Request(method="GET", path="/"))

    assert asyncio.run(scenario()).status == 200
