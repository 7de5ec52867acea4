"""A program's command line and environment as systemd reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def python_app_words(words: Sequence[object]) -> str:
    """Return words as a unit's setting takes them: each in quotes, nothing in them expanded; see systemd.syntax(7)."""
    return " ".join(quoted(str(word)) for word in words)


def quoted(word: str) -> str:
    """Return a word in systemd's quotes."""
    if "\n" in word or "\0" in word:
        raise ValueError(f"{word!r} has a line break, which no argument of a unit may have")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def python_app_command(words: Sequence[object], current: str) -> list[str]:
    """Return a command with its first word as a path: a bare one is a program of the virtual environment."""
    first, *rest = map(str, words)
    return [first if "/" in first else f"{current}/venv/bin/{first}", *rest]


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"python_app_words": python_app_words, "python_app_command": python_app_command}
