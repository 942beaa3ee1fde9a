"""Entry point of `dsl`. `telemetry status` is a liveness probe: it is answered before anything else is imported."""

import sys

from dslmodel.cli import status_probe


def main() -> int:
    """Run the command line; gives the exit code."""
    arguments = sys.argv[1:]
    code = status_probe.answer(arguments)
    if code is not None:
        return code
    from dslmodel.cli.app import run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
