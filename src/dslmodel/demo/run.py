"""The demonstration: start everything, learn what is normal, break one thing after the other, read what the daemon made of it."""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from opentelemetry.trace import SpanKind

from dslmodel.clock import Clock, SystemClock
from dslmodel.demo.child import clean
from dslmodel.demo.daemon import Daemon
from dslmodel.demo.faults import FAULTS, Diagnosis, Fault, diagnose, judge
from dslmodel.demo.report import FaultResult, Report
from dslmodel.demo.system import System
from dslmodel.demo.topology import SERVICES
from dslmodel.demo.tracing import provider

SPAN_NAME = "swarmsh.e2e.complete_cycle"
OWN_RESOURCE: Mapping[str, str | bool] = {"service.name": "dslmodel", "dslmodel.own": True}
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long each part may take, in seconds."""

    baseline: float  # data that a baseline needs before it may raise
    learn_at_most: float
    find_at_most: float
    hold: float  # how long a fault lasts at least, so that what follows from it shows too
    close_at_most: float
    pause: float  # quiet time between faults


FULL = Pace(baseline=15.0, learn_at_most=45.0, find_at_most=25.0, hold=6.0, close_at_most=45.0, pause=1.0)
FAST = Pace(baseline=10.0, learn_at_most=25.0, find_at_most=14.0, hold=3.0, close_at_most=20.0, pause=0.5)
_MIN_SPANS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """A fault that has been repaired, with the diagnosis as it stood then; what it raised may still be open."""

    fault: Fault
    began_at: int
    ended_at: int
    during: Diagnosis


Say = Callable[[str], None]


class Demonstration:
    """Runs the demonstration once. `say` is told what happens, a sentence at a time."""

    def __init__(self, *, is_fast: bool, environment: Mapping[str, str], say: Say, clock: Clock | None = None) -> None:
        self._is_fast = is_fast
        self._pace = FAST if is_fast else FULL
        self._environment = clean(environment)
        self._say = say
        self._clock = clock or SystemClock()

    def run(self, *, record: Path | None = None) -> Report:
        """Run it; everything that was started has ended when this returns or raises.

        Args:
            record: file for the daemon's recording, which replays to the same findings.

        Raises:
            DslModelError: a process of the system, or the daemon, did not start or went down.
        """
        started_at = self._clock.now()
        with tempfile.TemporaryDirectory(prefix="dslmodel-demo-", ignore_cleanup_errors=True) as folder:
            directory = Path(folder)
            coordination = directory / "coordination"
            self._say("starting the daemon")
            with Daemon(directory=directory, coordination=coordination, environment=self._environment) as daemon:
                daemon.start(min_seconds=self._pace.baseline, min_spans=_MIN_SPANS, record=record.resolve() if record else None)
                self._say(f"starting {len(SERVICES)} services, their proxy, users and agents")
                with System(directory=directory, coordination=coordination, otlp=daemon.otlp, environment=self._environment) as system:
                    report = self._demonstrate(started_at, daemon, system)
                emit(daemon.otlp, report)
                return report

    def _demonstrate(self, started_at: int, daemon: Daemon, system: System) -> Report:
        ready_at = self._clock.now()
        self._say(f"learning what is normal (a baseline takes {self._pace.baseline:g} s)")
        self._learn(daemon)
        learnt_at = self._clock.now()
        results = self._break_all(daemon, system)
        provoked = {finding.id for result in results for finding in result.diagnosis.raised}
        status = daemon.status()
        return Report(
            started_at=started_at,
            ended_at=self._clock.now(),
            startup_seconds=(ready_at - started_at) / 1e9,
            baseline_seconds=(learnt_at - ready_at) / 1e9,
            processes=len(system.processes()) + 1,
            is_fast=self._is_fast,
            services=list(SERVICES),
            faults=results,
            unprovoked=[finding for finding in daemon.findings() if finding.id not in provoked],
            load=system.load_counts(),
            spans=status["spans"],
            agents=status["agents"],
        )

    def _learn(self, daemon: Daemon) -> None:
        """Wait until every service has a baseline; what is not learnt by then will show as unseen."""

        def is_learnt() -> bool:
            status = daemon.status()
            return set(SERVICES) <= set(status["span_counts"]) and not set(SERVICES) & set(status["learning"])

        if not self._wait(is_learnt, self._pace.learn_at_most):
            self._say("not every baseline is ready, going on")

    def _break_all(self, daemon: Daemon, system: System) -> list[FaultResult]:
        """One fault after the other. While the findings of one close, the next may begin where the former could not reach."""
        results: list[FaultResult] = []
        ended: list[_Ended] = []
        for fault in FAULTS:
            for former in [former for former in ended if former.fault.scope & fault.scope]:
                results.append(self._conclude(former, daemon))
                ended.remove(former)
            ended.append(self._break(fault, daemon, system))
        results += [self._conclude(former, daemon) for former in ended]
        return sorted(results, key=lambda result: result.began_at)

    def _break(self, fault: Fault, daemon: Daemon, system: System) -> "_Ended":
        time.sleep(self._pace.pause)
        began_at = fault.begin(system)
        self._say(f"{fault.what} …")
        self._wait(lambda: _diagnosis(fault, began_at, daemon).blamed[:1] == [fault.service], self._pace.find_at_most)
        time.sleep(max(0.0, self._pace.hold - (self._clock.now() - began_at) / 1e9))
        during = _diagnosis(fault, began_at, daemon)
        self._say(_describe(during, began_at))
        return _Ended(fault=fault, began_at=began_at, ended_at=fault.end(system), during=during)

    def _conclude(self, ended: "_Ended", daemon: Daemon) -> FaultResult:
        """Wait until everything that a fault raised has closed."""
        waited = (self._clock.now() - ended.ended_at) / 1e9
        self._wait(lambda: _diagnosis(ended.fault, ended.began_at, daemon).is_closed, self._pace.close_at_most - waited)
        after = _diagnosis(ended.fault, ended.began_at, daemon)
        return FaultResult(
            fault=ended.fault,
            began_at=ended.began_at,
            ended_at=ended.ended_at,
            diagnosis=replace(after, blamed=ended.during.blamed) if ended.during.expected else after,
            verdict=judge(ended.fault, ended.during, is_closed=after.is_closed),
        )

    @staticmethod
    def _wait(is_so: Callable[[], bool], at_most_seconds: float) -> bool:
        deadline = time.monotonic() + at_most_seconds
        while not is_so():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True


def emit(otlp: str, report: Report) -> None:
    """Send the demonstration's own span to the daemon, marked as ours so that it is not taken for the system's."""
    spans = provider(otlp, OWN_RESOURCE)
    tracer = spans.get_tracer("dslmodel.demo")
    attributes = report.span_attributes()
    tracer.start_span(SPAN_NAME, kind=SpanKind.INTERNAL, start_time=report.started_at, attributes=attributes).end(report.ended_at)
    spans.shutdown()


def _diagnosis(fault: Fault, began_at: int, daemon: Daemon) -> Diagnosis:
    findings = [finding for finding in daemon.findings() if finding.at >= began_at and finding.service in fault.scope]
    return diagnose(fault, findings, daemon.incidents())


def _describe(diagnosis: Diagnosis, began_at: int) -> str:
    if diagnosis.expected is None:
        return "  not seen"
    found = diagnosis.expected
    seconds = (found.at - began_at) / 1e9
    blamed = diagnosis.blamed[0] if diagnosis.blamed else "nobody"
    return f"  {found.pattern} on {found.service} after {seconds:.1f} s, root cause {blamed}"
