"""A sender in a process of its own, so that its work is not counted as the receiver's.

python -m bench.sending grpc|http ADDRESS SEED SPANS COUNT PER_SECOND

Makes COUNT requests of SPANS spans beforehand (PER_SECOND 0: virtual times from `START` on, sent at once) or one after the other at
PER_SECOND requests a second with real times. Says "ready", begins with the first line on standard input.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.senders import GrpcSender, HttpSender, Sender
from bench.traffic import Traffic, virtual_time


@contextmanager
def sending(transport: str, address: str, *, seed: int, spans: int, count: int, per_second: float = 0) -> Iterator[subprocess.Popen[str]]:
    """Start a sender and wait until it is ready; write a line to its standard input to make it begin."""
    numbers = [str(value) for value in (seed, spans, count, per_second)]
    command = [sys.executable, "-m", "bench.sending", transport, address, *numbers]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        process.terminate()
        process.wait(10)


def begin(process: subprocess.Popen[str]) -> None:
    """Make it send."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def main(transport: str, address: str, *numbers: str) -> None:
    """Send."""
    seed, spans, count = (int(number) for number in numbers[:3])
    per_second = float(numbers[3])
    sender: Sender = GrpcSender(address) if transport == "grpc" else HttpSender(address)
    traffic = Traffic(seed)
    bodies = [] if per_second else [traffic.body(spans, virtual_time(index, spans)) for index in range(count)]
    print("ready", flush=True)
    sys.stdin.readline()
    for body in bodies:
        sender.send(body)
    if per_second:
        started = time.monotonic()
        for index in range(count):
            time.sleep(max(0.0, started + index / per_second - time.monotonic()))
            sender.send(traffic.body(spans, time.time_ns()))
    sender.close()
    sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
