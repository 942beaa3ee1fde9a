"""A server for as long as a block lasts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def listening(server: asyncio.Server) -> AsyncIterator[None]:
    """`async with server` waits, since Python 3.12, until clients let go of connections that they keep alive; this doesn't."""
    try:
        yield
    finally:
        server.close()
