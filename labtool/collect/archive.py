"""Unpack what labtool-collect sends: a tar, read once from a pipe, into a folder.

sysstat/…       decompressed: sadf reads files, not pipes
metrics/…       decompressed: small, and read by programs
journal/…  files/…   left as `….zst`, as they came
manifest.json   the last member: without it the tar was cut
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from labtool.dataset import compressed, manifest
from labtool.errors import CollectError, DataError

EXPANDED = ("sysstat", "metrics")
FOLDERS = (*EXPANDED, "journal", "files")

_PIECE = 1 << 20
_CONTINUED = re.compile(r"(.+)\.\d+")


class CutError(CollectError):
    """The stream ended before its manifest; what came before it is in the folder."""


def unpack(
    stream: IO[bytes], folder: Path, progress: Callable[[int], None] | None = None
) -> tuple[manifest.Manifest, list[str]]:
    """Write the members of `stream` below `folder`; return the manifest and a sentence for each unreadable member.

    `progress` gets the bytes of each piece as it comes. `CutError` if the stream ends early; `CollectError` for a
    member that would leave the folder.
    """
    text: bytes | None = None
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_PIECE) as tar:
            for member in tar:
                source = tar.extractfile(member) if member.isreg() else None
                if source is None:
                    raise CollectError(f"the host sent {member.name!r}, which is no regular file")
                if member.name == manifest.NAME:
                    text = source.read()
                    continue
                _write(source, _target(folder, member.name), progress)
    except (tarfile.TarError, EOFError) as error:
        if text is None:
            problems = _expand(folder)
            raise CutError(f"the stream was cut ({error}){'; ' + '; '.join(problems) if problems else ''}") from None
    problems = _expand(folder)
    if text is None:
        raise CutError("the stream was cut before its manifest")
    found = manifest.parse(text, "the host's manifest")
    (folder / manifest.NAME).write_bytes(text)
    return found, problems


def _target(folder: Path, name: str) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.parts[0] not in FOLDERS or len(path.parts) < 2:
        raise CollectError(f"the host sent a file called {name!r}: refused")
    # A large member comes in pieces: x.zst, x.zst.1, …; every other member ends in its compression's suffix.
    continued = _CONTINUED.fullmatch(path.name)
    return folder / path.with_name(continued[1] if continued else path.name)


def _write(source: IO[bytes], target: Path, progress: Callable[[int], None] | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("ab") as file:
        before = file.tell()
        try:
            while piece := source.read(_PIECE):
                file.write(piece)
                if progress:
                    progress(len(piece))
        except tarfile.TarError:
            # Half a member is no file that a reader could open.
            file.truncate(before)
            if not before:
                target.unlink()
            raise


def _expand(folder: Path) -> list[str]:
    problems = []
    for kind in EXPANDED:
        for packed in sorted((folder / kind).rglob(f"*{compressed.SUFFIX}")):
            plain = packed.with_suffix("")
            try:
                with packed.open("rb") as source, plain.open("wb") as target:
                    compressed.expand(source, target)
            except DataError as error:
                problems.append(f"{packed.relative_to(folder)}: {error.message}")
                continue
            packed.unlink()
    return problems
