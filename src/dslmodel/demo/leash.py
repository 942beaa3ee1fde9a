"""A child's side of the tie to its parent: it says when it is ready, and it ends when the parent is gone, however the parent went."""

import json
import os
import runpy
import signal
import sys
import threading
import time

_GRACE_SECONDS = 5.0


def announce(document: dict[str, int]) -> None:
    """Tell the parent that this process is ready: one line of JSON on standard output."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def hold() -> None:
    """Watch standard input, whose other end the parent holds; when it ends, stop this process politely, then by force."""
    threading.Thread(target=_watch, name="leash", daemon=True).start()


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    # `python -m dslmodel.demo.leash MODULE ARGUMENT…` runs any module on the leash.
    hold()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
