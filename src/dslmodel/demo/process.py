"""The life of a serving process of the demonstration system: it says where it listens and serves until it is asked to end."""

import asyncio
import signal
from typing import Protocol

from dslmodel.demo import leash
from dslmodel.demo.wire import Request, Response, serve


class App(Protocol):
    """What a process does."""

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


async def live(app: App) -> None:
    """Serve on a free port, tell the parent which one, and return when this process is asked to end."""
    leash.hold()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server, port = await serve(app.handle)
    leash.announce({"port": port})
    await ended.wait()
    server.close()
    app.close()
