"""Hand what was built to a host that has not installed it yet: one task, and no transfer where it has."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Ask the host, transfer if it needs the archive, let the module install it."""

    TRANSFERS_FILES = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module once or, around a transfer, twice."""
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        asked = self._execute_module("maven_app_install", module_args=arguments, task_vars=task_vars)
        if asked.get("failed") or not asked.get("needs_archive") or self._task.check_mode:
            return {**result, **asked}
        remote = self._connection._shell.join_path(self._connection._shell.tmpdir, "built.tar")
        try:
            self._transfer_file(arguments["src"], remote)
            self._fixup_perms2((self._connection._shell.tmpdir, remote))
            told = {**arguments, "_archive": remote}
            done = self._execute_module("maven_app_install", module_args=told, task_vars=task_vars)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return {**result, **done}
