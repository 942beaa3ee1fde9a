"""Calls an ASGI application without a network."""

import asyncio

import httpx


class Caller:
    """A client of one application; `on_loop` gets the event loop before each call."""

    def __init__(self, app, on_loop=None):
        self._app = app
        self._on_loop = on_loop

    def get(self, path, headers=None):
        return self._call("GET", path, headers)

    def post(self, path, headers=None, **body):
        return self._call("POST", path, headers, **body)

    def _call(self, method, path, headers, **body):
        async def run():
            if self._on_loop:
                self._on_loop(asyncio.get_running_loop())
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8020") as client:
                return await client.request(method, path, headers=headers, **body)

        return asyncio.run(run())
