"""Plain values and ids -> their OTLP/JSON forms."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import orjson

MAX_ATTRIBUTES = 128
_MAX_DEPTH = 16
_INT64 = range(-(1 << 63), 1 << 63)
_HEX = re.compile(r"(?:0x)?([0-9a-fA-F]+)")


def key_values(values: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """Attributes by name as OTLP's list; None means absent, what is beyond the limit is left out."""
    named = ((clean_text(str(key)), value) for key, value in values.items() if value is not None)
    return [{"key": key, "value": any_value(value)} for key, value in islice(named, MAX_ATTRIBUTES)]


def any_value(value: Any, depth: int = 0) -> dict[str, Any]:
    """A value as OTLP's AnyValue. What OTLP has no word for becomes text."""
    match value:
        case bool():
            return {"boolValue": value}
        case int() if value in _INT64:
            return {"intValue": str(value)}
        case float() if math.isfinite(value):
            return {"doubleValue": value}
        case str():
            return {"stringValue": clean_text(value)}
        case Mapping() if depth < _MAX_DEPTH:
            entries = [{"key": clean_text(str(key)), "value": any_value(item, depth + 1)} for key, item in value.items()]
            return {"kvlistValue": {"values": entries}}
        case list() | tuple() if depth < _MAX_DEPTH:
            return {"arrayValue": {"values": [any_value(item, depth + 1) for item in value]}}
    return {"stringValue": clean_text(str(value)[:1024])}


def clean_text(text: str) -> str:
    """Text that UTF-8 can hold: a lone surrogate becomes a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def plain_attributes(value: Any) -> dict[str, Any]:
    """Attributes that came as an object, as Jaeger's tags or as OTLP's list, by name."""
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    if not isinstance(value, Sequence) or isinstance(value, str):
        return {}
    found: dict[str, Any] = {}
    for item in value:
        if isinstance(item, Mapping) and isinstance(item.get("key"), str):
            found[item["key"]] = _plain(item.get("value"))
    return found


def fold_id(value: Any, digits: int, content: bytes) -> str:
    """An id of `digits` hex digits.

    Hex (with 0x, as a UUID, or short as Jaeger's) is kept, other text is hashed, so that equal ids stay equal; a missing one is
    derived from the `content` of what has it.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        value = f"{value:x}"
    if not isinstance(value, str) or not value.strip():
        return hashlib.sha256(content).hexdigest()[:digits]
    text = value.strip()
    found = _HEX.fullmatch(text.replace("-", ""))
    if found and len(found[1]) <= digits and found[1].strip("0"):
        return found[1].lower().rjust(digits, "0")
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:digits]


def content_of(document: Any) -> bytes:
    """The same bytes for the same content, whatever the order of its keys."""
    try:
        return orjson.dumps(document, default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    except TypeError:  # integers beyond 64 bits, lone surrogates: hand-made documents can hold them
        return repr(document).encode("utf-8", "replace")


def _plain(value: Any) -> Any:
    """The value in an OTLP AnyValue; anything else is a value already."""
    if isinstance(value, Mapping) and len(value) == 1:
        kind, content = next(iter(value.items()))
        if kind == "intValue":
            return int(content) if isinstance(content, int) or (isinstance(content, str) and content.lstrip("-").isdigit()) else content
        if kind in {"stringValue", "boolValue", "doubleValue", "bytesValue"}:
            return content
    return value
