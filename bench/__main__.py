"""python -m bench [NAME...] [--quick] [--json FILE] [--write docs/benchmarks.md]."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from bench import cold_start, latency, memory, throughput
from bench.measure import Result
from bench.report import as_json, as_markdown


class Run(Protocol):
    """A benchmark."""

    def __call__(self, *, quick: bool) -> Sequence[Result]:
        """Measure."""
        ...


BENCHMARKS: dict[str, Run] = {
    "throughput": throughput.run,
    "latency": latency.run,
    "memory": memory.run,
    "cold_start": cold_start.run,
}


def main() -> int:
    """Run benchmarks and print their tables."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks of DSLModel. About six minutes; one with --quick.")
    parser.add_argument(
        "names", nargs="*", choices=[[], *BENCHMARKS], metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all when left out"
    )
    parser.add_argument("--quick", action="store_true", help="fewer samples, for a look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there")
    asked = parser.parse_args()
    results: list[Result] = []
    for name in asked.names or BENCHMARKS:
        print(f"{name} …", file=sys.stderr, flush=True)
        results += BENCHMARKS[name](quick=asked.quick)
    command = " ".join(["python -m bench", *asked.names, *(["--quick"] if asked.quick else [])])
    page = as_markdown(results, command)
    print(page)
    writers: list[tuple[Path | None, Callable[[], str]]] = [
        (asked.write, lambda: page),
        (asked.json, lambda: json.dumps(as_json(results), indent=1)),
    ]
    for path, text in writers:
        if path is not None:
            path.write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
