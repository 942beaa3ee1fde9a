"""How a setting is called: its path in Python, its key in a file and its variable. Standard library only.

A path is `group.field` as in `Settings`. Key and variable follow from it, but for these that are part of the contract.
"""

FILE_NAME = "dslmodel.toml"
PREFIX = "DSLMODEL_"

_KEYS = {
    # `[health.weights]` in a file are the weights of the autonomous engine's formula, which is another number.
    "health.weights": "health.stream_weights",
}
_VARIABLES = {
    "telemetry.health_check_interval_seconds": "DSLMODEL_HEALTH_CHECK_INTERVAL",
    "server.bind": "DSLMODEL_BIND",
    "server.api_port": "DSLMODEL_API_PORT",
    "server.otlp_grpc_port": "DSLMODEL_OTLP_GRPC_PORT",
    "server.otlp_http_port": "DSLMODEL_OTLP_HTTP_PORT",
    "server.token_file": "DSLMODEL_TOKEN_FILE",
}
PORTS = ("server.api_port", "server.otlp_grpc_port", "server.otlp_http_port")
FILES = ("server.token_file", "server.tls_certificate", "server.tls_key")
SECRETS = ("forward.headers", "database_url")
UNSETTABLE = ("server.explicit_ports",)


def key_of(path: str) -> str:
    """The key of a setting in `dslmodel.toml`, with dots between tables."""
    return _KEYS.get(path, path)


def variable_of(path: str) -> str:
    """The environment variable of a setting."""
    return _VARIABLES.get(path) or PREFIX + key_of(path).replace(".", "_").upper()
