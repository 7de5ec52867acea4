"""The inventory script that `ansible-playbook -i` runs: a process of its own each time, loading only what it needs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labtool.config import Settings


def answer(argv: Sequence[str]) -> None:
    """Answer Ansible's `--list` or `--host NAME` for the lab of the settings; exits 1 with one line on failure."""
    import gc

    # The process ends with its answer: looking for what could be freed of a thousand hosts frees nothing.
    gc.disable()
    from labtool.ansible import inventory as text
    from labtool.cli.connect import settings
    from labtool.errors import LabtoolError

    try:
        told = text.script_answer(of_lab(settings()), argv)
    except LabtoolError as error:
        sys.exit(f"labtool: {error}")
    with suppress(BrokenPipeError):  # the reader (`| head`) has what it wanted
        print(told, flush=True)


def of_lab(chosen: Settings) -> dict[str, Any]:
    """Return the inventory of the lab that `chosen` names."""
    from labtool.ansible import inventory as text
    from labtool.cli.connect import reach

    return text.of_lab(*reach(chosen))
