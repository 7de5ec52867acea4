"""One labtool at a time changes a lab, and one measures it; another is told who holds it.

A lab that is measured may be changed: hosts join while load goes on. It may not be ended.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from labtool.errors import LabLockedError

CHANGE, MEASURE = "lock", "measuring"


@contextmanager
def hold(folder: Path, lab: str, what: str = CHANGE) -> Iterator[None]:
    """Hold the lab, to CHANGE or to MEASURE it, for the time of the block; `LabLockedError` says who else does.

    The kernel frees the lock when its holder dies, however it dies: nothing is ever left locked.
    """
    path = folder / what
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabLockedError(f"lab {lab} is in use by {_holder(path)}", "wait for it, or end it") from None
        me = {
            "pid": os.getpid(),
            "command": " ".join(["labtool", *sys.argv[1:]]),
            "since": datetime.now(UTC).strftime("%H:%M:%S UTC"),
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(me).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _holder(path: Path) -> str:
    try:
        who = json.loads(path.read_text())
        return f"`{who['command']}` (process {who['pid']}, since {who['since']})"
    except (OSError, ValueError, KeyError):
        return "another labtool"
