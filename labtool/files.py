"""Files that a crash leaves whole, and the folders that users name."""

from __future__ import annotations

import json
import os
from pathlib import Path

from labtool.errors import LabtoolError


def make_folder(path: Path, setting: str, mode: int = 0o777) -> Path:
    """Make a folder and those it is in, and return it; `LabtoolError` names it and the `setting` that chooses it."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=mode)
    except OSError as error:
        raise LabtoolError(
            f"the folder {path.absolute()} cannot be made: {error.strerror}", f"{setting} names another"
        ) from error
    return path


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace `path` with `content` in one step, so that a reader, or a crash, sees the old or the new file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
    temporary.replace(path)


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace `path` with `text`."""
    write_bytes(path, text.encode(), mode)


def write_json(path: Path, value: object) -> None:
    """Replace `path` with `value` as JSON."""
    write_text(path, json.dumps(value, indent=2, default=str) + "\n")
