"""Ports: taken, free, set, not set."""

import os
import socket

import pytest
from starlette.applications import Starlette

from dslmodel.api.events import Hub
from dslmodel.api.listeners import Ports, close_all
from dslmodel.errors import ConfigurationError, DslModelError
from dslmodel.ingest.buffer import Buffer
from dslmodel.ingest.reception import ReceiverStats, Reception
from dslmodel.settings import Limits, Server


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        yield holder.getsockname()[1]


def reception():
    return Reception(buffer=Buffer(items=10, size=1 << 20), limits=Limits(), stats=ReceiverStats())


@pytest.mark.parametrize("name", ["otlp_grpc", "otlp_http"])
def test_a_default_port_that_is_taken_leaves_that_receiver_unbound_and_says_who_has_it(taken, name):
    server = Server(**({"otlp_grpc_port": 0, "otlp_http_port": 0} | {f"{name}_port": taken}))
    listeners = Ports(server).open_receivers(reception(), None)
    try:
        by_name = {listener.name: listener for listener in listeners}
        assert [by_name[other].is_bound for other in sorted(by_name)] == [other != name for other in sorted(by_name)]
        assert by_name[name].url is None
        assert by_name[name].address == f"127.0.0.1:{taken}"
        assert f"pid {os.getpid()}" in by_name[name].problem
    finally:
        close_all(listeners)


@pytest.mark.parametrize("name", ["otlp_grpc", "otlp_http"])
def test_a_port_that_was_set_and_is_taken_is_an_error_with_the_fix_and_closes_the_others(taken, name):
    server = Server(**({"otlp_grpc_port": 0, "otlp_http_port": 0} | {f"{name}_port": taken}), explicit_ports=frozenset({f"{name}_port"}))
    with pytest.raises(DslModelError, match=rf"DSLMODEL_{name.upper()}_PORT; 0 takes any free one"):
        Ports(server).open_receivers(reception(), None)


def test_an_api_port_that_is_taken_is_replaced_by_a_free_one(taken):
    listener = Ports(Server(api_port=taken)).open_api(Starlette(), Hub())
    try:
        assert listener.is_bound
        assert listener.url != f"http://127.0.0.1:{taken}"
        assert f"127.0.0.1:{taken}" in listener.problem
    finally:
        listener.stop()


def test_an_address_that_is_not_ours_is_an_error_even_by_default(tmp_path):
    (tmp_path / "token").write_text("x")
    with pytest.raises(DslModelError, match=r"192\.0\.2\.1"):
        Ports(Server(bind="192.0.2.1", token_file=tmp_path / "token")).open_api(Starlette(), Hub())


def test_a_certificate_that_cannot_be_used_is_a_configuration_error(tmp_path):
    (tmp_path / "broken.pem").write_text("nothing")
    server = Server(api_port=0, tls_certificate=tmp_path / "broken.pem", tls_key=tmp_path / "broken.pem")
    with pytest.raises(ConfigurationError, match="can't be used"):
        Ports(server).open_api(Starlette(), Hub())
