"""Coordination directories as a daemon leaves them: running, stopped, killed, hanging."""

import json
import os
import time

import orjson

from dslmodel.api.publisher import Publisher
from dslmodel.api.shapes import Surroundings
from dslmodel.engine.state import StateDirectory
from tests.unit.api.samples import report

RECEIVER = {"name": "otlp_grpc", "address": "127.0.0.1:4317", "bound": True, "problem": None}


def daemon_ran(coord_dir, *, age=0.2, lag=0.0, ticked=True, **changes):
    """A state directory with what a daemon of this very process wrote; `changes` go into daemon.json."""
    state = StateDirectory(coord_dir)
    state.create()
    identity = state.begin()
    state.announce(api="http://127.0.0.1:1", otlp_grpc="http://127.0.0.1:4317", otlp_http=None, token_file=str(state.path / "token"))
    if ticked:
        around = Surroundings(processing=True, receivers=[RECEIVER], dropped={"traces": 3})
        made = Publisher(state.write_snapshot, lambda: around, identity, lambda: time.time() - age)
        made.publish(report(lag_seconds=lag))
        made.flush()
    path = state.path / "daemon.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return state


def killed():
    """What daemon.json says after a kill -9: nothing changed, but the process is another one."""
    return {"process_start": "1", "pid": os.getpid()}


def snapshot_of(state):
    """The snapshot file's content."""
    return orjson.loads((state.path / "snapshot.json").read_bytes())
