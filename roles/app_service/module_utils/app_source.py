"""What an application is made of, packed on the controller: a folder, an archive or a git commit becomes one tar.

Plain Python, for action plugins: they load it by its path.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".zip")
HISTORY = {".git", ".hg", ".svn"}
FETCH_S = 300.0


class SourceError(Exception):
    """The source cannot be had; the text names the argument that says where it is."""


def of_folder(folder: Path, is_left_out: Callable[[Path], bool]) -> bytes:
    """Return a tar of a folder that is the same for the same files, whoever they belong to and whenever written.

    `is_left_out` is asked for folders and files below `folder`.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT, dereference=True) as tar:
        for root, folders, files in os.walk(folder):
            folders[:] = sorted(name for name in folders if name not in HISTORY and not is_left_out(Path(root) / name))
            for name in sorted(files):
                path = Path(root) / name
                if is_left_out(path) or not path.is_file():
                    continue
                info = tar.gettarinfo(path, str(path.relative_to(folder)))
                info.mtime = info.uid = info.gid = 0
                info.uname = info.gname = "root"
                info.mode = 0o755 if info.mode & 0o100 else 0o644
                info.type, info.linkname, info.size = tarfile.REGTYPE, "", path.stat().st_size
                with path.open("rb") as content:
                    tar.addfile(info, content)
    return packed.getvalue()


def of_archive(archive: Path, is_left_out: Callable[[Path], bool]) -> bytes:
    """Return the tar of an archive's files, without a top folder that holds them all."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            if zipfile.is_zipfile(archive):
                with zipfile.ZipFile(archive) as packed:
                    packed.extractall(folder)  # noqa: S202 - zipfile takes no path that leads outside
            else:
                with tarfile.open(archive) as tar:
                    members = [one for one in tar if one.isfile() or one.isdir()]
                    unsafe = [one.name for one in members if one.name.startswith("/") or ".." in one.name.split("/")]
                    if unsafe:
                        raise SourceError(f"{archive} holds the unsafe path {unsafe[0]}")
                    tar.extractall(folder, members=members)  # noqa: S202 - none leads outside
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
            raise SourceError(f"{archive} is no tar or zip archive, or was cut: {error}") from None
        held = list(folder.iterdir())
        return of_folder(held[0] if len(held) == 1 and held[0].is_dir() else folder, is_left_out)


def of_commit(source: str, commit: str, role: str) -> bytes:
    """Return a tar of a commit, which is fetched to the controller's cache where it is not there."""
    if not COMMIT.fullmatch(commit):
        raise SourceError(
            f"{role}_commit {commit!r} is not all 40 digits of a commit: `git rev-parse HEAD` prints them; "
            "a branch would be another program tomorrow"
        )
    folder = cache() / "git"
    folder.mkdir(parents=True, exist_ok=True)
    repository = folder / f"{hashlib.sha256(source.encode()).hexdigest()[:24]}.git"
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
            raise SourceError(f"{source} has no commit {commit} in a branch or a tag: {role}_commit")
        return git(*inside, "archive", "--format=tar", commit, what=f"{source}: commit {commit}").stdout


def cache() -> Path:
    """Return the controller's folder for what need not be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "labtool"


def has(repository: Path, commit: str) -> bool:
    """Return True if the cache has a commit."""
    return git("--git-dir", str(repository), "cat-file", "-e", f"{commit}^{{commit}}").returncode == 0


def git(*words: str, what: str = "") -> subprocess.CompletedProcess[bytes]:
    """Run git, which must not ask for a password; with `what` a failure is an error that begins with it."""
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}
    try:
        done = subprocess.run(["git", *words], capture_output=True, env=environment, timeout=FETCH_S, check=False)
    except FileNotFoundError:
        raise SourceError("the controller has no git: install it, or give the program as a folder") from None
    except subprocess.TimeoutExpired:
        raise SourceError(f"{what or 'git'}: no end after {FETCH_S:.0f} s") from None
    if what and done.returncode != 0:
        raise SourceError(f"{what}: {done.stderr.decode(errors='replace').strip()}")
    return done
