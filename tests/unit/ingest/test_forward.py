"""The forwarder: order, bounds, retries, what is counted."""

import threading
import time
from collections import deque
from collections.abc import Callable

import pytest

from dslmodel.errors import ConfigurationError
from dslmodel.ingest.forward import Answer, Forwarder, Verdict
from dslmodel.ingest.forward_senders import build_forwarder, retry_after
from dslmodel.records import Encoding, Signal
from dslmodel.settings import Forward

TAKEN = Verdict(Answer.TAKEN)
AT_ONCE = Verdict(Answer.RETRY, 0.0, "busy")
LATER = Verdict(Answer.RETRY, 60.0, "down")


class Endpoint:
    """Answers by a script, then takes everything. `gate` holds back its answers."""

    def __init__(self, *script: Verdict) -> None:
        self.script = deque(script)
        self.bodies: list[bytes] = []
        self.gate = threading.Event()
        self.gate.set()
        self.is_closed = False

    def send(self, signal: Signal, encoding: Encoding, body: bytes, timeout_seconds: float) -> Verdict:
        del signal, encoding, timeout_seconds
        self.bodies.append(body)
        self.gate.wait(5)
        return self.script.popleft() if self.script else TAKEN

    def close(self) -> None:
        self.is_closed = True


def forwarder(endpoint: Endpoint, *, size: int = 100) -> Forwarder:
    return Forwarder(endpoint, queue_bytes=size, timeout_seconds=1)


def offer(to: Forwarder, *bodies: bytes) -> None:
    for body in bodies:
        to.offer(Signal.TRACES, Encoding.PROTOBUF, body)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 1.5
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        threading.Event().wait(0.002)


def test_requests_are_sent_in_order_and_counted() -> None:
    endpoint = Endpoint()
    forward = forwarder(endpoint)
    offer(forward, b"1", b"2", b"3")
    forward.stop()
    assert endpoint.bodies == [b"1", b"2", b"3"]
    assert forward.stats().sent == {"traces": 3}
    assert endpoint.is_closed


def test_retry_sends_the_same_again_before_the_next() -> None:
    endpoint = Endpoint(AT_ONCE, AT_ONCE, TAKEN)
    forward = forwarder(endpoint)
    offer(forward, b"1", b"2")
    until(lambda: forward.stats().sent == {"traces": 2})
    forward.stop()
    assert endpoint.bodies == [b"1", b"1", b"1", b"2"]
    assert (forward.stats().retries, forward.stats().last_error) == (2, "busy")


def test_refused_for_good_is_dropped_and_counted() -> None:
    endpoint = Endpoint(Verdict(Answer.REFUSED, None, "400 Bad Request"))
    forward = forwarder(endpoint)
    offer(forward, b"1", b"2")
    forward.stop()
    assert endpoint.bodies == [b"1", b"2"]
    assert (forward.stats().sent, forward.stats().dropped_refused) == ({"traces": 1}, {"traces": 1})


def test_full_queue_drops_the_oldest_and_never_blocks() -> None:
    endpoint = Endpoint()
    endpoint.gate.clear()
    forward = forwarder(endpoint, size=10)
    offer(forward, b"first")
    until(lambda: endpoint.bodies == [b"first"])
    offer(forward, b"aaaa", b"bbbb", b"cccc")
    assert (forward.stats().bytes, forward.stats().dropped_full) == (8, {"traces": 1})
    offer(forward, b"x" * 11)
    assert forward.stats().dropped_full == {"traces": 2}
    endpoint.gate.set()
    forward.stop()
    assert endpoint.bodies == [b"first", b"bbbb", b"cccc"]


def test_stop_does_not_wait_for_a_dead_endpoint_and_counts_what_is_left() -> None:
    endpoint = Endpoint(LATER)
    forward = forwarder(endpoint)
    offer(forward, b"1")
    until(lambda: forward.stats().last_error == "down")
    offer(forward, b"2")
    started = time.monotonic()
    forward.stop(0)
    assert time.monotonic() - started < 1
    assert forward.stats().dropped_late == {"traces": 2}
    offer(forward, b"after")
    assert forward.stats().dropped_full == {"traces": 1}


def test_everything_offered_is_accounted_for() -> None:
    endpoint = Endpoint(AT_ONCE, Verdict(Answer.REFUSED), TAKEN, AT_ONCE)
    forward = forwarder(endpoint, size=20)
    offer(forward, *(b"%05d" % i for i in range(50)))
    forward.stop()
    stats = forward.stats()
    ends = (stats.sent, stats.dropped_full, stats.dropped_refused, stats.dropped_late)
    assert sum(end.get("traces", 0) for end in ends) == 50
    assert (stats.items, stats.bytes) == (0, 0)


def test_no_endpoint_means_no_forwarder() -> None:
    assert build_forwarder(Forward()) is None


@pytest.mark.parametrize("endpoint", ["collector:4317", "ftp://x", "http://", "unix:///tmp/x"])
def test_endpoint_that_is_no_url_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigurationError, match=r"forward.endpoint"):
        build_forwarder(Forward(endpoint=endpoint))


@pytest.mark.parametrize("headers", [{"a b": "c"}, {"a": "b\nc"}, {"": "x"}, {"a": "é"}])
def test_headers_that_cannot_be_sent_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=r"forward.headers"):
        build_forwarder(Forward(endpoint="http://x", headers=headers))


@pytest.mark.parametrize(
    ("header", "expected"), [(None, None), ("3", 3), ("9999", 120), ("soon", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)]
)
def test_retry_after_is_seconds_or_a_date(header: str | None, expected: float | None) -> None:
    assert retry_after(header) == expected
