"""Both receivers in a process of their own, drained like the daemon drains them. Prints its ports as one JSON line.

Then answers each line on standard input with one JSON line of counts and memory; ends when standard input ends.
"""

import gc
import json
import sys
import threading
import time

import psutil

from dslmodel.api.otlp import OtlpApp
from dslmodel.api.otlp_grpc import serve_grpc
from dslmodel.api.otlp_http import serve_http
from dslmodel.ingest.buffer import Buffer
from dslmodel.ingest.reception import ReceiverStats, Reception
from dslmodel.ingest.resources import log_counts, resource_samples
from dslmodel.ingest.spans import decode_spans
from dslmodel.records import Payload, Signal
from dslmodel.settings import Limits


def read(payload: Payload) -> int:
    """What the pipeline reads of a payload, so that what the receivers let through is known to be readable."""
    if payload.signal is Signal.TRACES:
        return sum(len(resource.rows) for resource in decode_spans(payload))
    return len(resource_samples(payload)) + len(log_counts(payload))


def main() -> None:
    limits = Limits(body_bytes=1 << 20, inflated_bytes=4 << 20, queue_bytes=64 << 20)
    buffer = Buffer(items=limits.queue_items, size=limits.queue_bytes)
    stats = ReceiverStats()
    reception = Reception(buffer=buffer, limits=limits, stats=stats)
    http = serve_http(OtlpApp(reception), port=0)
    grpc = serve_grpc(reception, port=0)
    stopping = threading.Event()
    rows = 0
    failures: list[str] = []

    def drain() -> None:
        nonlocal rows
        while not stopping.is_set():
            buffer.wait(0.2)
            for item in buffer.drain(time.time_ns()):
                try:
                    rows += read(item) if isinstance(item, Payload) else 0
                except Exception as error:  # noqa: BLE001  # the test reports whatever a reader raises
                    failures.append(f"{type(error).__name__}: {error}")

    reader = threading.Thread(target=drain)
    reader.start()
    print(json.dumps({"http": http.port, "grpc": grpc.port}), flush=True)
    for _ in sys.stdin:
        gc.collect()
        counts = {f"{key.transport} {key.signal} {key.what}": number for key, number in stats.snapshot().items()}
        memory = psutil.Process().memory_info().rss
        print(json.dumps({"counts": counts, "rss": memory, "rows": rows, "failures": failures[:20]}), flush=True)
    http.stop()
    grpc.stop()
    stopping.set()
    reader.join()


if __name__ == "__main__":
    main()
