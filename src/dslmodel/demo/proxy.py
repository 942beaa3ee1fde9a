"""The proxy between the services: `python -m dslmodel.demo.proxy`. It goes by the Host header, takes instances in turn, and can break.

Control: `GET /_proxy`, and `PUT /_proxy/SERVICE` with `{"ports": […], "is_broken": false}`. It makes no spans, as most proxies don't.
"""

import asyncio
import json
from dataclasses import asdict, dataclass

from dslmodel.demo.process import live
from dslmodel.demo.wire import Client, Request, Response, WireError, answer

CONTROL_PATH = "/_proxy"
_TIMEOUT_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Where a service's instances listen. While it is broken, nothing is sent there and the answer is 503 at once."""

    ports: tuple[int, ...]
    is_broken: bool = False

    @classmethod
    def parse(cls, body: bytes) -> "Upstream":
        """Read a control request's body."""
        document = json.loads(body)
        return cls(ports=tuple(int(port) for port in document["ports"]), is_broken=bool(document.get("is_broken", False)))


class Proxy:
    """Passes requests on to one of a service's instances."""

    def __init__(self) -> None:
        self._upstreams: dict[str, Upstream] = {}
        self._turns: dict[str, int] = {}
        self._client = Client(_TIMEOUT_SECONDS)

    async def handle(self, request: Request) -> Response:
        """Answer one request: the control endpoint's, or an upstream's."""
        if request.path.startswith(CONTROL_PATH):
            return self._control(request)
        name = request.headers.get("host", "")
        upstream = self._upstreams.get(name)
        if upstream is None:
            return answer(404, {"error": f"no upstream {name!r}"})
        if upstream.is_broken:
            return answer(503, {"error": f"the circuit to {name} is broken"})
        turn = self._turns[name] = self._turns.get(name, -1) + 1
        problem = f"{name} has no instance"
        for attempt in range(len(upstream.ports)):
            try:
                return await self._client.send(upstream.ports[(turn + attempt) % len(upstream.ports)], request)
            except WireError as error:
                problem = str(error)
                if request.method != "GET":  # it may have been carried out: repeating it is the caller's decision
                    break
        return answer(502, {"error": problem})

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def _control(self, request: Request) -> Response:
        if request.method == "PUT":
            try:
                self._upstreams[request.path.removeprefix(f"{CONTROL_PATH}/")] = Upstream.parse(request.body)
            except (AttributeError, KeyError, TypeError, ValueError):
                return answer(400, {"error": 'expected {"ports": [PORT…], "is_broken": true|false}'})
        return answer(200, {name: asdict(upstream) for name, upstream in self._upstreams.items()})


if __name__ == "__main__":
    asyncio.run(live(Proxy()))
