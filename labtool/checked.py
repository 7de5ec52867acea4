"""Data from outside, checked against what they should be; what is wrong is said with its path and in words.

The shapes are msgspec's Structs, and msgspec is the judge. Its own sentence is for programmers and leaves out the keys
of dictionaries, so what it refuses is gone through again, part by part, down to the smallest that it refuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Struct

from labtool.errors import unknown

T = TypeVar("T")


class RefusedError(ValueError):
    """What is wrong, and the path to it: "groups.kafka.count". A Struct's `__post_init__` may raise it too."""

    def __init__(self, told: str, *path: str, known: Iterable[str] | None = None) -> None:
        super().__init__(told)
        self.told = told
        self.path = path
        self.known = known  # the keys that might stand here, if the last of the path is none of them

    def sentence(self, source: str, kind: str = "key") -> tuple[str, str | None]:
        """Return the message and the hint for data that came from `source`, whose keys are called `kind`."""
        path = self.path
        told, hint = self.told, None
        if self.known is not None:
            told, hint = (found := unknown(kind, path[-1], self.known)).message, found.hint
            path = path[:-1] or ("top level",)
        return ": ".join((source, *([".".join(path)] if path else []), told)), hint


def convert(value: Any, shape: type[T], *, lax: bool = False) -> T:
    """Return `value`, of dicts, lists and scalars, as `shape`; `RefusedError` if it is not.

    `lax`: a number or a bool may be written as text, as in an environment variable.
    """
    try:
        return msgspec.convert(value, shape, strict=not lax, dec_hook=_decoded)
    except msgspec.ValidationError as error:
        raise _refused(value, shape, (), error, lax=lax) from None


def encoded(value: Any) -> bytes:
    """Return a Struct as JSON."""
    return msgspec.json.encode(value, enc_hook=_encoded)


def matching(pattern: re.Pattern[str], words: str) -> Any:
    """Return what says, in an annotation, that a text as a whole matches `pattern`; `words` are for whoever reads."""
    return msgspec.Meta(pattern=rf"\A(?:{pattern.pattern})\Z", description=words)


def _decoded(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise ValueError


def _encoded(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError


def _refused(value: Any, shape: Any, path: tuple[str, ...], error: Exception, *, lax: bool) -> RefusedError:
    """Find the smallest part of `value` that is not as `shape` says; `error` is what msgspec said of the whole."""
    inner = _inner(shape)
    fields = _fields(inner) if isinstance(value, dict) else {}
    if fields and inner.__struct_config__.forbid_unknown_fields:
        for key in value:
            if key not in fields:
                return RefusedError("", *path, str(key), known=tuple(fields))
    for step, part, kind in _parts(value, inner):
        try:
            msgspec.convert(part, kind, strict=not lax, dec_hook=_decoded)
        except msgspec.ValidationError as found:
            return _refused(part, kind, (*path, step), found, lax=lax)
    for name, field in fields.items():
        if field.required and name not in value:
            return RefusedError(f"{name} is missing", *path)
    if isinstance(cause := error.__cause__, RefusedError):
        return RefusedError(cause.told, *path, *cause.path)
    given = repr(value)
    return RefusedError(f"must be {_words(shape)} (it is {given if len(given) <= 80 else given[:79] + '…'})", *path)


def _inner(shape: Any) -> Any:
    """Return a shape without its bounds and without the None that may stand for it."""
    if get_origin(shape) is Annotated:
        return _inner(get_args(shape)[0])
    others = [kind for kind in get_args(shape) if kind is not NoneType]
    return _inner(others[0]) if get_origin(shape) in {Union, UnionType} and len(others) == 1 else shape


def _fields(shape: Any) -> dict[str, msgspec.structs.FieldInfo]:
    is_struct = isinstance(shape, type) and issubclass(shape, Struct)
    return {field.name: field for field in msgspec.structs.fields(shape)} if is_struct else {}


def _parts(value: Any, shape: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the parts of `value`: how the path goes on to each, it, and what it should be."""
    origin, kinds = get_origin(shape), get_args(shape)
    if origin is dict and isinstance(value, dict):
        for key, part in value.items():
            yield str(key), key, kinds[0]
            yield str(key), part, kinds[1]
    elif origin in {list, tuple} and isinstance(value, list | tuple):
        yield from ((str(number), part, kinds[0]) for number, part in enumerate(value))
    elif isinstance(value, dict):
        for name, field in _fields(shape).items():
            if name in value:
                yield name, value[name], field.type
            elif field.required:
                return  # said before what comes after it: `format` says why others are missing


_WORDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "datetime": "a time, as 2026-01-31T12:00:00Z",
    "Path": "a path",
    "list": "a list",
    "tuple": "a list",
    "NoneType": "nothing",
}


def _words(shape: Any) -> str:
    """Say what a value may be."""
    origin, inner = get_origin(shape), get_args(shape)
    if origin is Literal:
        return _either(map(str, inner))
    if origin in {Union, UnionType}:
        return _either(_words(kind) for kind in inner if kind is not NoneType)
    if origin is Annotated:
        meta = inner[1]
        return meta.description or _words(inner[0]) + _bounds(meta)
    return _WORDS.get((origin or shape).__name__, "keys with values")


def _bounds(meta: msgspec.Meta) -> str:
    if meta.ge is not None and meta.le is not None:
        return f" from {meta.ge} to {meta.le}"
    if meta.ge is not None:
        return f", {meta.ge} or more"
    return f" above {meta.gt}" if meta.gt is not None else ""


def _either(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
