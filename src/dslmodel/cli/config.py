"""`dsl init`, `dsl doctor`, `dsl config view` and `dsl config check`. They need no daemon."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dslmodel.cli.output import CONFIGURATION, FAILED, SUCCESS, Context, Reply


def init(*, force: bool = False) -> Reply:
    """Write a commented dslmodel.toml for this machine into the working directory.

    Everything is explained and commented out, but for what differs here: ports that are taken, bounds for little memory.

    Args:
        force: Replace a file that is there; it is kept as dslmodel.toml.bak.
    """
    from dslmodel.cli import config_file, machine
    from dslmodel.settings import Settings
    from dslmodel.settings.names import FILE_NAME

    settings, memory, path = Settings(), machine.memory_bytes(), Path(FILE_NAME)
    chosen = config_file.for_this_machine(settings, memory=memory, is_free=machine.is_free)
    about = f"Written for a machine with {machine.cores()} cores and {memory / 2**30:.1f} GiB of memory."
    kept = config_file.write_new(path, config_file.commented(settings, chosen, about), force=force)
    data = {"file": str(path.resolve()), "kept": str(kept) if kept else None, "set": {key: value for key, (value, _) in chosen.items()}}
    notes = [f"{key} = {value}: {reason}" for key, (value, reason) in chosen.items()]
    return Reply(data=data, text=[f"Wrote {path}.", *notes, "Next: `dsl doctor`, then `dsl telemetry start-processing`."])


def view(*, origin: bool = False) -> Reply:
    """Show the settings that hold here, as TOML. Secrets are masked.

    Args:
        origin: Also show where each value comes from.
    """
    from dslmodel.cli.config_file import effective, listed
    from dslmodel.settings import load

    loaded = load()
    data = {"settings": listed(loaded), "files": [str(file) for file in loaded.files]}
    return Reply(data=data, text=effective(loaded, origin=origin), warnings=loaded.warnings)


def check() -> Reply:
    """Check the files and variables. Exits 3 when a value is wrong or a name unknown."""
    from dslmodel.cli.machine import problems_of
    from dslmodel.settings import check as check_settings

    checked = check_settings()
    errors = [*checked.errors, *checked.unknown, *problems_of(checked)]
    files = [str(file) for file in checked.files]
    data = {"valid": not errors, "files": files}
    text = None if errors else f"The settings are valid ({', '.join(files) or 'no file'} and the variables)."
    return Reply(data=data, text=text, errors=errors, warnings=checked.warnings, exit_code=CONFIGURATION if errors else SUCCESS)


def doctor(*, context: Annotated[Context, Parameter(parse=False)]) -> Reply:
    """Check this machine and installation; every problem comes with its fix. Exits 1 when something fails.

    Creates nothing, neither the coordination directory nor anything in it.
    """
    from dslmodel.cli.doctor import examine

    checks = examine(context.coord_dir)
    failed = [check for check in checks if check.status == "fail"]
    counts = {status: sum(check.status == status for check in checks) for status in ("ok", "warn", "fail")}
    text = [line for check in checks for line in check.lines()]
    summary = ", ".join(f"{count} {status}" for status, count in counts.items())
    return Reply(
        data={"checks": [check.data() for check in checks], "counts": counts},
        text=[*text, summary],
        errors=[f"{check.name}: {check.found}" for check in failed],
        exit_code=FAILED if failed else SUCCESS,
    )
