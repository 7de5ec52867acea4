"""Hand an archive to a host that has not unpacked it yet: one task, and no transfer where there is nothing to do."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Ask the host, transfer if it needs the archive, let the module unpack it."""

    TRANSFERS_FILES = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module once or, around a transfer, twice."""
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        asked = self._execute_module("artifact_install", module_args=arguments, task_vars=task_vars)
        if asked.get("failed") or not asked.get("needs_archive") or self._task.check_mode:
            return {**result, **asked}
        if not boolean(arguments.get("send", True)):
            return {**result, **asked, "changed": False}
        remote = self._connection._shell.join_path(self._connection._shell.tmpdir, "archive")
        try:
            self._transfer_file(arguments["src"], remote)
            self._fixup_perms2((self._connection._shell.tmpdir, remote))
            arguments = {**arguments, "_archive": remote, "url": ""}
            done = self._execute_module("artifact_install", module_args=arguments, task_vars=task_vars)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        warnings = [*asked.get("warnings", ()), *done.get("warnings", ())]
        return {**result, **done, **({"warnings": warnings} if warnings else {})}
