"""Points in time as people and programs write them -> integer nanoseconds since the Unix epoch, and back."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

# A number's magnitude tells its unit: each bound is the year 5138 in that unit and 1973 in the next finer one.
_UNITS = ((10**11, 1_000_000_000), (10**14, 1_000_000), (10**17, 1_000), (1 << 63, 1))
_OLDEST_SECONDS = 10**8
_FRACTION = re.compile(r"[.,](\d+)")
_NUMBER = re.compile(r"\d+(\.\d+)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time(value: Any) -> int:
    """Nanoseconds since the epoch of a datetime or ISO 8601 text (UTC where it names no zone) or of a number of s, ms, µs or ns since 1970.

    Raises:
        ValueError: It is neither, or a number from before 1973, whose unit can't be told.
    """
    if isinstance(value, datetime):
        value = value.isoformat()
    if isinstance(value, str):
        text = value.strip()
        if _NUMBER.fullmatch(text):
            return _from_number(float(text) if "." in text else int(text))
        return _from_iso(text)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _from_number(value)
    raise ValueError(f"{value!r} is not a time: expected ISO 8601 or a number of s, ms, µs or ns since 1970")


def format_time(time: int) -> str:
    """RFC 3339 in UTC, with as many digits as `time` has."""
    seconds, nanoseconds = divmod(time, 1_000_000_000)
    whole = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{nanoseconds:09d}".rstrip("0") + "Z" if nanoseconds else whole + "Z"


def _from_number(value: float) -> int:
    if value >= _OLDEST_SECONDS:  # false for NaN, too
        for bound, factor in _UNITS:
            if value < bound:
                return value * factor if isinstance(value, int) else round(value * factor)
    raise ValueError(f"{value!r} is not a time: expected s, ms, µs or ns since 1970, not before 1973")


def _from_iso(text: str) -> int:
    # datetime keeps six digits; exporters write nine.
    fraction = _FRACTION.search(text)
    digits = fraction[1] if fraction else ""
    try:
        moment = datetime.fromisoformat(_FRACTION.sub("", text, count=1))
    except ValueError:
        raise ValueError(f"{text!r} is not a time: expected ISO 8601 such as 2026-01-31T23:59:59.5Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    time = (since.days * 86_400 + since.seconds) * 1_000_000_000 + int(digits[:9].ljust(9, "0"))
    if not 0 <= time < 1 << 63:
        raise ValueError(f"{text!r} is not a time within 1970 and 2262")
    return time
