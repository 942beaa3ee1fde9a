"""Closed-loop operations for OpenTelemetry. Public names live in `dslmodel.telemetry` and `dslmodel.remediation`.

This file stays empty of imports: `dsl telemetry status` is a liveness probe and pays for every one of them.
"""

__version__ = "0.1.0"
