"""The life of a serving process of the demonstration system: it says where it listens and serves until it is asked to end."""

import asyncio
import signal

from dslmodel.demo import leash
from dslmodel.demo.wire import Handler, serve


async def live(handler: Handler) -> None:
    """Serve on a free port, tell the parent which one, and return when this process is asked to end."""
    leash.hold()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server, port = await serve(handler)
    leash.announce({"port": port})
    await ended.wait()
    server.close()
