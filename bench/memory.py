"""Memory of a pipeline that holds 10,000 series, in a process of its own each time: what the system says, and what Python allocated."""

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator, Sequence

import psutil

from bench.measure import Result, Row
from dslmodel.clock import SECOND
from dslmodel.engine.runtime import build_pipeline
from dslmodel.records import Kind, Payload
from dslmodel.settings import Settings
from dslmodel.testing import SpanFactory, at, payload

MIB = 1 << 20
SERVICES, OPERATIONS = 100, 100
_EVERY = 10  # seconds between two spans of a series


def run(*, quick: bool) -> Sequence[Result]:
    """RSS and tracemalloc after some virtual minutes."""
    seconds = 60 if quick else 120
    plain, traced = _measure(seconds, "rss"), _measure(seconds, "tracemalloc")
    series = SERVICES * OPERATIONS
    rows = [
        Row(label="RSS with 10,000 series", unit="MiB", samples=[plain["after"] / MIB]),
        Row(label="RSS before the first span (libraries)", unit="MiB", samples=[plain["before"] / MIB]),
        Row(label="RSS of the pipeline's data, by series", unit="KiB", samples=[(plain["after"] - plain["before"]) / series / 1024]),
        Row(label="allocated by the pipeline (tracemalloc)", unit="MiB", samples=[(traced["after"] - traced["before"]) / MIB]),
        Row(label="RSS with 10,000 series to before", unit="x", samples=[plain["after"] / plain["before"]]),
    ]
    return [
        Result(
            name="memory",
            title="Memory at 10,000 series",
            what=f"{SERVICES} services of {OPERATIONS} operations each, a span of each every {_EVERY} s for {seconds} virtual seconds, "
            "default limits, a tick with all detectors for every second.",
            rows=rows,
        )
    ]


def _measure(seconds: int, how: str) -> dict[str, int]:
    done = subprocess.run([sys.executable, "-m", "bench.memory", how, str(seconds)], capture_output=True, text=True, check=True)
    answer: dict[str, int] = json.loads(done.stdout)
    return answer


def _payloads(seconds: int) -> Iterator[tuple[int, Payload]]:
    factory = SpanFactory(1)
    names = [f"GET /api/{chr(97 + i // 26)}/{chr(97 + i % 26)}" for i in range(OPERATIONS)]
    for second in range(seconds):
        for number in range(second % _EVERY, SERVICES, _EVERY):
            spans = [factory.span(name, at(second), 5 + i % 50, kind=Kind.SERVER) for i, name in enumerate(names)]
            yield second, payload(spans, service=f"service-{number:03}", instance="1", received_at=at(second + 0.5))


def _used(how: str) -> int:
    return psutil.Process().memory_info().rss if how == "rss" else tracemalloc.get_traced_memory()[0]


def main(how: str, seconds: int) -> None:
    """Fill a pipeline and print the memory before and after."""
    pipeline = build_pipeline(Settings())
    list(_payloads(1))  # what the generator loads is not the pipeline's
    if how != "rss":
        tracemalloc.start()
    before = _used(how)
    tick = at(1)
    for second, item in _payloads(seconds):
        while tick <= at(second):
            pipeline.tick(tick)
            tick += SECOND
        pipeline.feed(item)
    pipeline.tick(tick)
    print(json.dumps({"before": before, "after": _used(how)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
