"""A Python program's command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def python_app_command(words: Sequence[object], current: str) -> list[str]:
    """Return a command with its first word as a path: a bare one is a program of the virtual environment."""
    first, *rest = map(str, words)
    return [first if "/" in first else f"{current}/venv/bin/{first}", *rest]


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"python_app_command": python_app_command}
