"""Laws of the buffer: order, monotonic stamps, bounds, counts."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from dslmodel.clock import SECOND, VirtualClock
from dslmodel.ingest.buffer import INPUTS, Buffer
from dslmodel.records import Command, Encoding, Payload, Signal


class SetClock:
    """A machine's clock that can be set back."""

    def __init__(self) -> None:
        self.time = 100 * SECOND

    def now(self) -> int:
        return self.time


def put(buffer: Buffer, body: bytes = b"x", size: int | None = None) -> bool:
    return buffer.put(signal=Signal.TRACES, encoding=Encoding.PROTOBUF, body=body, message=None, source="test", size=size)


def bodies(buffer: Buffer, before: int) -> list[bytes]:
    return [item.body for item in buffer.drain(before) if isinstance(item, Payload)]


def stamps(buffer: Buffer, before: int) -> list[int]:
    return [item.received_at for item in buffer.drain(before) if isinstance(item, Payload)]


def test_drain_takes_what_came_before_and_leaves_the_rest() -> None:
    clock = VirtualClock(10)
    buffer = Buffer(items=10, size=100, clock=clock)
    put(buffer, b"first")
    clock.advance_to(20)
    put(buffer, b"second")
    assert bodies(buffer, 20) == [b"first"]
    assert bodies(buffer, 21) == [b"second"]


def test_full_by_items_refuses_and_counts() -> None:
    buffer = Buffer(items=2, size=100)
    assert [put(buffer) for _ in range(3)] == [True, True, False]
    stats = buffer.stats()
    assert (stats.items, stats.accepted, stats.dropped) == (2, {"traces": 2}, {"traces": 1})


def test_full_by_bytes_refuses_and_takes_again_after_a_drain() -> None:
    clock = VirtualClock(1)
    buffer = Buffer(items=10, size=10, clock=clock)
    assert put(buffer, size=8)
    assert not put(buffer, size=3)
    assert put(buffer, size=2)
    buffer.drain(2)
    assert buffer.stats().bytes == 0
    assert put(buffer, size=10)


def test_inputs_share_the_order_and_the_bounds() -> None:
    clock = VirtualClock(5)
    buffer = Buffer(items=2, size=100, clock=clock)
    put(buffer)
    assert buffer.put_input(lambda at: Command(name="ack", arguments={}, received_at=at), 10)
    assert not buffer.put_input(lambda at: Command(name="ack", arguments={}, received_at=at), 10)
    assert [type(item) for item in buffer.drain(6)] == [Payload, Command]
    assert buffer.stats().dropped == {INPUTS: 1}


def test_nothing_older_than_a_drain_appears_after_it_though_the_clock_is_set_back() -> None:
    clock = SetClock()
    buffer = Buffer(items=10, size=100, clock=clock)
    put(buffer)
    assert len(buffer.drain(100 * SECOND)) == 0
    clock.time = 50 * SECOND
    put(buffer)
    assert stamps(buffer, 1 << 63) == [100 * SECOND, 100 * SECOND]


def test_drain_far_ahead_does_not_push_later_stamps_into_the_future() -> None:
    clock = SetClock()
    buffer = Buffer(items=10, size=100, clock=clock)
    buffer.drain(1 << 62)
    put(buffer)
    assert stamps(buffer, 1 << 63) == [clock.time]


def test_retry_after_follows_the_pace_of_the_drains() -> None:
    clock = SetClock()
    buffer = Buffer(items=1000, size=1 << 30, clock=clock)
    assert buffer.retry_after_seconds() == 1
    put(buffer, size=100)
    assert buffer.retry_after_seconds() == 5
    buffer.drain(clock.time)
    for _ in range(3):
        put(buffer, size=100)
        clock.time += SECOND
        buffer.drain(clock.time)
    put(buffer, size=10_000)
    assert 1 < buffer.retry_after_seconds() <= 60


def test_wait_returns_at_once_when_something_is_queued() -> None:
    buffer = Buffer(items=10, size=100)
    put(buffer)
    buffer.wait(60)


def test_wait_ends_when_something_comes() -> None:
    buffer = Buffer(items=10, size=100)
    waiter = threading.Thread(target=buffer.wait, args=(60,))
    waiter.start()
    put(buffer)
    waiter.join(1)
    assert not waiter.is_alive()


def test_many_threads_lose_nothing_and_keep_the_order() -> None:
    buffer = Buffer(items=10_000, size=1 << 20)
    threads = [threading.Thread(target=lambda: [put(buffer) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = stamps(buffer, 1 << 63)
    assert len(seen) == 2000
    assert seen == sorted(seen)


@given(
    st.lists(st.one_of(st.tuples(st.just("put"), st.integers(1, 40)), st.tuples(st.sampled_from(["clock", "drain"]), st.integers(-5, 20))))
)
def test_laws_hold_for_any_sequence(steps: list[tuple[str, int]]) -> None:
    clock = SetClock()
    buffer = Buffer(items=5, size=100, clock=clock)
    offered = refused = drained = 0
    last = drained_before = 0
    for action, number in steps:
        if action == "clock":
            clock.time += number * SECOND
        elif action == "put":
            offered += 1
            refused += not put(buffer, size=number)
        else:
            before = clock.time
            for stamp in stamps(buffer, before):
                assert drained_before <= stamp < before
                assert stamp >= last
                last = stamp
                drained += 1
            drained_before = max(drained_before, before)
        stats = buffer.stats()
        assert stats.items <= 5
        assert stats.bytes <= 100
        assert stats.accepted.get("traces", 0) == offered - refused == drained + stats.items
        assert stats.dropped.get("traces", 0) == refused
