"""`init`, `config view` and `config check`: what they write, show and refuse."""

import json
import tomllib
from importlib.resources import files

import jsonschema
import pytest

from dslmodel.cli import config
from dslmodel.cli.config_file import commented, for_this_machine, literal
from dslmodel.cli.output import Context, dump
from dslmodel.errors import ConfigurationError, DslModelError
from dslmodel.settings import Settings, load, process_environment
from dslmodel.settings.loading import setting_paths
from dslmodel.settings.names import key_of, variable_of

GIB = 2**30


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty working directory, and no settings from anywhere else."""
    for name in process_environment():
        if name.startswith(("DSLMODEL_", "LOGURU_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def test_init_writes_a_file_that_changes_no_default_and_explains_every_setting(place):
    reply = config.init()
    text = (place / "dslmodel.toml").read_text()
    assert reply.exit_code == 0
    assert reply.data["file"] == str(place / "dslmodel.toml")
    for path in setting_paths():
        assert variable_of(path) in text
    loaded = load()
    assert not loaded.warnings
    assert {key_of(path) for path in loaded.origins} == {key_of(path) for path in reply.data["set"]}


def test_every_line_of_the_file_is_valid_when_it_is_used(place):
    text = commented(Settings(), {}, "For a test.")
    live = "\n".join(line.removeprefix("# ") if " = " in line and not line.endswith(".") else line for line in text.splitlines())
    (place / "dslmodel.toml").write_text(live)
    loaded = load(environ={})
    assert loaded.settings.model_copy(update={"server": Settings().server}) == Settings()
    assert len(loaded.origins) == len(setting_paths())


def test_init_refuses_to_overwrite_and_force_keeps_the_old_file(place):
    (place / "dslmodel.toml").write_text("# mine\n")
    with pytest.raises(DslModelError, match=r"dslmodel\.toml exists; --force replaces it"):
        config.init()
    assert (place / "dslmodel.toml").read_text() == "# mine\n"
    assert config.init(force=True).data["kept"] == "dslmodel.toml.bak"
    assert (place / "dslmodel.toml.bak").read_text() == "# mine\n"
    assert sorted(file.name for file in place.iterdir()) == ["dslmodel.toml", "dslmodel.toml.bak"]


def test_taken_ports_are_replaced_by_free_ones():
    chosen = for_this_machine(Settings(), memory=16 * GIB, is_free=lambda port: port not in (4317, 4318, 5318))
    assert {path: value for path, (value, _) in chosen.items()} == {"server.otlp_grpc_port": 5317, "server.otlp_http_port": 6318}
    assert chosen["server.otlp_grpc_port"][1] == "4317 is taken on this machine."


def test_little_memory_gets_tighter_bounds_that_are_valid(place):
    chosen = for_this_machine(Settings(), memory=GIB // 2, is_free=lambda _port: True)
    (place / "dslmodel.toml").write_text(commented(Settings(), chosen, "Small."))
    limits = load(environ={}).settings.limits
    assert (limits.queue_bytes, limits.span_cache) == (32 * 2**20, 50_000)


def test_view_is_toml_that_says_where_values_come_from(place, monkeypatch):
    (place / "dslmodel.toml").write_text('[detection]\nmin_spans = 7\n[forward]\nheaders = { authorization = "secret" }\n')
    monkeypatch.setenv("DSLMODEL_API_PORT", "0")
    reply = config.view(origin=True)
    document = tomllib.loads(reply.text)
    assert (document["detection"]["min_spans"], document["server"]["api_port"]) == (7, 0)
    assert "min_spans = 7  # dslmodel.toml: detection.min_spans" in reply.text
    assert "api_port = 0  # DSLMODEL_API_PORT" in reply.text
    assert "otlp_grpc_port = 4317  # default" in reply.text
    assert "#" not in config.view().text
    rows = {row["key"]: row for row in reply.data["settings"]}
    assert rows["server.api_port"]["origin"] == "variable"
    assert rows["server.otlp_grpc_port"]["where"] == "default"
    assert "secret" not in reply.text + str(reply.data)


def test_view_of_the_defaults_is_valid_settings_again(place):
    text = config.view().text
    (place / "dslmodel.toml").write_text(text)
    assert load(environ={}).settings.detection == Settings().detection
    assert not load(environ={}).warnings


def test_check_accepts_what_is_right(place):
    (place / "dslmodel.toml").write_text("[detection]\nmin_spans = 7\n")
    reply = config.check()
    assert (reply.exit_code, reply.data["valid"], reply.errors) == (0, True, [])
    assert "dslmodel.toml" in reply.text


WRONG = [
    ({"DSLMODEL_API_PORT": "x"}, "DSLMODEL_API_PORT=x: must be a valid integer"),
    ({"DSLMODEL_API_PROT": "1"}, "did you mean DSLMODEL_API_PORT?"),
    ({"LOGURU_LEVEL": "loud"}, "LOGURU_LEVEL=loud"),
    ({"DSLMODEL_TOKEN_FILE": "/nonexistent/token"}, "token file /nonexistent/token"),
    ({"DSLMODEL_SERVER_TLS_KEY": "/no.pem", "DSLMODEL_SERVER_TLS_CERTIFICATE": "/no.pem"}, "/no.pem can't be read"),
]


@pytest.mark.parametrize(("environ", "expected"), WRONG)
def test_check_exits_3_and_names_what_is_wrong(monkeypatch, environ, expected):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    reply = config.check()
    assert (reply.exit_code, reply.data["valid"]) == (3, False)
    assert any(expected in error for error in reply.errors)


def test_an_unknown_name_is_only_a_warning_elsewhere(monkeypatch):
    monkeypatch.setenv("DSLMODEL_API_PROT", "1")
    assert "did you mean" in config.view().warnings[0]
    monkeypatch.setenv("DSLMODEL_API_PORT", "x")
    with pytest.raises(ConfigurationError, match="DSLMODEL_API_PORT=x"):
        config.view()


@pytest.mark.parametrize("value", [True, 1, 0.5, 1e20, 'a"b\\c\n#é', {"a": "b", "c d": 1, "é": 2}, {}])
def test_literals_are_toml(value):
    assert tomllib.loads(f"x = {literal(value)}")["x"] == value


@pytest.mark.parametrize("name", ["init", "config_view", "config_check", "doctor"])
def test_data_follow_the_shipped_schemas(place, monkeypatch, name):
    monkeypatch.setenv("DSLMODEL_FORWARD_HEADERS", "a=b")
    monkeypatch.setenv("DSLMODEL_API_PROT", "1")
    command = {
        "init": config.init,
        "config_view": config.view,
        "config_check": config.check,
        "doctor": lambda: config.doctor(context=Context()),
    }
    schema = json.loads(files("dslmodel.cli").joinpath("schemas", f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(dump(command[name]().data)), schema)
