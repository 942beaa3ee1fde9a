"""One agent of the fleet: `python -m dslmodel.demo.agent COORDINATION_DIR ID`.

It claims a work file by an atomic rename, does the work and writes the result.
"""

import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

from dslmodel.demo import leash
from dslmodel.demo.work import stamp, write

_HEARTBEAT_SECONDS = 1.0
_POLL_SECONDS = 0.2
_WORK_SECONDS = (0.05, 0.3)


class Agent:
    """Works on one coordination directory, on one piece of work at a time."""

    def __init__(self, directory: Path, identity: str) -> None:
        self._directory = directory
        self._identity = identity
        self._created = stamp()
        self._random = random.Random(identity)
        self._beaten_at = 0.0
        self.ended = threading.Event()

    def run(self) -> None:
        """Work until `ended`; what was begun is finished, then the agent signs off."""
        while not self.ended.is_set():
            self._beat()
            if not self._work():
                self.ended.wait(_POLL_SECONDS)
        (self._directory / f"agent_{self._identity}.json").unlink(missing_ok=True)

    def _beat(self) -> None:
        if time.monotonic() - self._beaten_at < _HEARTBEAT_SECONDS:
            return
        self._beaten_at = time.monotonic()
        document = {"id": self._identity, "status": "active", "created": self._created, "last_heartbeat": stamp(), "pid": os.getpid()}
        write(self._directory / f"agent_{self._identity}.json", document)

    def _work(self) -> bool:
        """Do one piece of work, if there is one that nobody else has claimed."""
        for pending in sorted(self._directory.glob("work_*.json")):
            claimed = pending.with_name(pending.name.replace("work_", "claimed_", 1))
            try:
                pending.rename(claimed)
            except FileNotFoundError:
                continue  # another agent was faster
            document = json.loads(claimed.read_text()) | {"status": "claimed", "claimed_by": self._identity, "claimed_at": stamp()}
            write(claimed, document)
            self.ended.wait(self._random.uniform(*_WORK_SECONDS))
            document |= {"status": "completed", "finished": stamp(), "result": {"delivered": True}}
            write(claimed.with_name(claimed.name.replace("claimed_", "completed_", 1)), document)
            claimed.unlink()
            return True
        return False


def main(directory: str, identity: str) -> None:
    """Run one agent until it is told to end."""
    agent = Agent(Path(directory), identity)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.ended.set())
    leash.hold()
    leash.announce({"pid": os.getpid()})
    agent.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
