"""What services logged in the window: rows of the `logs` and `log_messages` tables.

From `logs/<host>/`: every file and journal that was sent has a row, every distinct warning and error of a service on a
host another. A line counts by the level that stands first in its head, as log4j, httpd, php-fpm, haproxy and Python
write it, and by what systemd and the kernel say of a process that was killed. Messages are the same if they differ in
nothing but numbers. A line whose time lies outside of the window is not counted; one without a time is, and so are the
lines of a journal, which is the window's. A time without a zone is read as UTC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from labtool.dataset import compressed, manifest
from labtool.dataset.run import Missing
from labtool.errors import DataError

BLOCK = 1 << 20
HEAD = 160
"""The level of a line stands within so many characters: further on it is a part of what is said."""
LONGEST = 300
DISTINCT = 50
"""So many distinct messages of each level are told of a file; all are counted."""
MARGIN_S = 1.0

LEVELS = {
    "error": ("ERROR", "FATAL", "SEVERE", "CRITICAL", "ALERT", "EMERG", "error", "crit", "alert", "emerg"),
    "warning": ("WARN", "WARNING", "warn"),
}
OTHERS = ("INFO", "DEBUG", "TRACE", "NOTICE", "info", "debug", "notice")
GRAVE = ("Failed with result", "Main process exited, code=killed", "Main process exited, code=dumped", "Out of memory:")
"""What systemd and the kernel say without a level that the journal's text shows."""
WORDS = tuple(word.encode() for words in LEVELS.values() for word in words if not word.startswith("WARNI"))
MARKS = (*WORDS, *(words.encode() for words in GRAVE))

_UPPER = "|".join(word for word in (*LEVELS["error"], *LEVELS["warning"], *OTHERS) if word.isupper())
_LOWER = "|".join(word for word in (*LEVELS["error"], *LEVELS["warning"], *OTHERS) if word.islower())
_LEVEL = re.compile(rf"(?:^|[\s\[(])(?P<upper>{_UPPER})(?=[\s\]):])[\]):]*|\[(?:\w+:)?(?P<lower>{_LOWER})\]")
_JOURNAL = re.compile(r"\S+ \S+ (?P<ident>[^\s\[:]+)(?:\[\d+\])?: ")
_NUMBER = re.compile(r"0x[0-9a-f]+|\d+")
_BEFORE = re.compile(r"(?:\s*\[(?:pid|tid|client)\b[^\]]*\])+\s*")

_ISO = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,6})\d*)?(Z|[+-]\d\d:?\d\d)?")
_OTHER_TIMES = (
    (re.compile(r"\d\d/\d\d/\d\d \d\d:\d\d:\d\d"), "%y/%m/%d %H:%M:%S"),  # Spark
    (re.compile(r"[A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d\.\d{6} \d{4}"), "%b %d %H:%M:%S.%f %Y"),  # httpd
    (re.compile(r"\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d:\d\d"), "%d-%b-%Y %H:%M:%S"),  # php-fpm
)

Rows = list[dict[str, Any]]


@dataclass
class Message:
    """A warning or an error, and how often it came."""

    level: str
    text: str
    first: datetime | None  # in the host's clock; None where it has no time
    times: int = 1


def rows(
    logs: Path, start: datetime, end: datetime, ahead_s: dict[str, float] | None = None
) -> tuple[Rows, Rows, list[Missing]]:
    """Return rows of `logs` and of `log_messages`, and what could not be read.

    The window is in the controller's clock, and so are the rows' times; `ahead_s` is by how much a host's is before it.
    """
    files: Rows = []
    messages: Rows = []
    missing: list[Missing] = []
    for file in sorted(logs.glob(f"*/{manifest.NAME}")):
        host = file.parent.name
        ahead = timedelta(seconds=(ahead_s or {}).get(host, 0.0))
        try:
            sent = [one for one in manifest.read(file).files if one.kind in ("file", "journal")]
        except DataError:
            continue  # said of the collectors' cost
        told: dict[tuple[str, str, str], Message] = {}
        for one in sent:
            path = file.parent / one.member
            row = {"host": host, "service": one.service, "source": one.source, "bytes": one.bytes}
            row["file"] = path.relative_to(logs.parent).as_posix() if path.is_file() else ""
            try:
                if one.bytes == 0:
                    row |= dict.fromkeys(("lines", "warnings", "errors"), 0)
                elif path.is_file() and readable(path):
                    found = read(path, start + ahead, end + ahead, in_window=one.kind == "journal")
                    row |= {"bytes": found.bytes if one.bytes is None else one.bytes, "lines": found.lines}
                    row |= {"warnings": found.warnings, "errors": found.errors}
                    for key, message in found.messages.items():
                        _merge(told, (one.service, *key), message)
            except DataError as error:
                missing.append(Missing(what=f"the log {one.source}", host=host, why=error.message))
            files.append(row)
        messages += [
            {
                "host": host,
                "service": service,
                "level": message.level,
                "message": message.text,
                "times": message.times,
                "first": message.first - ahead if message.first else None,
            }
            for (service, _, _), message in told.items()
        ]
    return files, messages, missing


@dataclass
class Counted:
    """What a file has: its size and lines, and the warnings and errors of the window."""

    bytes: int
    lines: int
    warnings: int
    errors: int
    messages: dict[tuple[str, str], Message]  # by level and text without its numbers


def readable(path: Path) -> bool:
    """True where a file is text, plain or compressed by the collector; what a service packed itself is left alone."""
    return path.suffix not in (".gz", ".zstd", ".xz", ".bz2", ".lz4")


def read(path: Path, start: datetime, end: datetime, *, in_window: bool = False) -> Counted:
    """Count a log's lines, and its warnings and errors from `start` to `end`; `DataError` where it is cut."""
    found = Counted(0, 0, 0, 0, {})
    margin = timedelta(seconds=MARGIN_S)
    with compressed.reader(path) as stream:
        for block in _blocks(stream):
            found.bytes += len(block)
            found.lines += block.count(b"\n") + (not block.endswith(b"\n"))
            for line in _marked(block):
                graded = grade(line)
                if graded is None:
                    continue
                when = time_of(line)
                if not in_window and when and not start - margin <= when <= end + margin:
                    continue
                level, text = graded
                if level == "error":
                    found.errors += 1
                else:
                    found.warnings += 1
                key = (level, _NUMBER.sub("#", text))
                if key in found.messages or sum(known[0] == level for known in found.messages) < DISTINCT:
                    _merge(found.messages, key, Message(level, text, when))
    return found


def _merge(told: dict[Any, Message], key: Any, message: Message) -> None:
    known = told.get(key)
    if known is None:
        told[key] = message
        return
    known.times += message.times
    if message.first and (known.first is None or message.first < known.first):
        known.first, known.text = message.first, message.text


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield a stream in blocks of whole lines; the last one may have no end."""
    rest = b""
    while piece := stream.read(BLOCK):
        cut = piece.rfind(b"\n") + 1
        if cut:
            yield rest + piece[:cut]
            rest = piece[cut:]
        else:
            rest += piece
    if rest:
        yield rest


def _marked(block: bytes) -> Iterator[str]:
    """Yield the lines of a block in which something may stand that tells of a warning or an error, in their order."""
    starts: set[int] = set()
    for mark in MARKS:
        at = block.find(mark)
        while at >= 0:
            begin = block.rfind(b"\n", 0, at) + 1
            if at - begin <= HEAD:
                starts.add(begin)
            after = block.find(b"\n", at)
            if after < 0:
                break
            at = block.find(mark, after)
    for begin in sorted(starts):
        after = block.find(b"\n", begin)
        yield block[begin : after if after >= 0 else None].decode(errors="replace").rstrip("\r")


def grade(line: str) -> tuple[str, str] | None:
    """Return a line's level and what it says without time, process and level; None where it is no warning or error."""
    level = _LEVEL.search(line, 0, HEAD)
    if level is not None:
        word = level["upper"] or level["lower"]
        name = next((name for name, words in LEVELS.items() if word in words), None)
        said = line[level.end() :].strip(" :-")
        before = _BEFORE.match(said)
        return (name, said[before.end() if before else 0 :][:LONGEST]) if name else None
    head = _JOURNAL.match(line)
    said = line[head.end() :] if head else line
    if head and head["ident"] in ("systemd", "kernel") and any(words in said for words in GRAVE):
        return "error", said[:LONGEST]
    return None


def time_of(line: str) -> datetime | None:
    """Return the first time that a line's head names; None where it names none."""
    found = _ISO.search(line, 0, HEAD)
    if found:
        zone = (found[4] or "+00:00").replace("Z", "+00:00")
        try:
            return datetime.fromisoformat(f"{found[1]}T{found[2]}.{(found[3] or '0'):0<6}{zone}").astimezone(UTC)
        except ValueError:
            return None
    for pattern, form in _OTHER_TIMES:
        if other := pattern.search(line, 0, HEAD):
            try:
                return datetime.strptime(other[0], form).replace(tzinfo=UTC)
            except ValueError:
                return None
    return None
