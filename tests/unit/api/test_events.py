"""Event streams: every reader gets what changes, a slow one is told what it lost, nobody blocks the pipeline."""

import asyncio

from dslmodel.api.events import Hub
from dslmodel.clock import SECOND
from tests.unit.api.samples import NOW, finding, report


async def next_events(stream, count):
    return [await asyncio.wait_for(anext(stream), 1) for _ in range(count)]


def run(scenario):
    async def main():
        hub = Hub()
        hub.attach(asyncio.get_running_loop())
        await scenario(hub)

    asyncio.run(main())


def test_a_reader_gets_ticks_and_findings_from_its_connection_on():
    async def scenario(hub):
        hub.publish(report())
        stream = hub.stream()
        assert await anext(stream) == b"retry: 2000\n\n"
        hub.publish(report(NOW + SECOND, findings=[finding()]))
        events = await next_events(stream, 2)
        assert [event.split(b"\n")[0] for event in events] == [b"event: snapshot", b"event: finding"]
        assert hub.readers == 1
        await stream.aclose()
        assert hub.readers == 0

    run(scenario)


def test_a_slow_reader_loses_the_oldest_events_and_is_told_how_many():
    async def scenario(hub):
        stream = hub.stream()
        await anext(stream)
        for second in range(300):
            hub.publish(report(NOW + second * SECOND))
        await asyncio.sleep(0)
        assert await anext(stream) == b'event: lost\ndata: {"events":44}\n\n'
        await stream.aclose()

    run(scenario)


def test_streams_end_when_the_hub_closes():
    async def scenario(hub):
        stream = hub.stream()
        await anext(stream)
        await hub.close()
        assert [event async for event in stream] == []

    run(scenario)


def test_waiting_for_a_tick_ends_with_the_first_tick_after_the_time_or_with_the_timeout():
    async def scenario(hub):
        waiting = asyncio.create_task(hub.wait_for_tick_after(NOW, 1))
        await asyncio.sleep(0)
        hub.publish(report(NOW))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        hub.publish(report(NOW + SECOND))
        assert await waiting
        assert not await hub.wait_for_tick_after(NOW + 2 * SECOND, 0.01)

    run(scenario)


def test_ticks_without_an_event_loop_are_dropped():
    Hub().publish(report())
