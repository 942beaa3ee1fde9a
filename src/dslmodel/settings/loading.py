"""Merges the layers into validated `Settings` and keeps where every value came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dslmodel.errors import ConfigurationError
from dslmodel.settings.groups import Group, Settings
from dslmodel.settings.names import PORTS, SECRETS, UNSETTABLE
from dslmodel.settings.sources import DEFAULT, Layers, Origin, config_files, process_environment, put_all, read_layers

USUAL_CONFIDENCE = (0.6, 0.9)
_LONGEST_SHOWN = 80  # characters of a bad value


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Settings, the origin of every value that is not a default, and what people should be told."""

    settings: Settings
    origins: Mapping[str, Origin]  # by path, e.g. "server.bind"
    files: Sequence[Path]  # read, lowest precedence first
    unknown: Sequence[str]  # names that nobody knows
    warnings: Sequence[str]  # the unknown names and values that are allowed but unusual

    def origin(self, path: str) -> Origin:
        """Where the value of a setting comes from."""
        return self.origins.get(path, DEFAULT)


def setting_paths() -> Sequence[str]:
    """Every setting that a user can set, as `group.field`, in the order of `Settings`."""
    paths = []
    for name, entry in Settings.model_fields.items():
        group = entry.annotation
        if isinstance(group, type) and issubclass(group, Group):
            paths += [f"{name}.{field}" for field in group.model_fields]
        else:
            paths.append(name)
    return [path for path in paths if path not in UNSETTABLE]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """All that can be said about the settings, right or wrong. `loaded` is None when there are errors."""

    loaded: Loaded | None
    errors: Sequence[str]
    unknown: Sequence[str]
    warnings: Sequence[str]  # without the unknown names
    files: Sequence[Path]


def load_settings(
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings that hold for this process; see `load`."""
    return load(environ=environ, directory=directory, flags=flags, state=state).settings


def load(
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
) -> Loaded:
    """Settings with their origins; arguments as for `check`.

    Raises:
        ConfigurationError: Names every bad value with its origin and rule, all in one text.
    """
    checked = check(environ=environ, directory=directory, flags=flags, state=state)
    if checked.loaded is None:
        raise ConfigurationError(_text(checked.errors))
    return checked.loaded


def check(
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
) -> Checked:
    """Everything that is right and wrong about the settings.

    Precedence: flags, state, variables, `dslmodel.toml` in `directory`, in the user's and in the system's folder, defaults.

    Args:
        environ: Variables; the process's own when None.
        directory: Where `./dslmodel.toml` is; the working directory when None.
        flags: Values of the command line by path ("server.api_port"); None means not given.
        state: Values that commands persisted, by path.
    """
    variables = process_environment() if environ is None else environ
    paths = setting_paths()
    layers = read_layers(paths, environ=variables, files=config_files(variables, directory or Path()))
    put_all(layers, paths, state or {}, "command")
    put_all(layers, paths, flags or {}, "flag")
    settings = _validate(layers)
    warnings = layers.warnings if settings is None else [*layers.warnings, *_unusual(settings, layers.origins)]
    loaded = None
    if settings is not None and not layers.errors:
        loaded = Loaded(
            settings=settings,
            origins=layers.origins,
            files=layers.files,
            unknown=layers.unknown,
            warnings=[*layers.unknown, *warnings],
        )
    return Checked(loaded=loaded, errors=layers.errors, unknown=layers.unknown, warnings=warnings, files=layers.files)


def shown(path: str, value: Any) -> str:
    """A value as people may see it: secrets are masked, unset ones are empty."""
    if path in SECRETS and value:
        return "********"
    return "" if value is None else str(value)


def value_of(settings: Settings, path: str) -> Any:
    """The value of a setting by its path."""
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


def description(path: str) -> str:
    """What a setting means."""
    group, _, name = path.rpartition(".")
    model = Settings.model_fields[group].annotation if group else Settings
    text = model.model_fields[name].description if isinstance(model, type) and issubclass(model, Group) else None
    return " ".join((text or "").split())


def _validate(layers: Layers) -> Settings | None:
    document: dict[str, Any] = {}
    for path, value in layers.values.items():
        group, _, name = path.rpartition(".")
        (document.setdefault(group, {}) if group else document)[name] = value
    explicit = [path.partition(".")[2] for path in PORTS if path in layers.values]
    if explicit:
        document["server"]["explicit_ports"] = explicit
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        layers.errors += [_sentence(layers, problem["loc"], problem["msg"]) for problem in error.errors(include_url=False)]
        return None


def _sentence(layers: Layers, location: tuple[int | str, ...], message: str) -> str:
    """What is wrong, where and by which rule, from pydantic's location and message."""
    rule = message.removeprefix("Value error, ").replace("Input should", "must", 1)
    for length in (2, 1):
        path = ".".join(map(str, location[:length]))
        if path in layers.origins:
            inner = "".join(f".{part}" for part in location[length:])
            return f"{_assignment(layers, path)}: {inner and inner[1:] + ' '}{rule}"
    group = f"{location[0]}." if location else ""
    involved = [path for path in layers.origins if path.startswith(group) and path.removeprefix(group) in rule]
    return f"{', '.join(_assignment(layers, path) for path in involved) or location[0]}: {rule}"


def _assignment(layers: Layers, path: str) -> str:
    origin, value = layers.origins[path], _cut(shown(path, layers.values[path]))
    return f"{origin}={value}" if origin.kind in ("variable", "flag") else f"{origin} = {value}"


def _unusual(settings: Settings, origins: Mapping[str, Origin]) -> Sequence[str]:
    """Values that are allowed and probably not meant."""
    low, high = USUAL_CONFIDENCE
    confidence = settings.remediation.confidence_threshold
    if low <= confidence <= high:
        return []
    origin = origins.get("remediation.confidence_threshold", DEFAULT)
    return [f"{origin}={confidence:g}: outside the usual {low:g} to {high:g}; lower acts on weak evidence, higher rarely acts"]


def _text(errors: Sequence[str]) -> str:
    if len(errors) == 1:
        return errors[0]
    return "\n".join([f"{len(errors)} settings are wrong:", *(f"  {error}" for error in errors)])


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
