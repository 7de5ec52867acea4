"""Build a Maven project once, on the controller or on another host, and keep what came of it on the controller."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import tarfile
import tempfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

LEFT_OUT = {".idea", ".settings", ".vscode", "node_modules"}
FORMAT = 1  # of what is kept; another one is built again


class ActionModule(ActionBase):
    """Pack the sources; where nothing was built of them yet, let the module build on the host this is delegated to."""

    TRANSFERS_FILES = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return version, path, sha512 and main class; every host's process comes here, one of them builds."""
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        main = arguments.pop("main", "")
        try:
            label, content = project(str(arguments["source"]), str(arguments.pop("commit", "")))
        except app_source.SourceError as error:
            raise AnsibleActionFail(str(error)) from None
        settings = settings_of(str(arguments.pop("settings", "")))
        version = version_of(label, content, arguments)
        kept = app_source.cache() / "maven" / f"{arguments['name']}-{version}.tar"
        kept.parent.mkdir(parents=True, exist_ok=True)
        with kept.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            built = record_of(kept)
            changed = built is None
            if built is None and self._task.check_mode:
                return {**result, "changed": True, "version": version, "path": "", "sha512": "", "main": main or "main"}
            if built is None:
                built = self.build(arguments, content, settings, kept, task_vars)
                if built.get("failed"):
                    return {**result, **built}
        try:
            main, problem = main_class(main, built, kept, str(arguments["source"]))
        except app_source.SourceError as error:
            raise AnsibleActionFail(str(error)) from None
        told = {"version": version, "path": str(kept), "sha512": built["sha512"], "main": main, "main_problem": problem}
        return {**result, **told, "changed": changed, "seconds": built.get("seconds") if changed else None}

    def build(
        self, arguments: dict[str, Any], content: bytes, settings: Path | None, kept: Path, task_vars: Any
    ) -> dict[str, Any]:
        """Build, and fetch what came of it; return its record, or the module's failure."""
        shell = self._connection._shell
        self._make_tmp_path()
        program, built = shell.join_path(shell.tmpdir, "project.tar"), shell.join_path(shell.tmpdir, "built.tar")
        handed = [shell.tmpdir, program]
        try:
            with tempfile.NamedTemporaryFile() as local:
                local.write(content)
                local.flush()
                self._transfer_file(local.name, program)
            if settings:
                handed.append(shell.join_path(shell.tmpdir, "settings.xml"))
                self._transfer_file(str(settings), handed[-1])
            self._fixup_perms2(tuple(handed))
            told = {**arguments, "project": program, "built": built, "settings": handed[2] if settings else ""}
            done = self._execute_module("maven_app_build", module_args=told, task_vars=task_vars)
            if done.get("failed"):
                return done
            temporary = kept.with_name(f".{kept.name}.{os.getpid()}")
            self._connection.fetch_file(built, str(temporary))
        finally:
            self._remove_tmp_path(shell.tmpdir)
        record = {key: done[key] for key in ("main", "classes", "seconds")}
        record["sha512"] = hashlib.sha512(temporary.read_bytes()).hexdigest()
        note = kept.with_suffix(f".{os.getpid()}")
        note.write_text(json.dumps(record) + "\n")
        temporary.replace(kept)
        note.replace(kept.with_suffix(".json"))
        return record


def load_source() -> ModuleType:
    """Load what the roles for applications share of packing; a role's module_utils are not on Python's path."""
    file = Path(__file__).parents[2] / "app_service/module_utils/app_source.py"
    spec = importlib.util.spec_from_file_location("labtool_app_source", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


app_source = load_source()


def is_left_out(path: Path) -> bool:
    """Return whether a file or folder is none of the sources: what Maven made, and editors keep, is not."""
    return path.name in LEFT_OUT or (path.name == "target" and (path.parent / "pom.xml").is_file())


def project(source: str, commit: str) -> tuple[str, bytes]:
    """Return a label for its version and a tar of the project's sources."""
    if commit:
        return commit[:12], app_source.of_commit(source, commit, "maven_app")
    path = Path(source).expanduser()
    if path.is_file() and path.name.endswith(app_source.ARCHIVES):
        return "archive", app_source.of_archive(path, is_left_out)
    if path.is_dir():
        if not (path / "pom.xml").is_file():
            raise app_source.SourceError(f"{path} has no pom.xml: maven_app_source is the folder that has it")
        return "folder", app_source.of_folder(path, is_left_out)
    if "://" in source:
        raise app_source.SourceError(f"{source}: which commit? Set maven_app_commit to all its 40 digits")
    raise app_source.SourceError(
        f"{source} is neither a folder nor an archive ({', '.join(app_source.ARCHIVES)}) on the controller: "
        "maven_app_source"
    )


def settings_of(path: str) -> Path | None:
    """Return the settings that Maven shall have instead of the building user's own; None for those."""
    if not path:
        return None
    settings = Path(path).expanduser()
    if not settings.is_file():
        raise AnsibleActionFail(f"{settings} is no file of the controller: maven_app_settings")
    return settings


def version_of(label: str, content: bytes, arguments: dict[str, Any]) -> str:
    """Return the version's name: it follows from the sources and from what is built of them, and from nothing else."""
    asked = [arguments.get(key) for key in ("module", "options", "tests", "jar", "files")]
    parts = [FORMAT, hashlib.sha512(content).hexdigest(), *asked]
    return f"{label}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]}"


def record_of(kept: Path) -> dict[str, Any] | None:
    """Return what is known of a build that is kept whole; None where it is to be built."""
    try:
        record = json.loads(kept.with_suffix(".json").read_text())
        whole = hashlib.sha512(kept.read_bytes()).hexdigest() == record["sha512"]
    except (OSError, ValueError, KeyError):
        return None
    return record if whole else None


def main_class(asked: str, built: dict[str, Any], kept: Path, source: str) -> tuple[str, str]:
    """Return the class to start, or '' and why there is none; `SourceError` where the one that was asked for is not."""
    known = ", ".join(built["classes"])
    if asked and not has_class(kept, asked):
        told = f"; its jar has a main method in {known}" if known else ""
        raise app_source.SourceError(f"{source}, built, has no class {asked}: maven_app_main{told}")
    found = str(asked or built["main"] or (known if len(built["classes"]) == 1 else ""))
    told = f"one of {known}" if known else "its jar has no class with a main method"
    return found, "" if found else f"{source}: which class is started? Set maven_app_main: {told}"


def has_class(kept: Path, name: str) -> bool:
    """Return whether the program or what it depends on has a class."""
    file = name.replace(".", "/") + ".class"
    with tarfile.open(kept) as tar:
        for member in tar:
            if member.name.endswith(".jar"):
                with zipfile.ZipFile(tar.extractfile(member)) as jar:
                    if file in jar.namelist():
                        return True
    return False
