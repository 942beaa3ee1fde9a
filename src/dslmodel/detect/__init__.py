"""Detection: window batches and measured windows in, findings and incidents out.

Takes sealed batches, resource samples, agents' states and the time. Gives findings, incidents and what is learning. Owns the baselines,
what is open, and the call graph. Never reads a clock, the environment or a file, and never acts.
"""

from dslmodel.detect.base import Detector
from dslmodel.detect.cascade_failure import CascadeFailure
from dslmodel.detect.error_spike import ErrorSpike
from dslmodel.detect.latency_increase import LatencyIncrease
from dslmodel.detect.resource_exhaustion import ResourceExhaustion
from dslmodel.detect.throughput_drop import ThroughputDrop
from dslmodel.detect.unhealthy_agents import UnhealthyAgents

DETECTORS: tuple[Detector, ...] = (
    ErrorSpike(),
    LatencyIncrease(),
    ThroughputDrop(),
    CascadeFailure(),
    ResourceExhaustion(),
    UnhealthyAgents(),
)
