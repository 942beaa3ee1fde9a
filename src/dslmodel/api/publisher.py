"""After each tick: the status document for readers, in memory for the API and in `snapshot.json` for everybody else."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from loguru import logger

from dslmodel.api.shapes import REMEDIATION_OFF, SECURITY_NONE, Shape, Surroundings, telemetry_shape
from dslmodel.engine import presence
from dslmodel.engine.runner import TickReport

_FAILURE_LOG_EVERY = 60


class Publisher:
    """Takes tick reports on the pipeline's thread; gives the last status document; writes it through `write`.

    While the engine catches up, one file a second is enough. A file that can't be written is counted and tried again.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        surroundings: Callable[[], Surroundings],
        identity: Mapping[str, Any],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._write = write
        self._surroundings = surroundings
        self._identity = identity
        self._now = now
        self._written = 0.0
        self._report: TickReport | None = None
        self.failures = 0
        self.document: Shape = self._document(None, Surroundings())

    def publish(self, report: TickReport) -> None:
        """Make the status of this tick known."""
        self._report = report
        moment = time.monotonic()
        if report.lag_seconds >= 1.0 and moment - self._written < 1.0:
            return
        self._written = moment
        self.flush()

    def flush(self) -> None:
        """Write the last tick's status now."""
        self.document = self._document(self._report, self._surroundings())
        try:
            self._write(orjson.dumps(self.document, option=orjson.OPT_NON_STR_KEYS))
        except OSError as error:
            self.failures += 1
            if self.failures % _FAILURE_LOG_EVERY == 1:
                logger.error("snapshot.json can't be written: {}; `dsl telemetry status` will call the daemon stale", error)

    def status(self) -> Shape:
        """`data` of `dsl --json telemetry status`, as of now."""
        document = self.document
        age = max(self._now() - document["written_at"], 0.0) + document["lag_seconds"] if self._report else None
        telemetry = {**document["telemetry"], "age_seconds": None if age is None else round(age, 3), "last_health_score": None}
        return {
            "telemetry": telemetry,
            "remediation": document["remediation"],
            "security": document["security"],
            "daemon": {key: self._identity.get(key) for key in presence.SHOWN},
        }

    def _document(self, report: TickReport | None, around: Surroundings) -> Shape:
        return {
            "daemon": self._identity.get("id"),
            "written_at": self._now(),
            "lag_seconds": report.lag_seconds if report else 0.0,
            "telemetry": telemetry_shape(report.ticked.snapshot if report else None, around),
            "remediation": REMEDIATION_OFF,
            "security": SECURITY_NONE,
        }
