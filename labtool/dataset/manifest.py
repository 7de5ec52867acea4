"""What a host said of its own collection: `logs/<host>/manifest.json`, written by labtool-collect on the host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, TypeVar

from msgspec import Struct, field

from labtool import checked
from labtool.checked import RefusedError
from labtool.errors import DataError

NAME = "manifest.json"


class Part(Struct, frozen=True):
    """A part of the manifest. Keys that a newer host adds are no error."""


class SentFile(Part, frozen=True):
    """One file or journal that was sent."""

    kind: Literal["sysstat", "journal", "file", "metrics"]
    service: str
    source: str
    member: str
    bytes: int | None = None  # None for a journal, which is no file
    sent_bytes: int = 0
    skipped_bytes: int = 0  # at its beginning, where it is longer than the limit


class Problem(Part, frozen=True):
    """Something the host could not send."""

    what: str
    why: str


class Cost(Part, frozen=True):
    """What a host's collectors have used: a reading of ever-growing counters."""

    time: float  # host's clock, seconds since the epoch
    since: float | None  # when the counters began, the same
    cpu_s: float
    processes: int
    files: dict[str, int]  # path of a file of measurements → its size in bytes


class Gather(Part, frozen=True):
    """What the collection itself used on the host, after the window."""

    cpu_s: float
    elapsed_s: float
    bytes: int  # sent, compressed


class Manifest(Part, frozen=True, kw_only=True):
    """A host's account of one collection."""

    format: Literal[1]
    since: float  # the window in the host's clock, seconds since the epoch
    until: float
    made: float
    host: str
    kernel: str
    machine: str
    vcpus: int
    memory_bytes: int
    sysstat: str
    files: list[SentFile]
    problems: list[Problem] = field(default_factory=list)
    cost: Cost
    gather: Gather


Model = TypeVar("Model", bound=Part)


def read(path: Path) -> Manifest:
    """Read a manifest; `DataError` names the file and the key that is wrong."""
    return parse(path.read_text(), str(path))


def parse(text: str | bytes, source: str) -> Manifest:
    """Read a manifest's text that came from `source`."""
    return _validated(Manifest, text, source)


def parse_cost(text: str | bytes, source: str) -> Cost:
    """Read what `labtool-collect --cost` printed."""
    return _validated(Cost, text, source)


def _validated(model: type[Model], text: str | bytes, source: str) -> Model:
    try:
        return checked.convert(json.loads(text), model, lax=True)
    except json.JSONDecodeError as error:
        raise DataError(f"{source} is no JSON: {error}") from None
    except RefusedError as error:
        raise DataError(
            error.sentence(source)[0],
            "the host has another version of the collector: ansible-playbook playbooks/collector.yml",
        ) from None
