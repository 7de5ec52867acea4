#!/usr/bin/python
"""Unpack an archive to a versioned folder of the host, behind a `current` link."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: artifact_install
short_description: Unpack an archive to a versioned folder behind a current link
description:
  - The action plugin of this name hands the archive to the host, but only if the host has not this very archive yet.
  - With O(url) the host fetches the archive itself; where it cannot, the plugin hands it over as without, and warns.
  - The archive's one top folder is stripped. The new folder appears whole or not at all; so does the link.
options:
  src: {description: The archive on the controller, required: true, type: path}
  directory: {description: Folder that holds the versions and the link, required: true, type: path}
  version: {description: Name of the version's folder, required: true, type: str}
  sha512: {description: The archive's SHA-512; empty only in check mode, required: true, type: str}
  url: {description: Where this host can fetch the archive. It may be a secret, type: str, default: ''}
  url_problem: {description: Why there is no URL though there should be one; told as a warning, type: str, default: ''}
  send: {description: Whether the plugin sends the archive where the host could not fetch it. If not it is only told so
         (C(needs_archive)), type: bool, default: true}
"""

MARKER = ".artifact.json"
CHUNK = 1 << 20
ATTEMPTS = 5
SILENCE_S = 20.0


class UnavailableError(Exception):
    """What is at the URL is not to be had, or is not the archive; says why and never names the URL."""


def installed_sha512(folder: Path) -> str:
    """Return the SHA-512 of the archive that `folder` was unpacked from; '' if there is none."""
    try:
        return json.loads((folder / MARKER).read_text())["sha512"]
    except (OSError, ValueError, KeyError):
        return ""


def archive_sha512(path: Path) -> str:
    """Return the SHA-512 of the archive as it arrived."""
    digest = hashlib.sha512()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(url: str, into: Path, sha512: str, attempts: int = ATTEMPTS, pause_s: float = 1.0) -> None:
    """Write the archive at `url` to `into`; a connection that breaks is taken up where it broke.

    `UnavailableError` for another archive, a refusal, or no progress in `attempts` attempts.
    """
    if not url.startswith(("https://", "http://")):
        raise UnavailableError("it is neither https nor http")
    into.unlink(missing_ok=True)
    left = attempts
    while True:
        have = into.stat().st_size if into.exists() else 0
        try:
            if download(url, into, have):
                break
            problem = "the connection broke"
        except urllib.error.HTTPError as error:
            problem = f"HTTP {error.code}"
            if error.code == 416:  # what is here is as long as the archive, or longer
                break
            if error.code < 500 and error.code not in (408, 429):
                raise UnavailableError(problem) from None
        except (OSError, http.client.HTTPException) as error:
            problem = f"{getattr(error, 'reason', None) or error or type(error).__name__}"
        if into.exists() and into.stat().st_size > have:
            left = attempts
        left -= 1
        if not left:
            raise UnavailableError(f"{problem}, {attempts} times")
        time.sleep(pause_s * 2 ** (attempts - left - 1))
    if archive_sha512(into) != sha512:
        raise UnavailableError("another archive is there")


def download(url: str, into: Path, have: int) -> bool:
    """Append to `into`, of which `have` bytes are there, what `url` answers; tell whether all of it came."""
    asked = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(asked, timeout=SILENCE_S) as answer:
        goes_on = answer.status == 206
        announced = answer.headers.get("Content-Length")
        came = 0
        with into.open("ab" if goes_on else "wb") as out:
            while chunk := answer.read(CHUNK):
                out.write(chunk)
                came += len(chunk)
    return announced is None or came == int(announced)


def stripped(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the archive's members without their top folder; a path that leads outside is a `ValueError`."""
    for member in archive.getmembers():
        name = os.path.normpath(member.name).split("/", 1)
        if member.name.startswith("/") or ".." in member.name.split("/"):
            raise ValueError(f"the archive holds the unsafe path {member.name}")
        if member.issym() or member.islnk() or not (member.isfile() or member.isdir()):
            continue
        if len(name) == 2:
            member.name = name[1]
            member.uid = member.gid = 0
            member.uname = member.gname = "root"
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            yield member


def unpack(archive: Path, folder: Path, sha512: str) -> None:
    """Make `folder` from `archive`, replacing an older one."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o755, parents=True)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(temporary, members=stripped(tar))  # noqa: S202 - stripped() lets no path lead outside
        (temporary / MARKER).write_text(json.dumps({"sha512": sha512}) + "\n")
        if folder.exists():
            old = folder.with_name(f".{folder.name}.old.{os.getpid()}")
            folder.rename(old)
            temporary.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        else:
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def point(link: Path, version: str) -> None:
    """Let `link` name `version`, in one step."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(version)
    temporary.replace(link)


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "src": {"type": "path", "required": True},
            "directory": {"type": "path", "required": True},
            "version": {"type": "str", "required": True},
            "sha512": {"type": "str", "required": True},
            "url": {"type": "str", "default": "", "no_log": True},
            "url_problem": {"type": "str", "default": ""},
            "send": {"type": "bool", "default": True},  # the action plugin's
            "_archive": {"type": "path"},  # where the action plugin put the archive on this host
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # folders that others must pass, whatever the login says
    directory, version, sha512 = (module.params[key] for key in ("directory", "version", "sha512"))
    folder = Path(directory) / version
    link = Path(directory) / "current"
    archive = Path(module.params["_archive"]) if module.params["_archive"] else None
    present = bool(sha512) and installed_sha512(folder) == sha512
    linked = link.is_symlink() and str(link.readlink()) == version
    result = {
        "changed": not (present and linked),
        "folder": str(folder),
        "link": str(link),
        "needs_archive": not present,
    }
    if module.check_mode:
        module.exit_json(**result)
    if not present and archive is None:
        problem = module.params["url_problem"]
        if module.params["url"]:
            fetched = Path(tempfile.mkdtemp(dir=module.tmpdir)) / "archive"
            try:
                fetch(module.params["url"], fetched, sha512)
                archive = fetched
            except UnavailableError as error:
                problem = str(error)
        if archive is None:
            if problem:
                module.warn(f"this host could not fetch {Path(module.params['src']).name} ({problem}): sent over SSH")
            module.exit_json(**result)
        result["fetched"] = True
    try:
        if not present:
            if archive_sha512(archive) != sha512:
                module.fail_json(msg=f"{module.params['src']} was altered on its way to this host; run this again")
            unpack(archive, folder, sha512)
        if not linked:
            point(link, version)
    except (OSError, ValueError, tarfile.TarError) as error:
        module.fail_json(msg=f"{module.params['src']} could not be unpacked to {folder}: {error}")
    module.exit_json(**{**result, "needs_archive": False})


if __name__ == "__main__":
    main()
