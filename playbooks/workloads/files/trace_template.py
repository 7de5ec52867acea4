"""A template: how a line of a trace becomes a request, or a Kafka message.

    {
      "requests": {
        "decision": {
          "method": "POST",
          "path": "/decide.php?user={user}",
          "headers": {"X-Session": "{3}"},
          "form": {"payload": "{4-}", "method": "request"},
          "follow": {"after_s": 2, "name": "update", "method": "POST", "path": "/decide.php", "form": {…}}
        }
      }
    }

A placeholder is a column's name, its number from 1, or a range (`{4-}`, `{2-5}`: those fields with tabs between).
What it stands for is percent-encoded in a path, form-encoded in `form`, a string's inside in `json` (any JSON value),
and as it is in `body` and headers. `{path:raw}` in a path leaves a field's own `/`, `?`, `&` and `=` as they are;
of a whole URL the scheme and the host are left out. `{{` and `}}` are braces. Without a template a line is `GET /`.

Several requests are variants, of which each line gets one: `"choose": {"column": "kind"}` by a column that has their
names, `"choose": {"split": "line"}` by the line's number or `{"split": "user"}` by a column's value, both hashed with
`"seed"`, so that the same lines always go to the same variant.

For Kafka: `"messages": {"view": {"key": "{user}", "value": "{2-}"}}`, or `json` in place of `value`.

Needs only Python's own library: it is copied to the load hosts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus
from zlib import crc32

from trace_lines import Layout, TraceError

PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
RANGE = re.compile(r"(\d+)-(\d*)")
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HOST = re.compile(r"https?://[^/?]*", re.IGNORECASE)
# All that may stand in a request's target: what a field brings besides, as a space, must be encoded.
TARGET = "".join(map(chr, range(0x21, 0x7F)))
Cells = Sequence[str]
Text = Callable[[Cells], str]


@dataclass(frozen=True)
class Rendered:
    """What a line became."""

    name: str  # of the variant: the endpoint in every table
    method: str = "GET"
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    follow: Rendered | None = None
    after_s: float = 0.0  # a follow-up's


@dataclass(frozen=True)
class Message:
    """What a line became for Kafka."""

    name: str
    key: bytes | None
    value: bytes


@dataclass(frozen=True)
class Template:
    """How lines become requests, or messages."""

    variants: Mapping[str, Callable[[Cells], Rendered | Message]]
    column: int | None = None  # that names the variant
    split: int | None = None  # a column whose value's hash chooses; -1 is the line's number
    seed: int = 0

    def variant(self, number: int, cells: Cells) -> str:
        """Return the name of a line's variant; it may be one that there is not: `fault` tells."""
        if self.column is not None:
            return cells[self.column]
        names = tuple(self.variants)
        if self.split is None:
            return names[0]
        value = str(number) if self.split < 0 else cells[self.split]
        return names[crc32(f"{self.seed}:{value}".encode()) % len(names)]

    def fault(self, cells: Cells) -> str:
        """Return what is wrong with a line, '' where nothing is."""
        if self.column is None or cells[self.column] in self.variants:
            return ""
        return f"{cells[self.column][:40]!r} is none of the template's {', '.join(self.variants)}"

    def render(self, number: int, cells: Cells) -> Rendered | Message:
        """Return what a line becomes."""
        return self.variants[self.variant(number, cells)](cells)


def of(file: Path | None, layout: Layout, kind: str = "requests") -> Template:
    """Return a file's template of `kind` (requests, messages) for a trace, or what is done without one.

    `TraceError` names the file and the key.
    """
    if file is None:
        if kind == "messages":
            return compiled({kind: {"message": {"value": "{1-}"}}}, layout, kind)
        get = Rendered("GET /")
        return Template({get.name: lambda _: get})
    try:
        given = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TraceError(f"{file} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise TraceError(f"{file} is no JSON: {error}") from None
    try:
        return compiled(given, layout, kind)
    except TraceError as error:
        raise TraceError(f"{file}: {error}") from None


def compiled(given: Any, layout: Layout, kind: str = "requests") -> Template:
    """Return a template from what its file says; `TraceError` names the key."""
    top = _keys(given, "a template", {kind, "choose"})
    variants = top.get(kind)
    if not isinstance(variants, dict) or not variants:
        raise TraceError(f"{kind}: expected an object with one or more of them by name")
    compile_one = _request if kind == "requests" else _message
    made = {name: compile_one(f"{kind}.{name}", name, one, layout) for name, one in variants.items()}
    return Template(made, **_choice(top.get("choose"), len(made), layout))


def _choice(given: Any, variants: int, layout: Layout) -> dict[str, int]:
    if given is None:
        if variants > 1:
            raise TraceError('choose: with several of them it must say which a line gets, as {"split": "line"}')
        return {}
    choose = _keys(given, "choose", {"column", "split", "seed"})
    if ("column" in choose) == ("split" in choose):
        raise TraceError("choose: expected either `column` or `split`")
    seed = choose.get("seed", 0)
    if not isinstance(seed, int):
        raise TraceError(f"choose.seed: expected a whole number, not {seed!r}")
    by = "column" if "column" in choose else "split"
    value = str(choose[by])
    try:
        return {by: -1 if by == "split" and value == "line" else layout.index(value), "seed": seed}
    except TraceError as error:
        raise TraceError(f"choose.{by}: {error}") from None


def _request(
    where: str, name: str, given: Any, layout: Layout, *, follows: bool = False
) -> Callable[[Cells], Rendered]:
    known = {"method", "path", "headers", "form", "body", "json"}
    one = _keys(given, where, known | ({"after_s", "name"} if follows else {"follow"}))
    bodies = [key for key in ("form", "body", "json") if key in one]
    if len(bodies) > 1:
        raise TraceError(f"{where}: it has {' and '.join(bodies)}, and a request has one body")
    method = str(one.get("method", "POST" if bodies else "GET"))
    if not TOKEN.fullmatch(method):
        raise TraceError(f"{where}.method: {method!r} is no method, as GET")
    path = _path(f"{where}.path", one.get("path", "/"), layout)
    headers, kind = _headers(f"{where}.headers", one.get("headers", {}), layout), None
    body: Text | None = None
    if bodies == ["form"]:
        body, kind = _form(f"{where}.form", one["form"], layout), "application/x-www-form-urlencoded"
    elif bodies == ["json"]:
        body, kind = (
            _json(f"{where}.json", one["json"], layout),
            "application/json",
        )
    elif bodies:
        body = _text(f"{where}.body", one["body"], layout, str)
    if kind and not any(header.lower() == "content-type" for header, _ in headers):
        headers.append(("Content-Type", lambda _: kind))
    after_s = _seconds(f"{where}.after_s", one.get("after_s", 0)) if follows else 0.0
    name = str(one.get("name", name))
    follow = None
    if "follow" in one:
        follow = _request(f"{where}.follow", f"{name} follow-up", one["follow"], layout, follows=True)

    def render(cells: Cells) -> Rendered:
        return Rendered(
            name,
            method,
            path(cells),
            tuple((header, value(cells)) for header, value in headers),
            body(cells).encode() if body else b"",
            follow(cells) if follow else None,
            after_s,
        )

    return render


def _message(where: str, name: str, given: Any, layout: Layout) -> Callable[[Cells], Message]:
    one = _keys(given, where, {"key", "value", "json"})
    if ("value" in one) == ("json" in one):
        raise TraceError(f"{where}: expected either `value` or `json`")
    key = _text(f"{where}.key", one["key"], layout, str) if "key" in one else None
    if "json" in one:
        value = _json(f"{where}.json", one["json"], layout)
    else:
        value = _text(f"{where}.value", one["value"], layout, str)
    return lambda cells: Message(name, key(cells).encode() if key else None, value(cells).encode())


def _path(where: str, given: Any, layout: Layout) -> Text:
    path = _text(where, given, layout, _encoded)
    if given.startswith("/"):
        return path
    if not given.startswith("{"):
        raise TraceError(f"{where}: it begins with /, since the host is the workload's")
    return lambda cells: "/" + HOST.sub("", path(cells)).lstrip("/")


def _headers(where: str, given: Any, layout: Layout) -> list[tuple[str, Text]]:
    if not isinstance(given, dict):
        raise TraceError(f"{where}: expected an object")
    made = []
    for header, value in given.items():
        if not TOKEN.fullmatch(header):
            raise TraceError(f"{where}: {header!r} is no name of a header")
        if header.lower() in {"content-length", "transfer-encoding", "connection"}:
            raise TraceError(f"{where}: {header} is set by what sends the request")
        made.append((header, _text(f"{where}.{header}", value, layout, _one_line)))
    return made


def _form(where: str, given: Any, layout: Layout) -> Text:
    if not isinstance(given, dict):
        raise TraceError(f"{where}: expected an object of field and value")
    pairs = [(quote_plus(key), _text(f"{where}.{key}", value, layout, str)) for key, value in given.items()]
    return lambda cells: "&".join(f"{key}={quote_plus(value(cells))}" for key, value in pairs)


def _json(where: str, given: Any, layout: Layout) -> Text:
    """Compile any JSON value: what is outside of its strings has no placeholders, and braces of its own."""
    pieces = re.split(r'("(?:[^"\\]|\\.)*")', json.dumps(given, ensure_ascii=False))
    texts = [
        _text(where, piece, layout, _json_inside) if number % 2 else _constant(piece)
        for number, piece in enumerate(pieces)
    ]
    return lambda cells: "".join(text(cells) for text in texts)


def _constant(text: str) -> Text:
    return lambda _: text


def _text(where: str, given: Any, layout: Layout, encode: Callable[[str], str]) -> Text:
    """Compile a text with placeholders."""
    if not isinstance(given, str):
        raise TraceError(f"{where}: expected a text, not {json.dumps(given)}")
    parts = _parts(where, given, layout, encode)
    if all(isinstance(part, str) for part in parts):
        return _constant("".join(map(str, parts)))

    def render(cells: Cells) -> str:
        return "".join(part if isinstance(part, str) else part[1]("\t".join(cells[part[0]])) for part in parts)

    return render


def _parts(
    where: str, text: str, layout: Layout, encode: Callable[[str], str]
) -> list[str | tuple[slice, Callable[[str], str]]]:
    parts: list[str | tuple[slice, Callable[[str], str]]] = []
    end = 0
    for match in PLACEHOLDER.finditer(text):
        parts.append(text[end : match.start()])
        end = match.end()
        found = match[0]
        if found in {"{{", "}}"}:
            parts.append(found[0])
        elif match[1] is None:
            raise TraceError(
                f"{where}: a single {found} stands at character {match.start() + 1}; a brace is {found * 2}"
            )
        else:
            try:
                parts.append(_field(match[1], layout, encode))
            except TraceError as error:
                raise TraceError(f"{where}: {error}") from None
    return [*parts, text[end:]]


def _field(name: str, layout: Layout, encode: Callable[[str], str]) -> tuple[slice, Callable[[str], str]]:
    column, _, kind = name.partition(":")
    if kind and (kind != "raw" or encode is not _encoded):
        raise TraceError(f"{{{name}}}: there is no {kind!r} here; `:raw` is for paths")
    if name in layout.names:
        column, kind = name, ""
    encode = _raw if kind else encode
    if (span := RANGE.fullmatch(column)) and column not in layout.names:
        first, last = int(span[1]), int(span[2] or layout.width)
        if not 1 <= first <= last <= layout.width:
            raise TraceError(f"{{{name}}}: the trace has columns 1 to {layout.width}")
        return slice(first - 1, last), encode
    index = layout.index(column)
    return slice(index, index + 1), encode


def _encoded(text: str) -> str:
    return quote(text, safe="")


def _raw(text: str) -> str:
    return quote(text, safe=TARGET)


def _json_inside(text: str) -> str:
    return json.dumps(text)[1:-1]


def _one_line(text: str) -> str:
    # A header ends with its line; what a field holds besides Latin-1 has no place in it.
    return quote(text, safe="".join(map(chr, range(0x20, 0x7F))) + "\t")


def _seconds(where: str, given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < 86400:
        raise TraceError(f"{where}: expected seconds from 0 to 86400, not {given!r}")
    return float(given)


def _keys(given: Any, where: str, known: set[str]) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise TraceError(f"{where}: expected an object with {', '.join(sorted(known))}")
    if unknown := sorted(set(given) - known):
        raise TraceError(f"{where}: {unknown[0]!r} is no key here; there are {', '.join(sorted(known))}")
    return given
