"""Whether DSLModel exports telemetry of its own, by the variables of the OpenTelemetry specification. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

_SIGNALS = ("traces", "metrics", "logs")
_DEFAULT_PORTS = {"grpc": 4317}  # the HTTP protocols use 4318
_OURSELVES = {"localhost", "127.0.0.1", "::1", "0.0.0.0", "::", ""}  # noqa: S104  compared with, not bound to


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTelemetry:
    """Signals to export about ourselves, and why others are not."""

    signals: frozenset[str] = frozenset()  # of traces, metrics, logs
    reasons: Mapping[str, str]  # by signal that is not exported

    @property
    def enabled(self) -> bool:
        """Whether anything is exported at all."""
        return bool(self.signals)


def own_telemetry(environ: Mapping[str, str], *, own_ports: Collection[int], own_hosts: Collection[str] = ()) -> OwnTelemetry:
    """What to export about ourselves: only what somebody asked for, and never into our own receivers.

    Args:
        environ: variables; `OTEL_EXPORTER_OTLP_[<SIGNAL>_]ENDPOINT` or `OTEL_<SIGNAL>_EXPORTER` ask for a signal.
        own_ports: ports of our receivers and API.
        own_hosts: addresses we listen on, besides loopback.
    """
    signals, reasons = set(), {}
    for signal in _SIGNALS:
        reason = _reason_against(environ, signal, own_ports, {*_OURSELVES, *own_hosts})
        if reason:
            reasons[signal] = reason
        else:
            signals.add(signal)
    return OwnTelemetry(signals=frozenset(signals), reasons=reasons)


def _reason_against(environ: Mapping[str, str], signal: str, own_ports: Collection[int], own_hosts: Collection[str]) -> str:
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return "OTEL_SDK_DISABLED is true"
    exporters = _setting(environ, f"OTEL_{signal.upper()}_EXPORTER")
    endpoint = _setting(environ, f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    if exporters == "none":
        return f"OTEL_{signal.upper()}_EXPORTER is none"
    if not exporters and not endpoint:
        return "no endpoint or exporter is set"
    if exporters and "otlp" not in [name.strip() for name in exporters.split(",")]:
        return ""  # console and the like go nowhere near our ports
    protocol = _setting(environ, f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    host, port = _address(endpoint, _DEFAULT_PORTS.get(protocol or "grpc", 4318))
    if port in own_ports and host in own_hosts:
        return f"{host or 'localhost'}:{port} is our own port"
    return ""


def _setting(environ: Mapping[str, str], *names: str) -> str:
    """The first that is set; an empty variable counts as unset, as the specification says."""
    return next((environ[name].strip() for name in names if environ.get(name, "").strip()), "")


def _address(endpoint: str, default_port: int) -> tuple[str, int]:
    """Host and port of an endpoint with or without a scheme; what can't be understood is nowhere."""
    if not endpoint:
        return "localhost", default_port
    try:
        parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
        return (parts.hostname or "").lower(), parts.port or default_port
    except ValueError:
        return "invalid", 0
