"""Who may call the API."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from dslmodel.api.access import Guard, Policy
from tests.unit.api.caller import Caller

TOKEN = "s3cret"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


async def answer(_request):
    return PlainTextResponse("yes")


def client(**policy):
    paths = ("/livez", "/readyz", "/metrics", "/api/v1/status", "/api/v1/baseline/reset")
    app = Starlette(routes=[Route(path, answer, methods=["GET", "POST"]) for path in paths])
    return Caller(Guard(app, Policy(token=TOKEN, **policy)))


@pytest.mark.parametrize("host", ["127.0.0.1:8020", "localhost:8020", "localhost", "[::1]:8020", "127.0.0.2:1", "LOCALHOST:8020"])
def test_names_of_this_machine_are_served(host):
    assert client().get("/api/v1/status", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example:8020", "127.0.0.1.evil.example", "10.0.0.5:8020", "", "[::2]:8020", "localhost.evil"])
def test_a_foreign_host_is_refused(host):
    response = client().get("/api/v1/status", headers={"Host": host})
    assert response.status_code == 403
    assert "is not a name of this server" in response.json()["error"]


def test_a_host_that_is_bound_to_is_served():
    assert client(hosts=frozenset({"10.0.0.5"})).get("/metrics", headers={"Host": "10.0.0.5:8020"}).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_come_with_any_host_and_no_token(path):
    assert client(reads_need_token=True).get(path, headers={"Host": "10.1.2.3:8020"}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9999", "ftp://127.0.0.1:8020"])
def test_a_foreign_page_is_refused_even_with_the_token(origin):
    response = client().post("/api/v1/baseline/reset", headers={**BEARER, "Origin": origin})
    assert response.status_code == 403


def test_a_page_of_our_own_is_served():
    assert client().get("/api/v1/status", headers={"Origin": "http://127.0.0.1:8020"}).status_code == 200


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN, "Bearer \xfc".encode("latin-1")]
)
def test_a_changing_call_without_the_token_is_refused(authorization):
    headers = {} if authorization is None else {"Authorization": authorization}
    response = client().post("/api/v1/baseline/reset", headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_changing_call_with_the_token_is_served():
    assert client().post("/api/v1/baseline/reset", headers=BEARER).status_code == 200
    assert client().post("/api/v1/baseline/reset", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200


def test_reads_need_the_token_when_other_machines_reach_us_and_then_any_host_is_fine():
    exposed = client(reads_need_token=True)
    assert exposed.get("/metrics").status_code == 401
    assert exposed.get("/metrics", headers={**BEARER, "Host": "dslmodel.prod.svc:8020"}).status_code == 200
