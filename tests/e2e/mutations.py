"""Broken OTLP requests, each the same for the same seed, with the answers that are right for it."""

import gzip
import random
import zlib
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import orjson
from google.protobuf.message import DecodeError

from dslmodel.ingest.otlp_json import REQUESTS
from dslmodel.records import Encoding, Kind, Payload, Signal
from dslmodel.testing import SpanFactory, at, gauges, logs, payload

BODY_LIMIT = 1 << 20
INFLATED_LIMIT = 4 << 20
NESTING = {"list": [["deep", [1, 2.5, True, b"bytes"]]], "map": {"a": {"b": {"c": "d"}}}}
BOMB = gzip.compress(bytes(24 << 20))
ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 1e300, 1 << 63, "", "0", "abc", "-5", "18446744073709551616", [], {}, [[]], [None], [1], ["x"], [{}], {"a": []},
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request and the HTTP statuses that are right for it."""

    how: str
    signal: Signal
    encoding: Encoding
    body: bytes
    coding: str
    expected: frozenset[int]


def corpus() -> list[Payload]:
    """Valid requests of every signal and encoding."""
    spans = SpanFactory(1)
    root = spans.span(
        "GET /cart", at(0), 12, kind=Kind.SERVER, attributes={"http.response.status_code": 500, **NESTING}, trace_state="ot=th:8"
    )
    event = ("exception", {"exception.escaped": True, "text": "é" * 20})
    call = spans.span("call", at(0), 5, kind=Kind.CLIENT, parent=root, status="error", events=[event], attributes={"peer.service": "x"})
    more = [spans.span(f"op {i}", at(i), i, attributes={f"k{j}": j for j in range(8)}) for i in range(10)]
    found: list[Payload] = []
    for encoding in Encoding:
        found.append(payload([root, call, *more], service="shop", version="1", encoding=encoding))
        found.append(gauges({"system.memory.utilization": 0.5, "other": 1.0}, at(0), attributes={"state": "used"}, encoding=encoding))
        found.append(logs([1, 9, 17, 21], at(0), encoding=encoding))
    return found


def cases(count: int, seed: int) -> Iterator[Case]:
    """`count` broken requests."""
    rng = random.Random(seed)
    originals = corpus()
    for _ in range(count):
        original = rng.choice(originals)
        table = _PROTOBUF if original.encoding is Encoding.PROTOBUF else _JSON
        how, mutate = rng.choice(table)
        body = mutate(original.body, rng)
        for _ in range(rng.choice((0, 0, 0, 1, 3))):
            body = _flip(body, rng)
        signal = rng.choice(list(Signal)) if rng.random() < 0.05 else original.signal
        yield _compressed(how, signal, original.encoding, body, rng)


def _compressed(how: str, signal: Signal, encoding: Encoding, body: bytes, rng: random.Random) -> Case:
    draw = rng.random()
    limit = INFLATED_LIMIT if draw < 0.14 else BODY_LIMIT
    coding, expected = "", right_answers(body, signal, encoding, limit)
    if draw < 0.10:
        coding, body = "gzip", gzip.compress(body, 1)
    elif draw < 0.14:
        coding, body = "deflate", zlib.compress(body, 1)
    elif draw < 0.20:
        coding, body = "gzip", _flip(gzip.compress(body, 1), rng)
        how, expected = f"{how}, broken gzip", frozenset({200, 400, 413})
    elif draw < 0.23:
        whole = gzip.compress(body, 1)
        coding, body = "gzip", whole[: rng.randrange(len(whole))]
        how, expected = f"{how}, cut gzip", frozenset({400})
    elif draw < 0.24:
        how, coding, body, expected = "zip bomb", "gzip", BOMB, frozenset({413})
    elif draw < 0.25:
        how, coding, expected = "unknown coding", "br", frozenset({415})
    return Case(how=how, signal=signal, encoding=encoding, body=body, coding=coding, expected=expected)


def right_answers(body: bytes, signal: Signal, encoding: Encoding, limit: int) -> frozenset[int]:
    """By decoding it here."""
    if len(body) > limit:
        return frozenset({413})
    if encoding is Encoding.JSON:
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            return frozenset({400, 413})
        return frozenset({200, 400, 413}) if isinstance(document, dict) else frozenset({400, 413})
    try:
        REQUESTS[signal]().ParseFromString(body)
    except DecodeError:
        return frozenset({400, 413})
    return frozenset({200, 413}) if len(body) > 300_000 else frozenset({200})


# ---------------------------------------------------------------- bytes


def _flip(body: bytes, rng: random.Random) -> bytes:
    if not body:
        return body
    changed = bytearray(body)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _flips(body: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 2, 5, 50))):
        body = _flip(body, rng)
    return body


def _cut(body: bytes, rng: random.Random) -> bytes:
    return body[: rng.randrange(len(body))]


def _remove(body: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(body))
    return body[:start] + body[start + rng.randrange(1, 20) :]


def _repeat(body: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(body))
    part = body[start : start + rng.randrange(1, 200)]
    return body[:start] + part * rng.choice((2, 3, 10)) + body[start:]


def _noise(body: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(len(body)))


def _lie(body: bytes, rng: random.Random) -> bytes:
    """A length, or whatever stands there, becomes a huge, negative or endless varint."""
    start = rng.randrange(len(body))
    lie = rng.choice(
        (b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\xff" * 12, b"\x80\x80\x80\x00", b"\x7f", b"\x00")
    )
    return body[:start] + lie + body[start + 1 :]


def _join(body: bytes, _: random.Random) -> bytes:
    return body + body


# ---------------------------------------------------------------- protobuf


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _deep_protobuf(_: bytes, rng: random.Random) -> bytes:
    value = b""
    for _level in range(rng.choice((5, 30, 45, 50, 100, 1000, 5000))):
        value = field(5, field(1, value)) if rng.random() < 0.7 else field(6, field(1, field(1, b"k") + field(2, value)))
    attribute = field(1, b"k") + field(2, value)
    return field(1, field(1, field(1, attribute)))


def _tiny_messages(_: bytes, rng: random.Random) -> bytes:
    content = rng.choice((b"\x12\x00", b"\x4a\x00", b"\x4a\x02\x0a\x00", b"\x0a\x00")) * rng.choice((1000, 30_000, 200_000))
    return field(1, field(2, field(2, content) if rng.random() < 0.5 else content))


# ---------------------------------------------------------------- JSON


def _wrong_type(body: bytes, rng: random.Random) -> bytes:
    document = orjson.loads(body)
    for _ in range(rng.choice((1, 1, 2, 5))):
        places: list[tuple[Any, Any]] = []
        stack: list[Any] = [document]
        while stack:
            node = stack.pop()
            keys: Any = node.keys() if isinstance(node, dict) else range(len(node))
            for key in keys:
                places.append((node, key))
                if isinstance(node[key], dict | list):
                    stack.append(node[key])
        if places:
            parent, key = rng.choice(places)
            parent[key] = deepcopy(rng.choice(ODD_VALUES))  # a shared one would grow with every later change
    return orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS) if _fits(document) else body


def _fits(document: Any) -> bool:
    try:
        orjson.dumps(document)
    except orjson.JSONEncodeError:
        return False
    return True


def _wrong_text(body: bytes, rng: random.Random) -> bytes:
    old, new = rng.choice(
        (
            (b'"traceId"', b'"trace_id"'),
            (b'"spans"', b'"\\u0073pans"'),
            (b"0", b"NaN"),
            (b"5", b"1e999"),
            (b'"key"', b'"key":1,"key"'),
            (b"[", b"{"),
            (b'"', b"'"),
            (b"1", b"-"),
            (b'"startTimeUnixNano":', b'"startTimeUnixNano":-'),
            (b'"k', b'"\\ud800'),
        )
    )
    return body.replace(old, new, rng.choice((1, 1, -1)))


def _deep_json(_: bytes, rng: random.Random) -> bytes:
    depth = rng.choice((5, 60, 64, 65, 100, 240, 400, 5000, 50_000))
    name = rng.choice((b"arrayValue", b"\\u0061rrayValue", b"other"))
    value = b'{"%s":{"values":[' % name * depth + b'{"stringValue":"x"}' + b"]}}" * depth
    return b'{"resourceSpans":[{"resource":{"attributes":[{"key":"k","value":' + value + b"}]}}]}"


def _flood_json(_: bytes, rng: random.Random) -> bytes:
    item = rng.choice((b"{}", b"[]", b"0", b'{"a":{}}', b'{"spanId":[]}'))
    return b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b",".join([item] * rng.choice((10, 5000, 60_000))) + b"]}]}]}"


def _bare_json(_: bytes, rng: random.Random) -> bytes:
    return orjson.dumps(rng.choice(ODD_VALUES[:5] + ODD_VALUES[7:]))


_BYTES = [("bit flips", _flips), ("cut", _cut), ("removed", _remove), ("repeated", _repeat), ("noise", _noise), ("joined", _join)]
_PROTOBUF = [*_BYTES, ("lying length", _lie), ("lying length", _lie), ("deep", _deep_protobuf), ("tiny messages", _tiny_messages)]
_JSON = [
    *_BYTES,
    ("wrong type", _wrong_type),
    ("wrong type", _wrong_type),
    ("wrong text", _wrong_text),
    ("deep", _deep_json),
    ("flood", _flood_json),
    ("bare value", _bare_json),
]
