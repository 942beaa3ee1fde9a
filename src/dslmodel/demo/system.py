"""The demonstration system as a whole: starts its processes, breaks them, mends them, ends them."""

import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dslmodel.clock import Clock, SystemClock
from dslmodel.demo.child import Child, stop_all
from dslmodel.demo.topology import AGENTS, SERVICES
from dslmodel.demo.wire import LOOPBACK
from dslmodel.errors import DslModelError

_READY_SECONDS = 20.0
_CONTROL_SECONDS = 5.0


class System:
    """Services, proxy, load and agents. Each switch gives the time from which it holds (nanoseconds since the epoch)."""

    def __init__(
        self, *, directory: Path, coordination: Path, otlp: str, environment: Mapping[str, str], clock: Clock | None = None
    ) -> None:
        self._directory = directory
        self._coordination = coordination
        self._otlp = otlp
        self._environment = environment
        self._clock = clock or SystemClock()
        self._instances: dict[str, list[tuple[Child, int]]] = {}
        self._others: list[Child] = []
        self._proxy_port = self._load_port = 0

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def fault(self, service: str, *, error_ratio: float = 0.0, latency_ms: float = 0.0) -> int:
        """Make every instance of a service fail or slow down; without arguments it works again."""
        at = self._clock.now()
        for _, port in self._instances[service]:
            control(port, "PUT", "/_fault", {"error_ratio": error_ratio, "latency_ms": latency_ms})
        return at

    def kill(self, service: str) -> int:
        """Crash every instance of a service."""
        at = self._clock.now()
        for child, _ in self._instances[service]:
            child.kill()
        return at

    def restart(self, service: str) -> int:
        """Start the instances of a service again, in place of those that there were."""
        stop_all([child for child, _ in self._instances[service]])
        self._launch(service)
        self._await(service)
        return self._clock.now()

    def set_circuit(self, service: str, *, is_broken: bool) -> int:
        """Let the proxy refuse all calls to a service, or pass them on again."""
        self._route(service, is_broken=is_broken)
        return self._clock.now()

    def stop_traffic(self, *journeys: str) -> int:
        """Stop what some users do; without arguments, all of them are back."""
        at = self._clock.now()
        control(self._load_port, "PUT", "/_load", {"stopped": list(journeys)})
        return at

    def load_counts(self) -> dict[str, int]:
        """What the load generator has sent and what became of it."""
        counts: dict[str, int] = control(self._load_port, "GET", "/_load")["counts"]
        return counts

    def processes(self) -> dict[str, int]:
        """Names and process ids of all that runs."""
        return {child.name: child.pid for child in self._children() if child.is_alive}

    def close(self) -> None:
        """End all processes: first the load, so that the services do not fail at the end."""
        load = [child for child in self._others if child.name == "load"]
        stop_all(load)
        stop_all([child for child in self._children() if child not in load])

    def _children(self) -> list[Child]:
        return [*self._others, *(child for instances in self._instances.values() for child, _ in instances)]

    def _start(self) -> None:
        self._coordination.mkdir(parents=True, exist_ok=True)
        proxy = self._other("proxy", "dslmodel.demo.proxy")
        agents = [self._other(f"agent_{n}", "dslmodel.demo.agent", str(self._coordination), f"{n}") for n in range(1, AGENTS + 1)]
        self._proxy_port = proxy.wait_ready(_READY_SECONDS)["port"]
        for service in SERVICES:
            self._launch(service)
        for service in SERVICES:
            self._await(service)
        for agent in agents:
            agent.wait_ready(_READY_SECONDS)
        load = self._other("load", "dslmodel.demo.load", str(self._proxy_port), str(self._coordination))
        self._load_port = load.wait_ready(_READY_SECONDS)["port"]

    def _other(self, name: str, *arguments: str) -> Child:
        child = Child(name, arguments, directory=self._directory, environment=self._environment)
        self._others.append(child)
        return child

    def _launch(self, service: str) -> None:
        """Start a service's instances; they are of use after `_await`."""
        self._instances[service] = [
            (
                Child(
                    name := f"{service}-{n}",
                    ["dslmodel.demo.service", service, name, str(self._proxy_port), self._otlp],
                    directory=self._directory,
                    environment=self._environment,
                ),
                0,
            )
            for n in range(1, SERVICES[service].instances + 1)
        ]

    def _await(self, service: str) -> None:
        self._instances[service] = [(child, child.wait_ready(_READY_SECONDS)["port"]) for child, _ in self._instances[service]]
        self._route(service, is_broken=False)

    def _route(self, service: str, *, is_broken: bool) -> None:
        ports = [port for _, port in self._instances[service]]
        control(self._proxy_port, "PUT", f"/_proxy/{service}", {"ports": ports, "is_broken": is_broken})


def control(port: int, method: str, path: str, document: Mapping[str, Any] | None = None) -> Any:
    """Use a control endpoint on the loopback interface; gives the answer's JSON.

    Raises:
        DslModelError: no answer, or one that is not 200.
    """
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_CONTROL_SECONDS)
    try:
        connection.request(method, path, body=None if document is None else json.dumps(document).encode())
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise DslModelError(f"{method} {path} on port {port} failed: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise DslModelError(f"{method} {path} on port {port} was answered {response.status}: {body.decode(errors='replace')[:200]}")
    return json.loads(body)
