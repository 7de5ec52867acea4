"""CBOR (RFC 8949) as the AWS protocol smithy-rpc-v2-cbor uses it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any


class Stamp(float):
    """A point in time, Unix seconds: tag 1 in CBOR."""


def dumps(value: Any) -> bytes:
    """Encode text, bytes, numbers, booleans, None, `Stamp`, mappings and sequences."""
    out = bytearray()
    _encode(out, value)
    return bytes(out)


def head(major: int, length: int) -> bytes:
    """Return an item's first bytes: its major type and length."""
    top = major << 5
    if length < 24:
        return bytes((top | length,))
    for code, limit, form in ((24, 1 << 8, ">BB"), (25, 1 << 16, ">BH"), (26, 1 << 32, ">BI")):
        if length < limit:
            return struct.pack(form, top | code, length)
    return struct.pack(">BQ", top | 27, length)


def _encode(out: bytearray, value: Any) -> None:
    if value is None:
        out += b"\xf6"
    elif isinstance(value, bool):
        out += b"\xf5" if value else b"\xf4"
    elif isinstance(value, Stamp):
        out += b"\xc1\xfb" + struct.pack(">d", value)
    elif isinstance(value, int):
        out += head(0, value) if value >= 0 else head(1, -1 - value)
    elif isinstance(value, float):
        out += b"\xfb" + struct.pack(">d", value)
    elif isinstance(value, str):
        encoded = value.encode()
        out += head(3, len(encoded)) + encoded
    elif isinstance(value, bytes):
        out += head(2, len(value)) + value
    elif isinstance(value, Mapping):
        out += head(5, len(value))
        for key, item in value.items():
            _encode(out, key)
            _encode(out, item)
    elif isinstance(value, Sequence):
        out += head(4, len(value))
        for item in value:
            _encode(out, item)
    else:
        raise TypeError(f"no CBOR for {type(value).__name__}")


def loads(data: bytes) -> Any:
    """Decode one item; `ValueError` if `data` is cut or malformed."""
    try:
        value, end = _decode(data, 0)
    except (IndexError, TypeError, struct.error, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"malformed CBOR: {error}") from None
    if end != len(data):
        raise ValueError("malformed CBOR: something follows the item")
    return value


def _argument(data: bytes, at: int) -> tuple[int | None, int]:
    info = data[at] & 31
    if info < 24:
        return info, at + 1
    if info == 31:
        return None, at + 1  # of indefinite length
    if info > 27:
        raise ValueError(f"malformed CBOR: additional information {info}")
    size = 1 << (info - 24)
    chunk = data[at + 1 : at + 1 + size]
    if len(chunk) < size:
        raise IndexError("cut")
    return int.from_bytes(chunk, "big"), at + 1 + size


def _decode(data: bytes, at: int) -> tuple[Any, int]:
    major = data[at] >> 5
    if major == 7:
        return _simple(data, at)
    length, after = _argument(data, at)
    if major in (0, 1) and length is not None:
        return (length if major == 0 else -1 - length), after
    if major in (2, 3):
        return _string(data, major, length, after)
    if major == 6:
        value, end = _decode(data, after)
        return (Stamp(value) if length == 1 else value), end
    items: list[Any] = []
    count = None if length is None else length * (2 if major == 5 else 1)
    while count is None or len(items) < count:
        if count is None and data[after] == 0xFF:
            after += 1
            break
        item, after = _decode(data, after)
        items.append(item)
    return (items if major == 4 else dict(zip(items[::2], items[1::2], strict=True))), after


def _string(data: bytes, major: int, length: int | None, after: int) -> tuple[Any, int]:
    if length is None:
        parts = []
        while data[after] != 0xFF:
            part, after = _decode(data, after)
            parts.append(part)
        joined: Any = b"".join(parts) if major == 2 else "".join(parts)
        return joined, after + 1
    raw = data[after : after + length]
    if len(raw) < length:
        raise IndexError("cut")
    return (raw if major == 2 else raw.decode()), after + length


def _simple(data: bytes, at: int) -> tuple[Any, int]:
    code = data[at] & 31
    constants: dict[int, Any] = {20: False, 21: True, 22: None, 23: None}
    if code in constants:
        return constants[code], at + 1
    forms = {25: (">e", 2), 26: (">f", 4), 27: (">d", 8)}
    if code not in forms:
        raise ValueError(f"malformed CBOR: simple value {code}")
    form, size = forms[code]
    return struct.unpack(form, data[at + 1 : at + 1 + size])[0], at + 1 + size
