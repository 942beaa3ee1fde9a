"""The users: `python -m dslmodel.demo.load PROXY_PORT COORDINATION_DIR`. They come at random, independently of the answers (open loop).

They also hand out work to the agents. The same seeds give the same users. Control: `GET /_load` gives counts, `PUT /_load` with
`{"stopped": [JOURNEY…]}` stops some of the traffic.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from dslmodel.demo.process import live
from dslmodel.demo.topology import JOURNEYS, WORK_PER_SECOND, Journey
from dslmodel.demo.wire import Client, Request, Response, WireError, answer
from dslmodel.demo.work import stamp, write

CONTROL_PATH = "/_load"
_TIMEOUT_SECONDS = 4.0
_IN_FLIGHT_LIMIT = 400


class Load:
    """Sends what users send. At most so many requests are under way at a time; the others are shed, and counted."""

    def __init__(self, proxy_port: int, coordination: Path) -> None:
        self._proxy_port = proxy_port
        self._coordination = coordination
        self._client = Client(_TIMEOUT_SECONDS)
        self._stopped: frozenset[str] = frozenset()
        self._counts: Counter[str] = Counter()
        self._under_way: set[asyncio.Task[None]] = set()
        self._ids = random.Random("ids")

    async def run(self) -> None:
        """Be all users, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for journey in JOURNEYS.values():
                group.create_task(self._repeat(journey.name, journey.per_second, partial(self._visit, journey)))
            group.create_task(self._repeat("work", WORK_PER_SECOND, self._hand_out))

    async def handle(self, request: Request) -> Response:
        """Answer the control endpoint."""
        if request.path != CONTROL_PATH:
            return answer(404, {"error": f"only {CONTROL_PATH} is here"})
        if request.method == "PUT":
            try:
                stopped = frozenset(json.loads(request.body)["stopped"])
            except (KeyError, TypeError, ValueError):
                return answer(400, {"error": 'expected {"stopped": [JOURNEY…]}'})
            if unknown := sorted(stopped - JOURNEYS.keys()):
                return answer(400, {"error": f"no journey {unknown[0]!r}; there are {', '.join(JOURNEYS)}"})
            self._stopped = stopped
        return answer(200, {"stopped": sorted(self._stopped), "counts": dict(self._counts)})

    def close(self) -> None:
        """Give up what is under way and hang up."""
        for task in self._under_way:
            task.cancel()
        self._client.close()

    async def _repeat(self, name: str, per_second: float, act: Callable[[], Awaitable[None]]) -> None:
        """Act at random moments that do not depend on how long anything takes."""
        moments = random.Random(name)
        due = time.monotonic()
        while True:
            due += moments.expovariate(per_second)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if name in self._stopped:
                continue
            if len(self._under_way) >= _IN_FLIGHT_LIMIT:
                self._counts[f"{name}.shed"] += 1
                continue
            self._counts[f"{name}.sent"] += 1
            task = asyncio.ensure_future(act())
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _visit(self, journey: Journey) -> None:
        path = journey.path.format(id=self._ids.randrange(1_000_000))
        try:
            response = await self._client.send(
                self._proxy_port, Request(method=journey.method, path=path, headers={"host": journey.service})
            )
        except WireError:
            self._counts[f"{journey.name}.failed"] += 1
        else:
            self._counts[f"{journey.name}.{'ok' if response.status < 400 else 'failed'}"] += 1

    async def _hand_out(self) -> None:
        identity = f"{self._ids.randrange(16**12):012x}"
        document = {"id": identity, "status": "pending", "created": stamp(), "payload": {"parcel": self._ids.randrange(1_000_000)}}
        write(self._coordination / f"work_{identity}.json", document)


async def _main(proxy_port: int, coordination: Path) -> None:
    load = Load(proxy_port, coordination)
    users = asyncio.create_task(load.run())
    await live(load)
    users.cancel()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), Path(sys.argv[2])))
