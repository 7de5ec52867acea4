"""Fetch an archive in Ansible's own process: the controller needs no connection to itself, and no second Python."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Nothing is asked of the host that the task is for."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the options, then fetch."""
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(argument_spec=fetching.OPTIONS)
        return {**result, **fetching.fetched(arguments, self._task.check_mode)}


def _role(path: str) -> ModuleType:
    """Load a file of this role: action plugins cannot import it."""
    spec = importlib.util.spec_from_file_location(f"role_{Path(path).stem}", Path(__file__).parents[1] / path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fetching = _role("library/artifact_fetch.py")
