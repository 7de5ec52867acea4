"""Versions of an application on a host: a folder each, and the link `current` to the one in use."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

MARKER = ".artifact.json"  # labtool notes the versions of what has one; it says that a version is whole


def members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the files and links of an archive as root's; a path that leads outside is a `ValueError`."""
    for member in archive.getmembers():
        if member.name.startswith("/") or ".." in member.name.split("/"):
            raise ValueError(f"the program holds the unsafe path {member.name}")
        if member.issym() and (member.linkname.startswith("/") or ".." in member.linkname.split("/")):
            raise ValueError(f"the link {member.name} leads outside the program")
        if not (member.isfile() or member.isdir() or member.issym()):
            continue
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        yield member


def point(link: Path, version: str) -> None:
    """Let `link` name `version`, in one step."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(version)
    temporary.replace(link)


def drop_old(directory: Path, version: str, keep: int) -> None:
    """Remove all versions but the newest, and never the one in use."""
    made = {path.parent: path.stat().st_mtime for path in directory.glob(f"*/{MARKER}") if not path.parent.is_symlink()}
    made.pop(directory / version, None)
    for folder in sorted(made, key=lambda one: made[one], reverse=True)[max(keep - 1, 0) :]:
        shutil.rmtree(folder, ignore_errors=True)
