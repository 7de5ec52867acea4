"""Hand a Python program to a host that has not installed it yet: one task, and no transfer where it has."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
LEFT_OUT = {
    ".git",
    ".hg",
    ".svn",
    ".venv",
    "venv",
    "__pycache__",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".tox",
}
FETCH_S = 300.0


class ActionModule(ActionBase):
    """Ask the host, transfer if it needs the program, let the module install it."""

    TRANSFERS_FILES = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module once or, around a transfer, twice."""
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        source, commit = str(arguments.pop("source")), str(arguments.pop("commit", ""))
        kind, label, content = program(source, commit)
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


def program(source: str, commit: str) -> tuple[str, str, bytes]:
    """Return its kind (wheel or folder), a label for its version, and the wheel or a tar of the folder."""
    if commit:
        return "folder", commit[:12], of_commit(source, commit)
    path = Path(source).expanduser()
    if path.suffix == ".whl" and path.is_file():
        return "wheel", path.name.split("-")[1], path.read_bytes()
    if path.is_dir():
        return "folder", "folder", of_folder(path)
    if "://" in source:
        raise AnsibleActionFail(f"{source}: which commit? Set python_app_commit to all its 40 digits")
    raise AnsibleActionFail(f"{source} is neither a folder nor a wheel on the controller: python_app_source")


def of_folder(folder: Path) -> bytes:
    """Return a tar of a folder that is the same for the same files, whoever they belong to and whenever written."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT, dereference=True) as tar:
        for root, folders, files in os.walk(folder):
            folders[:] = sorted(name for name in folders if name not in LEFT_OUT and not name.endswith(".egg-info"))
            for name in sorted(files):
                path = Path(root) / name
                if name.endswith((".pyc", ".pyo")) or not path.is_file():
                    continue
                info = tar.gettarinfo(path, str(path.relative_to(folder)))
                info.mtime = info.uid = info.gid = 0
                info.uname = info.gname = "root"
                info.mode = 0o755 if info.mode & 0o100 else 0o644
                info.type, info.linkname, info.size = tarfile.REGTYPE, "", path.stat().st_size
                with path.open("rb") as content:
                    tar.addfile(info, content)
    return packed.getvalue()


def of_commit(source: str, commit: str) -> bytes:
    """Return a tar of a commit, which is fetched to the controller's cache where it is not there."""
    if not COMMIT.fullmatch(commit):
        raise AnsibleActionFail(
            f"python_app_commit {commit!r} is not all 40 digits of a commit: `git rev-parse HEAD` prints them; "
            "a branch would be another program tomorrow"
        )
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "labtool" / "git"
    cache.mkdir(parents=True, exist_ok=True)
    repository = cache / f"{hashlib.sha256(source.encode()).hexdigest()[:24]}.git"
    with repository.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # every host's process comes here at the same time
        if not repository.is_dir():
            git("init", "--quiet", "--bare", str(repository), what=f"{repository} cannot be made")
        inside = ("--git-dir", str(repository))
        if not has(repository, commit):
            # Few servers refuse a single commit; those have it in a branch or a tag.
            alone = git(*inside, "fetch", "--quiet", "--depth", "1", "--", source, commit)
            if alone.returncode != 0:
                every = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
                git(*inside, "fetch", "--quiet", "--", source, *every, what=f"{source} cannot be fetched")
        if not has(repository, commit):
            raise AnsibleActionFail(f"{source} has no commit {commit} in a branch or a tag: python_app_commit")
        return git(*inside, "archive", "--format=tar", commit, what=f"{source}: commit {commit}").stdout


def has(repository: Path, commit: str) -> bool:
    """Return True if the cache has a commit."""
    return git("--git-dir", str(repository), "cat-file", "-e", f"{commit}^{{commit}}").returncode == 0


def git(*words: str, what: str = "") -> subprocess.CompletedProcess[bytes]:
    """Run git, which must not ask for a password; with `what` a failure is an error that begins with it."""
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}
    try:
        done = subprocess.run(["git", *words], capture_output=True, env=environment, timeout=FETCH_S, check=False)
    except FileNotFoundError:
        raise AnsibleActionFail("the controller has no git: install it, or give the program as a folder") from None
    except subprocess.TimeoutExpired:
        raise AnsibleActionFail(f"{what or 'git'}: no end after {FETCH_S:.0f} s") from None
    if what and done.returncode != 0:
        raise AnsibleActionFail(f"{what}: {done.stderr.decode(errors='replace').strip()}")
    return done
