"""OTLP/JSON documents as protobuf messages: the way back from `otlp_json`."""

import base64
import binascii
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from dslmodel.ingest.otlp_json import REQUESTS
from dslmodel.records import Signal

_HEX_FIELDS = frozenset({"trace_id", "span_id", "parent_span_id"})
_REALS = frozenset({FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT})
_WORDS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def to_protobuf(document: Any, signal: Signal) -> tuple[Message, int]:
    """The request that an OTLP/JSON document stands for, and how many fields were left out because their type is wrong.

    Unknown fields are ignored, null means absent, 64-bit integers may be text, ids are hex, other bytes base64.
    """
    message = REQUESTS[signal]()
    return message, _fill(message, document)


def _fill(message: Message, document: Any) -> int:
    if not isinstance(document, dict):
        return 1
    skipped = 0
    fields = _fields(message.DESCRIPTOR)
    for name, value in document.items():
        field = fields.get(name)
        if field is None or value is None:
            continue
        if field.is_repeated:
            skipped += _fill_repeated(getattr(message, field.name), field, value)
        elif field.message_type is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            skipped += _fill(inner, value)
        else:
            try:
                setattr(message, field.name, _scalar(field, value))
            except (ValueError, TypeError, OverflowError):
                skipped += 1
    return skipped


def _fill_repeated(container: Any, field: FieldDescriptor, values: Any) -> int:
    if not isinstance(values, list):
        return 1
    skipped = 0
    for value in values:
        if field.message_type is not None:
            skipped += _fill(container.add(), value)
            continue
        try:
            container.append(_scalar(field, value))
        except (ValueError, TypeError, OverflowError):
            skipped += 1
    return skipped


def _scalar(field: FieldDescriptor, value: Any) -> Any:
    """The value of a field; raises what the conversion raises when its type is wrong."""
    if field.type == FieldDescriptor.TYPE_BYTES:
        if not isinstance(value, str):
            raise TypeError(field.name)
        return bytes.fromhex(value) if field.name in _HEX_FIELDS else _base64(value)
    if field.type in _REALS:
        return _WORDS[value] if isinstance(value, str) and value in _WORDS else float(_number(value))
    if field.type == FieldDescriptor.TYPE_STRING:
        return value
    if field.type == FieldDescriptor.TYPE_BOOL:
        if not isinstance(value, bool):
            raise TypeError(field.name)
        return value
    if field.enum_type is not None and isinstance(value, str) and value in field.enum_type.values_by_name:
        return field.enum_type.values_by_name[value].number
    number = _number(value)
    if isinstance(number, float) and not number.is_integer():
        raise ValueError(field.name)
    return int(number)


def _number(value: Any) -> int | float | str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(value)
    return value


def _base64(value: str) -> bytes:
    try:
        return base64.b64decode(value.replace("-", "+").replace("_", "/") + "=" * (-len(value) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(value) from error


@cache
def _fields(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    return {field.json_name: field for field in descriptor.fields}
