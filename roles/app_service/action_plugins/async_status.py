"""Ansible's own poll of a task that runs on (`async`), for hosts that may go away while it does.

Ansible asks a host that does not answer again and again until the task's time is over, and counts only the pauses
between: with ten seconds for each try, a host that is gone holds a play of ten minutes for an hour. Here it is
unreachable, for good, once it has not answered for `PATIENCE_S`.
"""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Any

import ansible.plugins.action

# By its file: Ansible gives this one the name that its own would be imported by.
_FILE = Path(ansible.plugins.action.__file__).with_name("async_status.py")
_SPEC = importlib.util.spec_from_file_location("ansible_async_status", _FILE)
_ansible = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_ansible)

PATIENCE_S = 60.0
"""An SSH connection is given up after half of it (`ServerAliveInterval`); the rest is for a host to come back."""


class ActionModule(_ansible.ActionModule):
    """Poll, and know since when the host has been silent: one object serves all polls of a task."""

    _silent_since: float | None = None

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return how the task is; a host that is gone is unreachable, and its task over."""
        began = time.monotonic()
        try:
            result: dict[str, Any] = super().run(tmp, task_vars)
        except Exception as error:
            if self._task.args.get("mode") == "cleanup":
                return {}  # what is left there is a small file
            self._silent_since = began if self._silent_since is None else self._silent_since
            silent = time.monotonic() - self._silent_since
            if silent < PATIENCE_S:
                raise
            why = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
            told = f"the host went away, and has not answered for {silent:.0f} s: {why}"
            return {"finished": True, "failed": True, "unreachable": True, "msg": told}
        self._silent_since = None
        return result
