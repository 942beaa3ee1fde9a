from dslmodel.demo.topology import JOURNEYS, SERVICES, Endpoint, connected


def _answers(service: str, method: str, path: str) -> bool:
    return any(endpoint.matches(method, path) for endpoint in SERVICES[service].endpoints)


def test_every_call_and_every_journey_has_an_endpoint():
    for service in SERVICES.values():
        for endpoint in service.endpoints:
            for call in endpoint.calls:
                assert _answers(call.service, call.method, call.path), call
    for journey in JOURNEYS.values():
        assert _answers(journey.service, journey.method, journey.path.format(id=7)), journey


def test_every_service_is_reached_by_users():
    reached = {journey.service for journey in JOURNEYS.values()}
    for _ in SERVICES:
        reached |= {call.service for name in reached for endpoint in SERVICES[name].endpoints for call in endpoint.calls}
    assert reached == set(SERVICES)


def test_calls_never_come_back_to_their_caller():
    def depth(service: str, path: tuple[str, ...] = ()) -> None:
        assert service not in path, path
        for endpoint in SERVICES[service].endpoints:
            for call in endpoint.calls:
                depth(call.service, (*path, service))

    for service in SERVICES:
        depth(service)


def test_route_with_an_id_matches_any_id_and_nothing_else():
    endpoint = Endpoint(method="GET", route="/parcels/{id}")
    assert endpoint.matches("GET", "/parcels/42")
    assert not endpoint.matches("POST", "/parcels/42")
    assert not endpoint.matches("GET", "/parcels/42/x")
    assert not endpoint.matches("GET", "/other/42")


def test_trouble_spreads_along_calls_both_ways_and_no_further():
    assert connected("ledger") == connected("storefront") == {"storefront", "catalog", "cart", "payments", "ledger"}
    assert connected("reviews") == {"reviews"}
