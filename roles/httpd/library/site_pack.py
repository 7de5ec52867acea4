#!/usr/bin/python
"""Pack what a site is made of, on the controller: a folder, an archive or a git commit becomes one archive."""

from __future__ import annotations

import calendar
import hashlib
import io
import os
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: site_pack
short_description: Pack the content of sites on the controller
description:
  - Makes an archive of each site's content, named after it, in O(cache). Equal content is packed once.
  - Returns C(packed), a list of C(name), C(version), C(path) and C(sha512) of the sites that have content to hand over.
options:
  sites: {description: 'Sites with C(name) and C(folder), C(archive), or C(git) and C(commit)', required: true,
          type: list, elements: dict}
  cache: {description: Folder for the archives and for copies of git repositories, required: true, type: path}
"""

TOP = "site"
REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")


class PackError(Exception):
    """The content cannot be packed; the text says what to do."""


class Entry(NamedTuple):
    """A file of a site."""

    path: str
    content: bytes
    executable: bool
    time: int  # s since 1970


def of_folder(folder: Path) -> Iterator[Entry]:
    """Yield a folder's files; what a link leads to within the folder is taken, a link that leads out is refused."""
    if not folder.is_dir():
        raise PackError(f"{folder} is no folder of this machine")
    top = folder.resolve()
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if name != ".git")
        for name in [*folders, *sorted(files)]:
            path = Path(parent) / name
            if path.is_symlink():
                target = path.resolve()
                if not target.is_relative_to(top):
                    raise PackError(f"{path} links to {target}, outside of {folder}: put a copy there")
                if target.is_dir() and (top / path.relative_to(folder)).is_relative_to(target):
                    raise PackError(f"{path} links to a folder that holds it: take the link away")
        for name in sorted(files):
            path = Path(parent) / name
            try:
                if path.is_file():
                    seen = path.stat()
                    yield Entry(
                        path.relative_to(folder).as_posix(),
                        path.read_bytes(),
                        bool(seen.st_mode & 0o100),
                        int(seen.st_mtime),
                    )
            except OSError as error:
                raise PackError(f"{path} cannot be read: {error.strerror}") from None


def of_archive(archive: Path) -> list[Entry]:
    """Return an archive's files, without a top folder that holds them all."""
    if not archive.is_file():
        raise PackError(f"{archive} is no file of this machine")
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                found = [
                    Entry(one.filename, packed.read(one), bool(one.external_attr >> 16 & 0o100), zip_time(one))
                    for one in packed.infolist()
                    if not one.is_dir()
                ]
        else:
            with tarfile.open(archive) as packed:
                found = [
                    Entry(one.name, stream.read(), bool(one.mode & 0o100), int(one.mtime))
                    for one in packed
                    if one.isfile() and (stream := packed.extractfile(one))
                ]
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise PackError(f"{archive} is no tar or zip archive, or was cut: {error}") from None
    found = [one._replace(path=os.path.normpath(one.path)) for one in found]
    for one in found:
        if one.path.startswith(("/", "..")):
            raise PackError(f"{archive} holds the unsafe path {one.path}")
    tops = {PurePosixPath(one.path).parts[0] for one in found if len(PurePosixPath(one.path).parts) > 1}
    if len(tops) == 1 and all(len(PurePosixPath(one.path).parts) > 1 for one in found):
        found = [one._replace(path=str(PurePosixPath(*PurePosixPath(one.path).parts[1:]))) for one in found]
    return found


def zip_time(one: zipfile.ZipInfo) -> int:
    """Return a member's time in s since 1970, taken as UTC."""
    return calendar.timegm((*one.date_time, 0, 0, 0))


def of_git(url: str, reference: str, cache: Path) -> list[Entry]:
    """Return the files of a commit; the repository's copy is kept, and asked for nothing it has."""
    if url.startswith("-") or not REFERENCE.fullmatch(reference) or ".." in reference:
        raise PackError(f"{url!r} at {reference!r}: that is no repository, or no commit, tag or branch")
    copy = cache / "git" / hashlib.sha256(url.encode()).hexdigest()[:16]
    if not (copy / "HEAD").is_file():
        git("init", "--quiet", "--bare", str(copy))
    if not (COMMIT.fullmatch(reference) and has(copy, reference)):
        # A server need not give out single commits; then all branches and tags are fetched.
        if git_tries(copy, "fetch", "--quiet", "--no-tags", url, f"+{reference}:refs/labtool/wanted"):
            reference = "refs/labtool/wanted"
        else:
            git("--git-dir", str(copy), "fetch", "--quiet", "--tags", url, "+refs/heads/*:refs/labtool/heads/*")
            if not has(copy, reference):
                raise PackError(f"{url} has no commit, tag or branch {reference}")
    packed = git("--git-dir", str(copy), "archive", "--format=tar", f"{reference}^{{commit}}")
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        links = [one.name for one in tar if one.issym() or one.islnk()]
        if links:
            raise PackError(f"{url} at {reference} holds the link {links[0]}: a site is made of files")
        return [
            Entry(one.name, stream.read(), bool(one.mode & 0o100), int(one.mtime))
            for one in tar
            if one.isfile() and (stream := tar.extractfile(one))
        ]


def git(*words: str) -> bytes:
    """Run git; `PackError` with its words."""
    try:
        done = subprocess.run(
            ["git", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
        )
    except OSError as error:
        raise PackError(f"git cannot be run: {error}; install it on this machine") from None
    if done.returncode:
        raise PackError(f"git: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def git_tries(copy: Path, *words: str) -> bool:
    """Run git in a repository; return whether it could."""
    try:
        git("--git-dir", str(copy), *words)
    except PackError:
        return False
    return True


def has(copy: Path, reference: str) -> bool:
    """Return whether the copy has a commit."""
    return git_tries(copy, "cat-file", "-e", f"{reference}^{{commit}}")


def pack(entries: list[Entry]) -> bytes:
    """Return an uncompressed tar of the files below one top folder: equal files give equal bytes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for one in sorted(entries):
            info = tarfile.TarInfo(f"{TOP}/{one.path}")
            info.size, info.mtime, info.mode = len(one.content), one.time, 0o755 if one.executable else 0o644
            tar.addfile(info, io.BytesIO(one.content))
    return stream.getvalue()


def site(wanted: dict, cache: Path, check_mode: bool) -> dict | None:
    """Pack one site; None where its content is the host's own."""
    if wanted.get("folder"):
        source, entries = wanted["folder"], list(of_folder(Path(wanted["folder"]).expanduser()))
    elif wanted.get("archive"):
        source, entries = wanted["archive"], of_archive(Path(wanted["archive"]).expanduser())
    elif wanted.get("git"):
        source, entries = wanted["git"], of_git(wanted["git"], wanted.get("commit") or "HEAD", cache)
    else:
        return None
    if not entries:
        raise PackError(f"{source} holds no files")
    content = pack(entries)
    sha512 = hashlib.sha512(content).hexdigest()
    path = cache / "sites" / f"{sha512[:16]}.tar"
    if not check_mode and not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_bytes(content)
        temporary.replace(path)
    return {"name": wanted["name"], "version": sha512[:16], "path": str(path), "sha512": sha512}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "sites": {"type": "list", "elements": "dict", "required": True},
            "cache": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    cache = Path(module.params["cache"])
    packed = []
    for wanted in module.params["sites"]:
        try:
            made = site(wanted, cache, module.check_mode)
        except PackError as error:
            module.fail_json(msg=f"site {wanted['name']}: {error}")
        except OSError as error:
            module.fail_json(msg=f"site {wanted['name']} cannot be packed to {cache}: {error}")
        if made:
            packed.append(made)
    module.exit_json(changed=False, packed=packed)


if __name__ == "__main__":
    main()
