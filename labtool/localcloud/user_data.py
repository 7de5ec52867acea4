"""User data as EC2's images understand it: what a host is to do at its first boot, as a plan. Nothing is run here.

A subset of cloud-init: shell scripts, `#cloud-config` with the keys of `CloudConfig`, both in MIME archives, any of it
compressed by gzip. What is not supported, or wrong, is named in the plan and printed on the host's console.
"""

from __future__ import annotations

import base64
import binascii
import email
import email.policy
import gzip
import io
import json
import shlex
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

_LARGEST = 10 << 20
_GZIP = b"\x1f\x8b"
_BASE64, _GZIPPED = frozenset(("b64", "base64")), frozenset(("gz", "gzip"))
_USER_KEYS = frozenset(
    ("name", "gecos", "groups", "primary_group", "sudo", "shell", "ssh_authorized_keys", "system", "no_create_home",
     "homedir", "uid", "lock_passwd", "passwd", "no_user_group")
)  # fmt: skip
_FILE_KEYS = frozenset(("path", "content", "encoding", "owner", "permissions", "append", "defer"))
# cloud-init knows a part by how it begins, whatever its type says.
_BEGINNINGS = {
    "#!": "text/x-shellscript",
    "#cloud-config-archive": "text/cloud-config-archive",
    "#cloud-config": "text/cloud-config",
    "#cloud-boothook": "text/cloud-boothook",
    "#include": "text/x-include-url",
    "#part-handler": "text/part-handler",
    "## template: jinja": "text/jinja2",
}


class WrongValueError(ValueError):
    """A value that is not what its key wants."""


@dataclass
class Plan:
    """What a host does at its first boot, in the order of the fields."""

    complaints: list[str] = field(default_factory=list)  # printed first
    bootcmd: str = ""  # a shell script
    files: list[dict[str, Any]] = field(default_factory=list)  # path, content (base64), mode, owner, append, defer
    groups: list[dict[str, Any]] = field(default_factory=list)  # name, members
    users: list[dict[str, Any]] = field(default_factory=list)  # as in cloud-config, checked
    keys: list[str] = field(default_factory=list)  # of the login user
    timezone: str = ""
    update: bool = False
    upgrade: bool = False
    packages: list[str] = field(default_factory=list)  # `name` or `name=version`
    scripts: list[str] = field(default_factory=list)  # base64, in order; runcmd is the last
    final_message: str = ""

    def document(self) -> dict[str, Any]:
        """Return it as the host reads it."""
        return asdict(self)


def plain_script(raw: bytes) -> bytes | None:
    """Return the script that `raw` is, None if it is something else."""
    content = _inflated(raw)
    return content if content.startswith(b"#!") else None


def plan(raw: bytes) -> Plan:
    """Return what `raw` asks for."""
    made = Plan()
    seen: set[str] = set()
    runcmd = ""
    try:
        for kind, content in _parts(raw, made):
            if kind == "text/x-shellscript":
                made.scripts.append(base64.b64encode(content).decode())
            elif kind == "text/cloud-config":
                runcmd = _cloud_config(content, made, seen) or runcmd
            else:
                made.complaints.append(f"{kind} is not supported: this part is ignored")
    except WrongValueError as error:
        made.complaints.append(str(error))
    if runcmd:
        made.scripts.append(base64.b64encode(runcmd.encode()).decode())
    return made


def _parts(raw: bytes, made: Plan) -> Iterator[tuple[str, bytes]]:
    content = _inflated(raw)
    text = content[:256].decode("latin-1").lstrip().lower()
    if not text.startswith(("content-type:", "mime-version:", "from nobody")):
        yield _kind(content, "what this begins with"), content
        return
    for part in email.message_from_bytes(content, policy=email.policy.HTTP).walk():
        if part.is_multipart():
            continue
        body = part.get_payload(decode=True)
        if not isinstance(body, bytes):
            continue
        try:
            inner = _inflated(body)
        except WrongValueError as error:
            made.complaints.append(str(error))
            continue
        if part.get_content_type() == "message/rfc822" or inner.lstrip()[:13].lower() == b"mime-version:":
            yield from _parts(inner, made)
        else:
            yield _kind(inner, part.get_content_type()), inner


def _kind(content: bytes, otherwise: str) -> str:
    start = content[:64].decode("latin-1")
    return next((kind for beginning, kind in _BEGINNINGS.items() if start.startswith(beginning)), otherwise)


def _inflated(raw: bytes) -> bytes:
    if not raw.startswith(_GZIP):
        return raw
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as packed:
            content = packed.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise WrongValueError(f"user data is not whole: {error}") from None
    if len(content) > _LARGEST:
        raise WrongValueError(f"user data is larger than {_LARGEST >> 20} MiB")
    return content


def _cloud_config(content: bytes, made: Plan, seen: set[str]) -> str:
    """Add a cloud-config to the plan; return its runcmd as a shell script."""
    import yaml

    try:
        config = yaml.safe_load(content)
        # Half characters, values that hold themselves: what could not be written down again.
        json.dumps(config, ensure_ascii=False, skipkeys=True, default=str).encode()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        made.complaints.append(f"cloud-config is no YAML: {' '.join(str(error).split())}")
        return ""
    if config is None:
        return ""
    if not isinstance(config, dict):
        made.complaints.append("cloud-config: keys and values were expected")
        return ""
    runcmd = ""
    for key, value in config.items():
        if key in seen:
            made.complaints.append(f"cloud-config: {key} stands in two parts: the first one counts")
            continue
        seen.add(key)
        if value is None:
            continue
        try:
            if key == "runcmd":
                runcmd = _shell(value)
            elif key in _KEYS:
                _KEYS[key](value, made)
            else:
                made.complaints.append(f"cloud-config: {key} is not supported, and ignored")
        except WrongValueError as error:
            made.complaints.append(f"cloud-config: {key}: {error}")
    return runcmd


def _shell(commands: Any) -> str:
    """Return commands as one script: text as it is, lists quoted word by word."""
    lines = ["#!/bin/sh"]
    for command in _list(commands):
        if isinstance(command, list):
            lines.append(shlex.join(str(word) for word in command))
        elif isinstance(command, str):
            lines.append(command)
        elif command is not None:
            raise WrongValueError(f"a command is text or a list of words, not {command!r}")
    return "\n".join(lines) + "\n"


def _bootcmd(value: Any, made: Plan) -> None:
    made.bootcmd = _shell(value)


def _write_files(value: Any, made: Plan) -> None:
    for entry in _list(value):
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
            raise WrongValueError(f"each file needs a path, which {entry!r} has not")
        path = entry["path"]
        _name_unknown(f"write_files: {path}", entry, _FILE_KEYS, made)
        made.files.append(
            {
                "path": path,
                "content": base64.b64encode(_file_content(entry, path)).decode(),
                "mode": _mode(entry.get("permissions", "0644"), path),
                "owner": str(entry.get("owner") or "root:root"),
                "append": _flag(entry.get("append", False)),
                "defer": _flag(entry.get("defer", False)),
            }
        )


def _file_content(entry: dict[str, Any], path: str) -> bytes:
    content = entry.get("content", "")
    raw = content if isinstance(content, bytes) else str(content).encode()
    encodings = [word for word in str(entry.get("encoding") or "text/plain").lower().split("+") if word != "text/plain"]
    if unknown := [word for word in encodings if word not in _BASE64 | _GZIPPED]:
        raise WrongValueError(f"{path}: unknown encoding {'+'.join(unknown)}")
    try:
        if any(word in _BASE64 for word in encodings):
            raw = base64.b64decode(raw)
        return gzip.decompress(raw) if any(word in _GZIPPED for word in encodings) else raw
    except (binascii.Error, OSError, EOFError, zlib.error) as error:
        raise WrongValueError(f"{path}: its content is not {entry['encoding']}: {error}") from None


def _mode(value: Any, path: str) -> int:
    """Text is octal; a number is what YAML made of it (0644 there is octal too)."""
    try:
        mode = int(value) if isinstance(value, int | float) else int(str(value), 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise WrongValueError(f"{path}: permissions {value!r} are no file mode")
    return mode


def _groups(value: Any, made: Plan) -> None:
    for entry in _words(value) if isinstance(value, str) else _list(value):
        if isinstance(entry, dict):
            made.groups += [{"name": str(name), "members": _words(members)} for name, members in entry.items()]
        else:
            made.groups.append({"name": str(entry), "members": []})


def _users(value: Any, made: Plan) -> None:
    for entry in _words(value) if isinstance(value, str) else _list(value):
        if entry == "default":
            continue  # the login user is always there
        user = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(user, dict) or not isinstance(user.get("name"), str):
            raise WrongValueError(f"each user needs a name, which {entry!r} has not")
        _name_unknown(f"users: {user['name']}", user, _USER_KEYS, made)
        sudo = user.get("sudo") or []
        made.users.append(
            {
                "name": user["name"],
                "gecos": str(user.get("gecos") or ""),
                "groups": _words(user.get("groups")),
                "primary_group": str(user.get("primary_group") or ""),
                "sudo": [sudo] if isinstance(sudo, str) else [str(rule) for rule in _list(sudo)],
                "shell": str(user.get("shell") or "/bin/bash"),
                "keys": _key_lines(user.get("ssh_authorized_keys")),
                "system": _flag(user.get("system", False)),
                "home": "" if _flag(user.get("no_create_home", False)) else str(user.get("homedir") or "default"),
                "uid": str(user["uid"]) if user.get("uid") is not None else "",
                "lock": _flag(user.get("lock_passwd", True)),
                "password_hash": str(user.get("passwd") or ""),
                "own_group": not _flag(user.get("no_user_group", False)),
            }
        )


def _keys(value: Any, made: Plan) -> None:
    made.keys += _key_lines(value)


def _key_lines(value: Any) -> list[str]:
    lines = [value] if isinstance(value, str) else [str(line) for line in _list(value)] if value else []
    return [line.strip() for line in lines if line.strip()]


def _packages(value: Any, made: Plan) -> None:
    for entry in _list(value):
        if isinstance(entry, str):
            made.packages.append(entry)
        elif isinstance(entry, list) and 1 <= len(entry) <= 2:
            made.packages.append("=".join(str(word) for word in entry))
        elif isinstance(entry, dict) and set(entry) == {"apt"}:
            _packages(entry["apt"], made)
        else:
            raise WrongValueError(f"a package is a name or [name, version], not {entry!r}")


def _timezone(value: Any, made: Plan) -> None:
    made.timezone = str(value)


def _update(value: Any, made: Plan) -> None:
    made.update = _flag(value)


def _upgrade(value: Any, made: Plan) -> None:
    made.upgrade = _flag(value)


def _final_message(value: Any, made: Plan) -> None:
    made.final_message = str(value)


_KEYS: dict[str, Callable[[Any, Plan], None]] = {
    "bootcmd": _bootcmd,
    "write_files": _write_files,
    "groups": _groups,
    "users": _users,
    "ssh_authorized_keys": _keys,
    "timezone": _timezone,
    "packages": _packages,
    "package_update": _update,
    "apt_update": _update,
    "package_upgrade": _upgrade,
    "apt_upgrade": _upgrade,
    "final_message": _final_message,
}


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise WrongValueError(f"a list was expected, not {value!r}")
    return value


def _words(value: Any) -> list[str]:
    """Return names given as a list or as text with commas."""
    if value is None:
        return []
    given: Iterable[Any] = value.split(",") if isinstance(value, str) else _list(value)
    return [word for each in given if (word := str(each).strip())]


def _flag(value: Any) -> bool:
    return value if isinstance(value, bool) else str(value).lower() in ("true", "1", "on", "yes")


def _name_unknown(where: str, entry: dict[str, Any], known: frozenset[str], made: Plan) -> None:
    for key in sorted(str(key) for key in entry if key not in known):
        made.complaints.append(f"cloud-config: {where}: {key} is not supported, and ignored")
