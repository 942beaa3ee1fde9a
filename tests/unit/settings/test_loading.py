"""Precedence, origins, names, and what is said about bad values."""

import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dslmodel.errors import ConfigurationError
from dslmodel.settings import Limits, Server, Settings, check, load, load_settings, quick_value
from dslmodel.settings.loading import _validate, setting_paths, value_of
from dslmodel.settings.names import key_of, variable_of
from dslmodel.settings.sources import Layers, config_files, put_all

DOCUMENTED = {
    "DSLMODEL_TELEMETRY_WINDOW_SECONDS": ("telemetry.window_seconds", "30", 30.0),
    "DSLMODEL_HEALTH_CHECK_INTERVAL": ("telemetry.health_check_interval_seconds", "5", 5.0),
    "DSLMODEL_REMEDIATION_ENABLED": ("remediation.enabled", "true", True),
    "DSLMODEL_REMEDIATION_MAX_CONCURRENT": ("remediation.max_concurrent", "5", 5),
    "DSLMODEL_REMEDIATION_CONFIDENCE_THRESHOLD": ("remediation.confidence_threshold", "0.8", 0.8),
    "DSLMODEL_SECURITY_THREAT_THRESHOLD": ("security.threat_threshold", "0.3", 0.3),
    "DSLMODEL_SECURITY_EVENT_RETENTION_HOURS": ("security.event_retention_hours", "48", 48.0),
    "DSLMODEL_SECURITY_MONITORING": ("security.monitoring", "false", False),
    "DSLMODEL_API_PORT": ("server.api_port", "0", 0),
    "DSLMODEL_OTLP_GRPC_PORT": ("server.otlp_grpc_port", "14317", 14317),
    "DSLMODEL_OTLP_HTTP_PORT": ("server.otlp_http_port", "14318", 14318),
    "DSLMODEL_BIND": ("server.bind", "::1", "::1"),
    "DSLMODEL_DATABASE_URL": ("database_url", "sqlite:///x.db", "sqlite:///x.db"),
}


@pytest.fixture
def home(tmp_path):
    """Variables and a working directory that hold nothing."""
    (tmp_path / "work").mkdir()
    return {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}, tmp_path / "work"


def write(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def problem(home, environ=(), **arguments):
    with pytest.raises(ConfigurationError) as caught:
        load(environ={**home[0], **dict(environ)}, directory=home[1], **arguments)
    return str(caught.value)


def test_settings_read_nothing_by_themselves(monkeypatch, tmp_path):
    monkeypatch.setenv("DSLMODEL_API_PORT", "1")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "dslmodel.toml", "[server]\napi_port = 2\n")
    assert Settings().server.api_port == 8020


def test_nothing_set_gives_the_defaults(home):
    loaded = load(environ=home[0], directory=home[1])
    assert loaded.settings == Settings()
    assert not loaded.warnings
    assert str(loaded.origin("server.bind")) == "default"


@pytest.mark.parametrize("variable", DOCUMENTED)
def test_documented_variable_works(home, variable):
    path, text, expected = DOCUMENTED[variable]
    loaded = load(environ={**home[0], variable: text}, directory=home[1])
    assert value_of(loaded.settings, path) == expected
    assert str(loaded.origin(path)) == variable
    assert not loaded.warnings


def test_every_setting_has_its_own_variable_and_key_and_says_what_it_is():
    paths = setting_paths()
    assert len({variable_of(path) for path in paths}) == len({key_of(path) for path in paths}) == len(paths)
    for path in paths:
        group, _, name = path.rpartition(".")
        model = Settings.model_fields[group].annotation if group else Settings
        assert model.model_fields[name].description, path


def test_a_later_layer_overrides_an_earlier_one(home, tmp_path):
    environ, work = home
    user, local = tmp_path / "xdg/dslmodel/dslmodel.toml", work / "dslmodel.toml"
    path, variable = "remediation.max_concurrent", "DSLMODEL_REMEDIATION_MAX_CONCURRENT"
    layers = [
        (lambda: write(user, "[remediation]\nmax_concurrent = 11\n"), 11, f"{user}: {path}"),
        (lambda: write(local, "[remediation]\nmax_concurrent = 12\n"), 12, f"{local}: {path}"),
        (lambda: environ.update({variable: "13"}), 13, variable),
    ]
    for put, expected, origin in layers:
        put()
        loaded = load(environ=environ, directory=work)
        assert (loaded.settings.remediation.max_concurrent, str(loaded.origin(path))) == (expected, origin)
    loaded = load(environ=environ, directory=work, state={path: 14})
    assert (loaded.settings.remediation.max_concurrent, loaded.origin(path).kind) == (14, "command")
    loaded = load(environ=environ, directory=work, state={path: 14}, flags={path: 15, "server.bind": None})
    assert (loaded.settings.remediation.max_concurrent, str(loaded.origin(path))) == (15, "--max-concurrent")
    assert loaded.files == [user, local]


def test_files_are_looked_for_in_the_system_the_user_and_the_working_directory(tmp_path):
    assert [str(file) for file in config_files({"HOME": "/home/u"}, tmp_path)] == [
        "/etc/dslmodel/dslmodel.toml",
        "/home/u/.config/dslmodel/dslmodel.toml",
        f"{tmp_path}/dslmodel.toml",
    ]
    assert len(config_files({}, tmp_path)) == 2


def test_layers_override_single_values_and_not_whole_groups(home):
    write(home[1] / "dslmodel.toml", "[detection]\nmin_spans = 7\nmin_seconds = 8\n")
    detection = load_settings(environ={**home[0], "DSLMODEL_DETECTION_MIN_SPANS": "9"}, directory=home[1]).detection
    assert (detection.min_spans, detection.min_seconds) == (9, 8)


def test_sizes_weights_and_headers_read_as_people_write_them(home):
    write(home[1] / "dslmodel.toml", '[limits]\nbody_bytes = "1.5 MiB"\n[forward]\nheaders = { a = "b" }\n')
    environ = {
        **home[0],
        "DSLMODEL_LIMITS_QUEUE_BYTES": "64MB",
        "DSLMODEL_HEALTH_STREAM_WEIGHTS": "error=0.7, latency=0.1,throughput=0.1,pattern=0.1",
    }
    settings = load_settings(environ=environ, directory=home[1])
    assert settings.limits.body_bytes == 1536 * 1024
    assert settings.limits.queue_bytes == 64_000_000
    assert settings.forward.headers == {"a": "b"}
    assert settings.health.weights["error"] == 0.7


def test_ports_that_somebody_set_are_known(home):
    assert load_settings(environ=home[0], directory=home[1]).server.explicit_ports == frozenset()
    settings = load_settings(environ={**home[0], "DSLMODEL_API_PORT": "8020"}, directory=home[1], flags={"server.otlp_grpc_port": 0})
    assert settings.server.explicit_ports == {"api_port", "otlp_grpc_port"}


def test_files_named_in_a_file_are_relative_to_it(home, tmp_path):
    write(tmp_path / "xdg/dslmodel/dslmodel.toml", '[server]\ntoken_file = "token"\nbind = "0.0.0.0"\n')
    assert load_settings(environ=home[0], directory=home[1]).server.token_file == tmp_path / "xdg/dslmodel/token"


BAD = [
    ({"DSLMODEL_API_PORT": "70000"}, "DSLMODEL_API_PORT=70000: must be less than or equal to 65535"),
    ({"DSLMODEL_API_PORT": "http"}, "DSLMODEL_API_PORT=http: must be a valid integer"),
    ({"DSLMODEL_TELEMETRY_WINDOW_SECONDS": "0"}, "DSLMODEL_TELEMETRY_WINDOW_SECONDS=0: must be greater than or equal to 1"),
    ({"DSLMODEL_TELEMETRY_WINDOW_SECONDS": "nan"}, "DSLMODEL_TELEMETRY_WINDOW_SECONDS=nan: must be a finite number"),
    ({"DSLMODEL_REMEDIATION_ENABLED": "perhaps"}, "DSLMODEL_REMEDIATION_ENABLED=perhaps: must be a valid boolean"),
    ({"DSLMODEL_SECURITY_THREAT_THRESHOLD": "1.5"}, "DSLMODEL_SECURITY_THREAT_THRESHOLD=1.5: must be less than or equal to 1"),
    ({"DSLMODEL_LIMITS_BODY_BYTES": "16 parsecs"}, "DSLMODEL_LIMITS_BODY_BYTES=16 parsecs: must be a number of bytes"),
    ({"DSLMODEL_LIMITS_BODY_BYTES": "9" * 400}, "must be a number of bytes"),
    ({"DSLMODEL_LIMITS_SERIES": "9" * 5000}, "DSLMODEL_LIMITS_SERIES=9"),
    ({"DSLMODEL_FORWARD_PROTOCOL": "smtp"}, "DSLMODEL_FORWARD_PROTOCOL=smtp: must be 'grpc' or 'http/protobuf'"),
    ({"DSLMODEL_FORWARD_HEADERS": "secret"}, "DSLMODEL_FORWARD_HEADERS=********: must be name=value pairs"),
    ({"DSLMODEL_HEALTH_STREAM_WEIGHTS": "error=1"}, "must have exactly the weights error, latency, throughput, pattern"),
    ({"DSLMODEL_HEALTH_STREAM_WEIGHTS": "error=1,latency=1,throughput=0,pattern=0"}, "sum to 1, they sum to 2"),
    ({"DSLMODEL_HEALTH_STREAM_WEIGHTS": "error=x,latency=1,throughput=0,pattern=0"}, "error must be a valid number"),
    ({"DSLMODEL_BIND": "0.0.0.0"}, "DSLMODEL_BIND=0.0.0.0: a bind address that other machines reach needs token_file"),
    ({"DSLMODEL_SERVER_TLS_KEY": "k.pem"}, "DSLMODEL_SERVER_TLS_KEY=k.pem: tls_certificate and tls_key go together"),
    ({"DSLMODEL_DATABASE_URL": "postgresql://u:p@h/d"}, "DSLMODEL_DATABASE_URL=********: must be sqlite:///PATH"),
    ({"DSLMODEL_LIMITS_INFLATED_BYTES": "1MiB"}, "DSLMODEL_LIMITS_INFLATED_BYTES=1MiB: inflated_bytes must be at least body_bytes"),
]


@pytest.mark.parametrize(("environ", "expected"), BAD)
def test_a_bad_variable_is_named_with_value_and_rule(home, environ, expected):
    assert expected in problem(home, environ)


BAD_FILES = [
    ("[server]\napi_port = true\n", "server.api_port = True: must be a number"),
    ("[server]\napi_port = -1\n", "server.api_port = -1: must be greater than or equal to 0"),
    ("server = 5\n", "server: must be a table, [server]"),
    ("[server\n", "is not valid TOML"),
    ("[limits]\nbody_bytes = [1]\n", "limits.body_bytes = [1]: must be a valid integer"),
]


@pytest.mark.parametrize(("text", "expected"), BAD_FILES)
def test_a_bad_file_is_named_with_key_value_and_rule(home, text, expected):
    write(home[1] / "dslmodel.toml", text)
    message = problem(home)
    assert message.startswith(str(home[1] / "dslmodel.toml"))
    assert expected in message


def test_a_file_that_is_not_text_or_not_a_file_is_named(home):
    (home[1] / "dslmodel.toml").write_bytes(b"\xff\xfe")
    assert "is not valid TOML" in problem(home)
    (home[1] / "dslmodel.toml").unlink()
    (home[1] / "dslmodel.toml").mkdir()
    assert "can't be read: Is a directory" in problem(home)


def test_several_problems_are_reported_together(home):
    write(home[1] / "dslmodel.toml", "[detection]\nmin_spans = 0\n")
    message = problem(home, {"DSLMODEL_API_PORT": "x"}, flags={"server.prot": 1})
    assert message.startswith("3 settings are wrong:")
    assert "detection.min_spans = 0" in message
    assert "DSLMODEL_API_PORT=x" in message
    assert "flag server.prot: no such setting" in message


UNKNOWN = [
    ("DSLMODEL_TELEMETRY_WINDOW_SECOND", "did you mean DSLMODEL_TELEMETRY_WINDOW_SECONDS?"),
    ("DSLMODEL_HEALTH_CHECK_INTERVALS", "did you mean DSLMODEL_HEALTH_CHECK_INTERVAL?"),
    ("DSLMODEL_OTLP_PORT", "no such variable"),
    ("DSLMODEL_ZZZ", "DSLMODEL_ZZZ: no such variable"),
]


@pytest.mark.parametrize(("name", "expected"), UNKNOWN)
def test_an_unknown_variable_is_a_warning_with_the_likely_name(home, name, expected):
    loaded = load(environ={**home[0], name: "1"}, directory=home[1])
    assert loaded.settings == Settings()
    assert len(loaded.warnings) == 1
    assert expected in loaded.warnings[0]


def test_an_unknown_key_is_a_warning_with_the_likely_name(home):
    write(home[1] / "dslmodel.toml", "[server]\napi_prot = 1\n[sever]\nx = 1\n[health.weights]\nerror = 1\n")
    warnings = "\n".join(load(environ=home[0], directory=home[1]).warnings)
    assert "server.api_prot: no such setting, did you mean server.api_port?" in warnings
    assert "sever: no such setting, did you mean server?" in warnings
    assert "health.weights: no such setting, did you mean health.stream_weights?" in warnings


def test_a_persisted_name_of_another_version_does_not_stop_a_start(home):
    loaded = load(environ=home[0], directory=home[1], state={"remediation.mood": "good"})
    assert loaded.warnings[0].startswith("command remediation.mood: no such setting")


def test_kubernetes_service_links_are_ignored(home):
    links = {
        "DSLMODEL_SERVICE_HOST": "10.0.0.1",
        "DSLMODEL_TELEMETRY_SERVICE_HOST": "10.0.0.1",
        "DSLMODEL_TELEMETRY_SERVICE_PORT": "8020",
        "DSLMODEL_TELEMETRY_SERVICE_PORT_HTTP": "8020",
        "DSLMODEL_TELEMETRY_PORT": "tcp://10.0.0.1:8020",
        "DSLMODEL_PORT": "tcp://10.0.0.1:8020",
        "DSLMODEL_PORT_8020_TCP": "tcp://10.0.0.1:8020",
        "DSLMODEL_PORT_8020_TCP_PROTO": "tcp",
        "DSLMODEL_PORT_8020_TCP_PORT": "8020",
        "DSLMODEL_PORT_8020_TCP_ADDR": "10.0.0.1",
    }
    loaded = load(environ={**home[0], **links}, directory=home[1])
    assert (loaded.settings, list(loaded.warnings)) == (Settings(), [])


def test_a_service_link_that_has_the_name_of_a_port_is_no_port(home):
    loaded = load(environ={**home[0], "DSLMODEL_API_PORT": "tcp://10.0.0.1:8020"}, directory=home[1])
    assert loaded.settings.server.explicit_ports == frozenset()
    assert "looks like a Kubernetes service link" in loaded.warnings[0]


def test_an_empty_variable_counts_as_unset(home):
    loaded = load(environ={**home[0], "DSLMODEL_API_PORT": "", "DSLMODEL_DATABASE_URL": " "}, directory=home[1])
    assert (loaded.settings, dict(loaded.origins)) == (Settings(), {})


@pytest.mark.parametrize(("value", "unusual"), [("0.59", True), ("0.6", False), ("0.9", False), ("0.95", True), ("1", True)])
def test_an_unusual_confidence_threshold_is_a_warning(home, value, unusual):
    environ = {**home[0], "DSLMODEL_REMEDIATION_CONFIDENCE_THRESHOLD": value}
    assert bool(load(environ=environ, directory=home[1]).warnings) is unusual


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_token(bind):
    assert Server(bind=bind).token_file is None


def test_the_database_is_in_the_state_directory_unless_set(tmp_path):
    assert Settings().database_file(tmp_path) == tmp_path / "state.db"
    assert str(Settings(database_url="sqlite:////var/lib/x.db").database_file(tmp_path)) == "/var/lib/x.db"


def test_groups_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Limits().series = 3


def test_quick_value_reads_variables_and_files_without_pydantic(home):
    write(home[1] / "dslmodel.toml", '[server]\ntoken_file = "t"\n')
    assert quick_value("server.token_file", environ=home[0], directory=home[1]) == str(home[1] / "t")
    assert quick_value("server.token_file", environ={**home[0], "DSLMODEL_TOKEN_FILE": "/t"}, directory=home[1]) == "/t"
    assert quick_value("server.bind", environ=home[0], directory=home[1]) is None
    code = "import sys, dslmodel.settings as s; s.quick_value; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.dates()
    | st.sampled_from(["9" * 400, "1e999", "-1 MiB", "a=1,b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(setting_paths()), ANYTHING, max_size=5))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_value_is_either_taken_or_named_as_wrong(values):
    layers = Layers()
    put_all(layers, setting_paths(), values, "flag")
    taken = _validate(layers)
    assert (taken is None) == bool(layers.errors)
    for error in layers.errors:
        assert any(str(layers.origins[path]) in error for path in layers.origins)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_in_a_file_is_read_or_refused_by_name(home, text):
    write(home[1] / "dslmodel.toml", text)
    layers = check(environ=home[0], directory=home[1])
    for problem in [*layers.errors, *layers.unknown]:
        assert problem.startswith(str(home[1] / "dslmodel.toml"))
