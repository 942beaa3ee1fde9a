"""What the demonstration system consists of, as data: who calls whom, how long work takes, and what its users do."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request that an endpoint makes. When an optional call fails, the page is served without it."""

    service: str
    method: str
    path: str
    is_optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A method and a route that a service answers, and the calls that it makes to do so, in order."""

    method: str
    route: str  # a last segment in braces stands for an id
    calls: tuple[Call, ...] = ()

    def matches(self, method: str, path: str) -> bool:
        """Tell whether a request is for this endpoint."""
        if method != self.method:
            return False
        if self.route.endswith("}"):
            return path.rpartition("/")[0] == self.route.rpartition("/")[0]
        return path == self.route


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """An HTTP service: each instance is a process with `workers` requests at work at a time, the others wait."""

    name: str
    endpoints: tuple[Endpoint, ...]
    work_ms: float  # median of a lognormal
    workers: int = 8
    instances: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """What one kind of user does, at a mean rate: they come independently of each other and do not wait for answers."""

    name: str
    service: str
    method: str
    path: str
    per_second: float


SERVICES = {
    service.name: service
    for service in (
        Service(
            name="storefront",
            work_ms=6.0,
            endpoints=(
                Endpoint(
                    method="GET",
                    route="/",
                    calls=(
                        Call(service="catalog", method="GET", path="/products"),
                        Call(service="cart", method="GET", path="/cart", is_optional=True),
                    ),
                ),
                Endpoint(
                    method="POST",
                    route="/checkout",
                    calls=(
                        Call(service="cart", method="POST", path="/close", is_optional=True),
                        Call(service="payments", method="POST", path="/charges"),
                    ),
                ),
            ),
        ),
        Service(name="catalog", work_ms=9.0, instances=2, endpoints=(Endpoint(method="GET", route="/products"),)),
        Service(name="cart", work_ms=5.0, endpoints=(Endpoint(method="GET", route="/cart"), Endpoint(method="POST", route="/close"))),
        Service(
            name="payments",
            work_ms=8.0,
            endpoints=(Endpoint(method="POST", route="/charges", calls=(Call(service="ledger", method="POST", path="/entries"),)),),
        ),
        Service(name="ledger", work_ms=10.0, endpoints=(Endpoint(method="POST", route="/entries"),)),
        Service(
            name="shipping",
            work_ms=6.0,
            endpoints=(Endpoint(method="GET", route="/parcels/{id}", calls=(Call(service="carriers", method="GET", path="/position"),)),),
        ),
        Service(name="carriers", work_ms=12.0, endpoints=(Endpoint(method="GET", route="/position"),)),
        Service(name="reviews", work_ms=8.0, endpoints=(Endpoint(method="GET", route="/reviews/{id}"),)),
    )
}

JOURNEYS = {
    journey.name: journey
    for journey in (
        Journey(name="browse", service="storefront", method="GET", path="/", per_second=14.0),
        Journey(name="checkout", service="storefront", method="POST", path="/checkout", per_second=8.0),
        Journey(name="track", service="shipping", method="GET", path="/parcels/{id}", per_second=12.0),
        Journey(name="read", service="reviews", method="GET", path="/reviews/{id}", per_second=12.0),
    )
}


def connected(service: str) -> frozenset[str]:
    """The services that calls connect with a service, itself included: how far trouble of it can spread."""
    links = [(name, call.service) for name, caller in SERVICES.items() for endpoint in caller.endpoints for call in endpoint.calls]
    found = {service}
    while more := {end for link in links if found & set(link) for end in link} - found:
        found |= more
    return frozenset(found)


AGENTS = 3
WORK_PER_SECOND = 2.0
BACKGROUND_ERROR_RATIO = 0.001
