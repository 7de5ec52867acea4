"""One thing that `labtool doctor` looks at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    mend: str = ""  # the command that mends it
    needed: bool = True  # False: the local cloud works without, with less
