"""What is said of data that are not what they should be."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import pytest
from msgspec import Meta, Struct

from labtool.checked import RefusedError, convert, encoded, matching


class Inner(Struct, frozen=True, forbid_unknown_fields=True):
    count: int | str
    name: Annotated[str, matching(re.compile("[a-z]+"), "a word")] | None = None

    def __post_init__(self):
        if self.count == 13:
            raise RefusedError("thirteen brings bad luck", "count")


class Outer(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: Literal[1] = 1
    kind: Literal["a", "b", "c"] = "a"
    share: Annotated[float, Meta(ge=0, le=1)] = 0
    price: Annotated[float, Meta(gt=0)] | None = None
    port: Annotated[int, Meta(ge=1)] = 1
    yes: bool = False
    folder: Path = Path()
    at: datetime | None = None
    inner: Inner | None = None
    many: dict[str, Inner] = {}
    rows: list[Inner] = []
    words: tuple[str, ...] = ()


class Open(Struct):
    known: int


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"kind": "d"}, "file: kind: must be a, b or c (it is 'd')"),
        ({"format": 2}, "file: format: must be 1 (it is 2)"),
        ({"share": 1.5}, "file: share: must be a number from 0 to 1 (it is 1.5)"),
        ({"share": float("nan")}, "file: share: must be a number from 0 to 1 (it is nan)"),
        ({"price": 0}, "file: price: must be a number above 0 (it is 0)"),
        ({"port": True}, "file: port: must be a whole number, 1 or more (it is True)"),
        ({"port": 1.5}, "file: port: must be a whole number, 1 or more (it is 1.5)"),
        ({"yes": "maybe"}, "file: yes: must be true or false (it is 'maybe')"),
        ({"folder": 3}, "file: folder: must be a path (it is 3)"),
        ({"at": "noon"}, "file: at: must be a time, as 2026-01-31T12:00:00Z (it is 'noon')"),
        ({"inner": 3}, "file: inner: must be keys with values (it is 3)"),
        ({"inner": {}}, "file: inner: count is missing"),
        ({"inner": {"name": 3}}, "file: inner: count is missing"),
        ({"inner": {"count": 1.5}}, "file: inner.count: must be a whole number or text (it is 1.5)"),
        ({"inner": {"count": 13}}, "file: inner.count: thirteen brings bad luck"),
        ({"inner": {"count": 1, "name": "a1"}}, "file: inner.name: must be a word (it is 'a1')"),
        ({"inner": {"count": 1, "name": "a\n"}}, "file: inner.name: must be a word (it is 'a\\n')"),
        ({"many": {"x": {"count": 1}, "y": {"count": None}}}, "file: many.y.count: must be a whole number or text"),
        ({"many": {"x": {"count": 13}}}, "file: many.x.count: thirteen brings bad luck"),
        ({"many": {7: {"count": 1}}}, "file: many.7: must be text (it is 7)"),
        ({"many": []}, "file: many: must be keys with values (it is [])"),
        ({"rows": [{"count": 1}, {"count": []}]}, "file: rows.1.count: must be a whole number or text (it is [])"),
        ({"words": "one"}, "file: words: must be a list (it is 'one')"),
        ({"words": ["one", 2]}, "file: words.1: must be text (it is 2)"),
        ([], "file: must be keys with values (it is [])"),
        ({"words": "x" * 100}, "file: words: must be a list (it is '" + "x" * 78 + "…)"),
    ],
)
def test_what_is_wrong_is_said_with_its_path(given, told):
    with pytest.raises(RefusedError) as error:
        convert(given, Outer)
    message, hint = error.value.sentence("file")
    assert message.startswith(told) and hint is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"prot": 1}, ("file: top level: unknown setting: prot", "did you mean port or rows?")),
        ({"inner": {"cuont": 1}}, ("file: inner: unknown setting: cuont", "did you mean count?")),
        ({"many": {"x": {"zzzzz": 1}}}, ("file: many.x: unknown setting: zzzzz", "known: count, name")),
        ({3: 1}, ("file: top level: unknown setting: 3", None)),
    ],
)
def test_the_nearest_keys_are_named(given, told):
    with pytest.raises(RefusedError) as error:
        convert(given, Outer)
    message, hint = error.value.sentence("file", "setting")
    assert message == told[0] and (told[1] is None or hint == told[1])


def test_text_stands_for_numbers_where_that_is_allowed():
    text = {"port": "80", "yes": "true", "share": "0.5", "inner": {"count": "1"}}
    assert convert(text, Outer, lax=True) == Outer(port=80, yes=True, share=0.5, inner=Inner("1"))
    with pytest.raises(RefusedError, match="must be a whole number, 1 or more"):
        convert({"port": "0"}, Outer, lax=True)
    with pytest.raises(RefusedError, match=r"must be a number from 0 to 1 \(it is '0\.5'\)"):
        convert(text, Outer)


def test_what_is_open_ignores_what_it_does_not_know():
    assert convert({"known": 1, "unknown": 2}, Open) == Open(1)


def test_what_was_written_is_read_again():
    value = Outer(folder=Path("/x"), at=datetime(2026, 1, 31, tzinfo=UTC), many={"x": Inner(1, "a")}, words=("a",))
    assert json.loads(encoded(value))["at"] == "2026-01-31T00:00:00Z"
    assert convert(json.loads(encoded(value)), Outer) == value
