"""Fetch one release archive to the controller's cache, from the first source that has it, and verify it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

DOCUMENTATION = r"""
module: artifact_fetch
short_description: Fetch a release archive once, verified by SHA-512
description:
  - Runs on the controller, in Ansible's own process (the action plugin of this name), whatever host the task is for.
  - Tries, in this order, the cache, a mirror, the project's own sites, Maven, and pip.
  - A file is accepted only when its SHA-512 is known from a pin, from the project's own C(.sha512) file, or from
    the record beside the cached file. A mirror is never asked for the checksum.
  - Concurrent calls for the same file wait for each other; the cache only ever holds whole files.
options:
  name: {description: What is fetched (kafka), required: true, type: str}
  version: {description: Its version, required: true, type: str}
  filename: {description: The archive's name on the sites, required: true, type: str}
  cache: {description: Folder of fetched files, required: true, type: path}
  mirror: {description: URL of a folder that holds the file, type: str, default: ''}
  sites: {description: URLs of folders on the project's own sites, type: list, elements: str, default: []}
  sha512: {description: The archive's SHA-512 where it is known, type: str, default: ''}
  maven: {description: Coordinates (group:artifact:version) to assemble an archive from, type: list, elements: str,
          default: []}
  maven_alone: {description: Only these jars and nothing that they need, type: bool, default: false}
  maven_sha512: {description: SHA-512 of that archive where it is known, type: str, default: ''}
  pip: {description: A requirement (name==version) whose wheel an archive can be assembled from, type: str, default: ''}
  pip_members: {description: Folders of the wheel that become the archive's, each under its own name, type: list,
                elements: str, default: []}
  pip_sha512: {description: SHA-512 of that archive where it is known, type: str, default: ''}
  connect_timeout: {description: Seconds a site may be silent before the next is asked, type: int, default: 4}
"""

CHUNK = 1 << 20
MAVEN_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"


class SourceError(Exception):
    """A source has not the file, or has another one."""


def file_sha512(path: Path) -> str:
    """Return the SHA-512 of a file as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha512").hexdigest()


def parse_sha512(text: str) -> str:
    """Read a `.sha512` file: coreutils' `0123… name`, or GnuPG's `name: 0123 4567 …` over several lines."""
    _, colon, after = text.partition(":")
    digits = "".join(after.split()) if colon else next(iter(text.split()), "")
    if not re.fullmatch(r"[0-9A-Fa-f]{128}", digits):
        raise SourceError("its .sha512 file holds no SHA-512")
    return digits.lower()


def download(url: str, into: Path, timeout: int) -> None:
    """Write what `url` answers to `into`; a short answer is an error."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer, into.open("wb") as out:
            shutil.copyfileobj(answer, out, CHUNK)
            announced = answer.headers.get("Content-Length")
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise SourceError(f"{getattr(error, 'reason', None) or error}") from None
    if announced is not None and into.stat().st_size != int(announced):
        raise SourceError(f"cut short: {into.stat().st_size} of {announced} bytes")


def published_sha512(sites: list[str], filename: str, timeout: int) -> str:
    """Return the SHA-512 that the project itself publishes."""
    problems = []
    for site in sites:
        with tempfile.TemporaryDirectory() as folder:
            text = Path(folder) / "sum"
            try:
                download(f"{site.rstrip('/')}/{filename}.sha512", text, timeout)
                return parse_sha512(text.read_text(errors="replace"))
            except SourceError as error:
                problems.append(f"{site}: {error}")
    raise SourceError("no checksum to verify it with (" + "; ".join(problems or ["no site given"]) + ")")


def pom(coordinates: list[str], *, alone: bool = False) -> str:
    """Return a Maven project that depends on `coordinates`, or copies just them, and is nothing else."""
    kind, named = "artifactItem" if alone else "dependency", ""
    for coordinate in coordinates:
        group, artifact, version = coordinate.split(":")
        inner = f"<groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>"
        named += f"<{kind}>{inner}</{kind}>"
    wanted = f"<dependencies>{named}</dependencies>"
    if alone:
        group, artifact, version = MAVEN_PLUGIN.split(":")
        wanted = (
            f"<build><plugins><plugin><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
            f"<version>{version}</version><configuration><artifactItems>{named}</artifactItems></configuration>"
            "</plugin></plugins></build>"
        )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>local</groupId><artifactId>assembly</artifactId><version>1</version><packaging>pom</packaging>"
        f"{wanted}</project>"
    )


def deterministic_tar(folder: Path, prefix: str, into: Path) -> None:
    """Pack the files of `folder` under `prefix/libs/`; equal files give an equal archive, byte by byte."""
    with tarfile.open(into, "w", format=tarfile.USTAR_FORMAT) as archive:
        for file in sorted(folder.iterdir(), key=lambda path: path.name):
            entry = tarfile.TarInfo(f"{prefix}/libs/{file.name}")
            entry.size = file.stat().st_size
            entry.mode = 0o644
            with file.open("rb") as content:
                archive.addfile(entry, content)


def assemble(coordinates: list[str], prefix: str, into: Path, *, alone: bool = False) -> None:
    """Let Maven collect `coordinates` and, unless they stand alone, all they need; checksums enforced; pack them."""
    program = shutil.which("mvn")
    if program is None:
        raise SourceError("mvn is not installed (Debian: apt-get install maven)")
    with tempfile.TemporaryDirectory(dir=into.parent) as name:
        folder = Path(name)
        (folder / "pom.xml").write_text(pom(coordinates, alone=alone))
        command = [
            program,
            "-B",
            "-q",
            "--strict-checksums",
            f"{MAVEN_PLUGIN}:{'copy' if alone else 'copy-dependencies'}",
        ]
        command += [f"-DoutputDirectory={folder / 'libs'}", "-DincludeScope=runtime"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            # Debian's mvn colours its first line, whatever it is asked for.
            lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in done.stdout.splitlines() if "ERROR" in line]
            raise SourceError("mvn failed: " + (lines or done.stderr.splitlines() or ["no message"])[0])
        deterministic_tar(folder / "libs", prefix, into)


def pack_wheel(wheel: Path, members: list[str], prefix: str, into: Path) -> None:
    """Pack folders of a wheel under `prefix/`, each under its own last name; equal content gives an equal archive.

    What has a bit of execution there has it in the archive. `SourceError` names a folder that the wheel has not.
    """
    with zipfile.ZipFile(wheel) as source, tarfile.open(into, "w", format=tarfile.GNU_FORMAT) as archive:
        listed = sorted((one for one in source.infolist() if not one.is_dir()), key=lambda one: one.filename)
        for member in members:
            folder = member.strip("/") + "/"
            found = [one for one in listed if one.filename.startswith(folder)]
            if not found:
                raise SourceError(f"its wheel has no folder {member}")
            for one in found:
                entry = tarfile.TarInfo(f"{prefix}/{Path(member).name}/{one.filename.removeprefix(folder)}")
                entry.size = one.file_size
                entry.mode = 0o755 if one.external_attr >> 16 & 0o100 else 0o644
                with source.open(one) as content:
                    archive.addfile(entry, content)


def assemble_wheel(requirement: str, members: list[str], prefix: str, into: Path) -> None:
    """Let pip make the wheel of `requirement`, from the index this machine's settings name, and pack its folders."""
    program = shutil.which("pip3") or shutil.which("pip")
    if program is None:
        raise SourceError("pip is not installed (Debian: apt-get install python3-pip)")
    with tempfile.TemporaryDirectory(dir=into.parent) as name:
        folder = Path(name)
        command = [program, "wheel", "--quiet", "--disable-pip-version-check", "--no-input", "--no-cache-dir"]
        command += ["--no-deps", "--wheel-dir", str(folder / "wheel"), requirement]
        # It unpacks beside the cache: what is large may not fit where temporary files are.
        environment = {**os.environ, "TMPDIR": str(folder)}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        wheels = list(folder.glob("wheel/*.whl"))
        if done.returncode != 0 or not wheels:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise SourceError("pip failed: " + (lines or done.stderr.splitlines() or ["no message"])[-1])
        pack_wheel(wheels[0], members, prefix, into)


class Cache:
    """A folder of whole files, each with a record of what it is and where it came from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the only right to fetch `name`."""
        with (self.folder / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def record(self, path: Path) -> Path:
        """Return where the record of `path` is."""
        return path.with_name(path.name + ".json")

    def find(self, path: Path, pin: str) -> dict | None:
        """Return the record of a cached file that is what it was; None where it is absent, cut or altered.

        A file that somebody put there is taken if it has the pinned SHA-512, or the one in a `.sha512` file
        beside it.
        """
        try:
            actual = file_sha512(path)
        except OSError:
            return None
        try:
            record = json.loads(self.record(path).read_text())
        except (OSError, ValueError):
            record = None
        if isinstance(record, dict) and record.get("sha512") == actual and pin in ("", actual):
            return record
        with contextlib.suppress(OSError, SourceError):
            pin = pin or parse_sha512(path.with_name(path.name + ".sha512").read_text())
        return self.keep(path, path, actual, "cache", str(path)) if actual == pin else None

    def keep(self, temporary: Path, path: Path, sha512: str, source: str, origin: str) -> dict:
        """Give a verified file its name and its record."""
        record = {
            "filename": path.name,
            "sha512": sha512,
            "size": temporary.stat().st_size,
            "source": source,
            "origin": origin,
            "fetched": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        note = self.record(path).with_suffix(f".{os.getpid()}")
        note.write_text(json.dumps(record, indent=2) + "\n")
        temporary.replace(path)
        note.replace(self.record(path))
        return record


def checked(path: Path, expected: str) -> str:
    """Return the file's SHA-512; `SourceError` if it is not the expected one ('' expects nothing)."""
    actual = file_sha512(path)
    if expected and actual != expected:
        raise SourceError(f"refused, its SHA-512 is {actual[:16]}…, expected {expected[:16]}…")
    return actual


class Fetch:
    """One archive and the sources that may have it."""

    def __init__(self, arguments: dict) -> None:
        self.want = arguments
        self.cache = Cache(Path(arguments["cache"]).expanduser())
        self.label = f"{arguments['name']}-{arguments['version']}"
        self.archive = self.cache.folder / arguments["filename"]
        self.assembled = self.cache.folder / f"{self.label}-maven.tar"
        self.unwheeled = self.cache.folder / f"{self.label}-pip.tar"
        self.pin = arguments["sha512"].lower()
        self.maven_pin = arguments["maven_sha512"].lower()
        self.pip_pin = arguments["pip_sha512"].lower()

    def cached(self) -> dict | None:
        """Return what the cache holds already."""
        known = ((self.archive, self.pin), (self.assembled, self.maven_pin), (self.unwheeled, self.pip_pin))
        for path, pin in known:
            if record := self.cache.find(path, pin):
                return {**record, "path": str(path)}
        return None

    def from_url(self, source: str, url: str, temporary: Path) -> dict:
        """Download from a mirror or a site, and verify."""
        timeout = self.want["connect_timeout"]
        expected = self.pin or published_sha512(self.want["sites"], self.archive.name, timeout)
        download(url, temporary, timeout)
        record = self.cache.keep(temporary, self.archive, checked(temporary, expected), source, url)
        return {**record, "path": str(self.archive)}

    def from_maven(self, temporary: Path) -> dict:
        """Assemble the archive from Maven's jars, and verify."""
        assemble(self.want["maven"], self.label, temporary, alone=self.want["maven_alone"])
        digest = checked(temporary, self.maven_pin)
        record = self.cache.keep(temporary, self.assembled, digest, "maven", " ".join(self.want["maven"]))
        return {**record, "path": str(self.assembled)}

    def from_pip(self, temporary: Path) -> dict:
        """Assemble the archive from pip's wheel, and verify."""
        assemble_wheel(self.want["pip"], self.want["pip_members"], self.label, temporary)
        digest = checked(temporary, self.pip_pin)
        record = self.cache.keep(temporary, self.unwheeled, digest, "pip", self.want["pip"])
        return {**record, "path": str(self.unwheeled)}

    def run(self, check_mode: bool) -> dict:
        """Return the archive's record with `path` and `changed`; `SourceError` names every source tried."""
        with self.cache.locked(self.label):
            if record := self.cached():
                return {**record, "changed": False}
            if check_mode:
                return {"path": str(self.archive), "filename": self.archive.name, "sha512": "", "changed": True}
            temporary = self.cache.folder / f".{self.label}.{os.getpid()}"
            folders = [("mirror", self.want["mirror"])] if self.want["mirror"] else []
            folders += [("site", site) for site in self.want["sites"]]
            tried = []
            try:
                for source, folder in folders:
                    url = f"{folder.rstrip('/')}/{self.archive.name}"
                    try:
                        return {**self.from_url(source, url, temporary), "changed": True}
                    except SourceError as error:
                        tried.append(f"{url}: {error}")
                managers = (("maven", "Maven", self.from_maven), ("pip", "pip", self.from_pip))
                for wanted, manager, assembled in managers:
                    if self.want[wanted]:
                        try:
                            return {**assembled(temporary), "changed": True}
                        except SourceError as error:
                            tried.append(f"{manager}: {error}")
            finally:
                temporary.unlink(missing_ok=True)
        raise SourceError("; ".join(tried) or "there is no source to ask")


OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "filename": {"type": "str", "required": True},
    "cache": {"type": "path", "required": True},
    "mirror": {"type": "str", "default": ""},
    "sites": {"type": "list", "elements": "str", "default": []},
    "sha512": {"type": "str", "default": ""},
    "maven": {"type": "list", "elements": "str", "default": []},
    "maven_alone": {"type": "bool", "default": False},
    "maven_sha512": {"type": "str", "default": ""},
    "pip": {"type": "str", "default": ""},
    "pip_members": {"type": "list", "elements": "str", "default": []},
    "pip_sha512": {"type": "str", "default": ""},
    "connect_timeout": {"type": "int", "default": 4},
}


def fetched(arguments: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Return what Ansible is told of an archive that is in the cache now, or why it is not."""
    name, version = arguments["name"], arguments["version"]
    try:
        result = Fetch(dict(arguments)).run(check_mode)
    except SourceError as error:
        told = (
            f"{name} {version} could not be fetched: {error}. Way out: put {arguments['filename']} and its "
            f".sha512 file into {arguments['cache']}, set artifact_mirror, or name another version."
        )
        return {"failed": True, "msg": told}
    except OSError as error:
        return {"failed": True, "msg": f"the cache {arguments['cache']} cannot be used: {error}"}
    changed = result.pop("changed")
    fact = {"name": name, "version": version, **result}
    return {"changed": changed, "artifact": fact, "ansible_facts": {f"artifact_{name}": fact}}
