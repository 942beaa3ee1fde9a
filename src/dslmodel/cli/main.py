"""Entry point of `dsl`. `telemetry status` is a liveness probe: it is answered before anything else is imported."""

import sys

from dslmodel.cli import status_probe


def main() -> int:
    """Run the command line; gives the exit code."""
    arguments = sys.argv[1:]
    try:
        code = status_probe.answer(arguments)
        if code is None:
            from dslmodel.cli.app import run

            code = run(arguments)
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
