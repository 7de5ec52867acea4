"""Hand a Python program to a host that has not installed it yet: one task, and no transfer where it has."""

from __future__ import annotations

import hashlib
import importlib.util
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

LEFT_OUT = {".venv", "venv", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox"}


class ActionModule(ActionBase):
    """Ask the host, transfer if it needs the program, let the module install it."""

    TRANSFERS_FILES = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module once or, around a transfer, twice."""
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        source, commit = str(arguments.pop("source")), str(arguments.pop("commit", ""))
        try:
            kind, label, content = program(source, commit)
        except app_source.SourceError as error:
            raise AnsibleActionFail(str(error)) from None
        arguments |= {"kind": kind, "label": label, "sha512": hashlib.sha512(content).hexdigest(), "source": source}
        asked = self._execute_module("python_app_install", module_args=arguments, task_vars=task_vars)
        if asked.get("failed") or not asked.get("needs_program") or self._task.check_mode:
            return {**result, **asked}
        name = Path(source).name if kind == "wheel" else "program.tar"
        remote = self._connection._shell.join_path(self._connection._shell.tmpdir, name)
        try:
            with tempfile.NamedTemporaryFile() as local:
                local.write(content)
                local.flush()
                self._transfer_file(local.name, remote)
            self._fixup_perms2((self._connection._shell.tmpdir, remote))
            done = self._execute_module(
                "python_app_install", module_args={**arguments, "_program": remote}, task_vars=task_vars
            )
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return {**result, **done}


def load_source() -> ModuleType:
    """Load what the roles for applications share of packing; a role's module_utils are not on Python's path."""
    file = Path(__file__).parents[2] / "app_service/module_utils/app_source.py"
    spec = importlib.util.spec_from_file_location("labtool_app_source", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


app_source = load_source()


def is_left_out(path: Path) -> bool:
    """Return whether a file or folder is none of the program's."""
    return path.name in LEFT_OUT or path.name.endswith((".egg-info", ".pyc", ".pyo"))


def program(source: str, commit: str) -> tuple[str, str, bytes]:
    """Return its kind (wheel or folder), a label for its version, and the wheel or a tar of the folder."""
    if commit:
        return "folder", commit[:12], app_source.of_commit(source, commit, "python_app")
    path = Path(source).expanduser()
    if path.suffix == ".whl" and path.is_file():
        return "wheel", path.name.split("-")[1], path.read_bytes()
    if path.is_dir():
        return "folder", "folder", app_source.of_folder(path, is_left_out)
    if "://" in source:
        raise app_source.SourceError(f"{source}: which commit? Set python_app_commit to all its 40 digits")
    raise app_source.SourceError(f"{source} is neither a folder nor a wheel on the controller: python_app_source")
