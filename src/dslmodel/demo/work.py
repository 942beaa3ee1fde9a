"""Files of a coordination directory, as the demonstration's processes write them."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def stamp() -> str:
    """Tell the time as coordination files write it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write a coordination file so that nobody ever sees half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(document))
    draft.replace(path)
