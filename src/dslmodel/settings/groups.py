"""The settings themselves: their names, defaults, rules and meaning. `Settings()` is all defaults and reads nothing."""

import math
import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
KIB, MIB = 2**10, 2**20
_SQLITE = "sqlite:///"


def _size(value: object) -> object:
    """`16 MiB` as bytes; anything that is not text is left to the next rule."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,15})?)\s*([a-zA-Z]*)\s*", value)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError('must be a number of bytes, or a size such as "64 MiB" (units: kB MB GB KiB MiB GiB)')
    return round(float(match[1]) * _UNITS[match[2].lower()])


def _pairs(value: object) -> object:
    """`a=1,b=2` as a mapping, the form that variables use."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not all(name.strip() and separator for name, separator, _ in pairs):
        raise ValueError("must be name=value pairs separated by commas")
    return {name.strip(): text.strip() for name, _, text in pairs}


def _blank_is_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _sqlite_url(value: str | None) -> str | None:
    if value is not None and (not value.startswith(_SQLITE) or value == _SQLITE):
        raise ValueError(f"must be {_SQLITE}PATH (four slashes for an absolute path)")
    return value


def _weights(*names: str) -> AfterValidator:
    """Weights by exactly these names, none negative, that sum to 1."""

    def check(value: Mapping[str, float]) -> Mapping[str, float]:
        if set(value) != set(names):
            raise ValueError(f"must have exactly the weights {', '.join(names)}")
        if min(value.values()) < 0 or not math.isclose(sum(value.values()), 1, abs_tol=1e-6):
            raise ValueError(f"weights must be 0 or more and sum to 1, they sum to {sum(value.values()):g}")
        return {name: value[name] for name in names}

    return AfterValidator(check)


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches the address. Names other than localhost may be anything, so they are not."""
    try:
        return ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return address == "localhost"


Size = Annotated[int, BeforeValidator(_size), Field(ge=1024)]
Port = Annotated[int, Field(ge=0, le=65535)]
Ratio = Annotated[float, Field(ge=0, le=1)]
OptionalText = Annotated[str | None, BeforeValidator(_blank_is_none)]
OptionalPath = Annotated[Path | None, BeforeValidator(_blank_is_none)]


class Group(BaseModel):
    """A frozen group of settings. Unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_as_number(cls, value: object, info: ValidationInfo) -> object:
        """`true` is no number, though Python thinks so."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in {int, float}:
            raise ValueError("must be a number")
        return value


class Telemetry(Group):
    """What is reported of the span stream, and how often."""

    window_seconds: float = Field(default=60.0, ge=1, le=3600)
    """Span of the reported metrics. Detectors choose their own spans."""
    health_check_interval_seconds: float = Field(default=10.0, ge=1, le=3600)
    """Cycle of health history and of subscribers. Detection and the snapshot tick every second whatever this says."""


class Server(Group):
    """Where the daemon listens and who may talk to it."""

    bind: str = Field(default="127.0.0.1", min_length=1)
    """Address of all listeners. Anything but loopback needs `token_file`."""
    api_port: Port = 8020
    """Port of the API (status, findings, /livez, /readyz, /metrics). 0 takes any free one and writes it to daemon.json."""
    otlp_grpc_port: Port = 4317
    """Port of the OTLP/gRPC receiver. 0 takes any free one."""
    otlp_http_port: Port = 4318
    """Port of the OTLP/HTTP receiver. 0 takes any free one."""
    token_file: OptionalPath = None
    """File (mode 0600) with the token that calls must bear. Without it, one is created in the state folder for changing calls."""
    tls_certificate: OptionalPath = None
    """PEM certificate chain. With `tls_key`, all listeners speak TLS."""
    tls_key: OptionalPath = None
    """PEM private key of `tls_certificate`."""
    explicit_ports: frozenset[str] = frozenset()
    """Names of the ports that somebody set. A port that was set and is taken stops the start; a default that is taken does not."""

    @model_validator(mode="after")
    def _consistent(self) -> "Server":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together: set both or neither")
        if not is_loopback(self.bind) and self.token_file is None:
            raise ValueError("a bind address that other machines reach needs token_file (a file with mode 0600 that holds the token)")
        return self


class Limits(Group):
    """Bounds on everything that other programs can make large."""

    body_bytes: Size = 16 * MIB
    """Largest request body as it arrives. More is answered with 413."""
    inflated_bytes: Size = 64 * MIB
    """Largest request body after decompression."""
    nesting: int = Field(default=64, ge=8, le=100)
    """Deepest nesting of a payload. 100 is protobuf's own limit."""
    attributes: int = Field(default=128, ge=1)
    """Most attributes of one span; the rest are left out and counted."""
    attribute_bytes: Size = 16 * KIB
    """Longest attribute value, in characters, that is read. A longer one counts as absent."""
    queue_items: int = Field(default=10_000, ge=1)
    """Most payloads that wait for the pipeline. When full, exporters are told to come back later."""
    queue_bytes: Size = 256 * MIB
    """Most bytes that wait for the pipeline."""
    series: int = Field(default=10_000, ge=10)
    """Most series (service, operation, kind, version) kept. Beyond it spans count under `other`."""
    operations_per_service: int = Field(default=200, ge=1)
    """Most operations kept of one service."""
    span_cache: int = Field(default=200_000, ge=1000)
    """Most span ids remembered to join callers with callees."""
    late_seconds: int = Field(default=30, ge=0, le=3600)
    """Spans up to this old still merge into their second. Older ones count as late."""
    settle_seconds: int = Field(default=6, ge=0, le=600)
    """How long a span waits for its children before its self time is taken. Exporters batch every 5 s by default."""

    @model_validator(mode="after")
    def _inflated_at_least_body(self) -> "Limits":
        if self.inflated_bytes < self.body_bytes:
            raise ValueError("inflated_bytes must be at least body_bytes")
        return self


class Forward(Group):
    """Everything accepted is passed on to another OTLP endpoint, so that DSLModel can stand in front of it."""

    endpoint: OptionalText = None
    """URL of the next OTLP endpoint, e.g. http://collector:4317. Unset: nothing is forwarded."""
    protocol: Literal["grpc", "http/protobuf"] = "grpc"
    """How the next endpoint is spoken to."""
    queue_bytes: Size = 64 * MIB
    """Most bytes that wait to be forwarded. When full, the oldest are dropped and counted."""
    timeout_seconds: float = Field(default=10.0, gt=0, le=300)
    """How long one forwarded request may take."""
    headers: Annotated[Mapping[str, str], BeforeValidator(_pairs)] = {}
    """Headers of forwarded requests, e.g. for authorization. As a variable: name=value,name=value."""


class Detection(Group):
    """When a baseline is ready, and how long findings are kept."""

    min_spans: int = Field(default=100, ge=1)
    """Spans that a baseline needs before it may raise a finding."""
    min_seconds: float = Field(default=300.0, ge=1)
    """Seconds of data that a baseline needs before it may raise a finding."""
    retention_hours: float = Field(default=168.0, gt=0)
    """How long findings and incidents are kept."""
    max_findings: int = Field(default=10_000, ge=1)
    """Most findings and incidents kept, whatever their age."""


class Health(Group):
    """What the health numbers are made of. Weights sum to 1."""

    weights: Annotated[Mapping[str, float], BeforeValidator(_pairs), _weights("error", "latency", "throughput", "pattern")] = {
        "error": 0.4,
        "latency": 0.3,
        "throughput": 0.2,
        "pattern": 0.1,
    }
    """Components of the span stream's health score."""


class Remediation(Group):
    """What may be done about findings."""

    enabled: bool = False
    """True records what would be done (shadow). It never acts: only `enable-remediation --live` does."""
    max_concurrent: int = Field(default=3, ge=1, le=1000)
    """Most actions at the same time. The rest wait, visibly."""
    confidence_threshold: Ratio = 0.7
    """Least confidence of a decision that is acted upon. Outside .6 to .9 is unusual and gives a warning."""


class Security(Group):
    """Request-level detection."""

    threat_threshold: Ratio = 0.5
    """Score from which a threat is at least of level medium."""
    event_retention_hours: float = Field(default=24.0, gt=0)
    """How long security events are kept."""
    monitoring: bool = True
    """Whether requests seen in spans are looked at."""


class Settings(Group):
    """Everything that can be set. Frozen; `Settings()` is all defaults and reads nothing."""

    telemetry: Telemetry = Telemetry()
    server: Server = Server()
    limits: Limits = Limits()
    forward: Forward = Forward()
    detection: Detection = Detection()
    health: Health = Health()
    remediation: Remediation = Remediation()
    security: Security = Security()
    database_url: Annotated[str | None, BeforeValidator(_blank_is_none), AfterValidator(_sqlite_url)] = None
    """Where findings, incidents and baselines are kept: sqlite:///PATH. Unset: `<coordination directory>/.dslmodel/state.db`."""

    def database_file(self, state_directory: Path) -> Path:
        """The SQLite file, given the state directory it is in when nothing else is set."""
        return state_directory / "state.db" if self.database_url is None else Path(self.database_url.removeprefix(_SQLITE))
