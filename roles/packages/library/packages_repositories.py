#!/usr/bin/python
"""Name package repositories on a host, each with the one key it may be signed with."""

from __future__ import annotations

import base64
import binascii
import os
import re
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: packages_repositories
short_description: Package repositories and their signing keys
description:
  - For apt a deb822 file and a keyring that only this repository is verified with (Signed-By); for dnf a file of
    /etc/yum.repos.d and its key.
  - The action plugin of this name gives each repository C(origin), which tells one key from another, and hands over
    C(content), the key itself, only where the host has it not (C(needs) names those).
options:
  repositories: {description: The role's packages_repositories, required: true, type: list, elements: dict}
"""

ARMOUR = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def apt_files(repository: dict, root: Path) -> tuple[Path, Path, str]:
    """Return where the repository and its key go, the key without its suffix, and the repository's text."""
    name = repository["name"]
    key = root / "etc/apt/keyrings" / name
    fields = {
        "Types": "deb",
        "URIs": repository["url"],
        "Suites": " ".join(repository["suites"]),
        "Components": " ".join(repository["components"]),
        "Architectures": " ".join(repository["architectures"]),
        "Signed-By": f"/etc/apt/keyrings/{name}" + suffix(repository),
    }
    text = "".join(f"{field}: {value}\n" for field, value in fields.items() if value)
    return root / f"etc/apt/sources.list.d/{name}.sources", key, text


def dnf_files(repository: dict, root: Path) -> tuple[Path, Path, str]:
    """Return the same for dnf."""
    name = repository["name"]
    key = root / f"etc/pki/rpm-gpg/RPM-GPG-KEY-{name}"
    text = f"[{name}]\nname={name}\nbaseurl={repository['url']}\nenabled=1\ngpgcheck=1\n"
    return (
        root / f"etc/yum.repos.d/{name}.repo",
        key,
        f"{text}gpgkey=file:///etc/pki/rpm-gpg/{key.name}{suffix(repository)}\n",
    )


def suffix(repository: dict) -> str:
    """Return how a key's file must end: apt tells ASCII from binary by it."""
    return ".asc" if repository["ascii"] else ".gpg"


def wanted(repository: dict, manager: str, root: Path) -> tuple[dict[Path, bytes], bool]:
    """Return the files of a repository, and whether its key must be handed over first."""
    files = apt_files if manager == "apt" else dnf_files
    content = base64.b64decode(repository["content"], validate=True) if repository.get("content") else b""
    for is_ascii in (True, False) if not content else (content.lstrip().startswith(ARMOUR),):
        place, key, text = files({**repository, "ascii": is_ascii}, root)
        key = key.with_name(key.name + (".asc" if is_ascii else ".gpg"))
        text = f"# Its key: {repository['origin']}\n{text}"
        if content:
            return {key: content, place: text.encode()}, False
        if read(place) == text.encode() and read(key):
            return {}, False
    return {}, True


def read(path: Path) -> bytes | None:
    """Return a file's content; None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def write(path: Path, content: bytes) -> None:
    """Replace a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.chmod(0o644)
    temporary.replace(path)


def main() -> None:
    """Run as an Ansible module."""
    texts = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "repositories": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "url": {"type": "str", "required": True},
                    "key": {"type": "str", "required": True, "no_log": False},
                    "suites": {**texts, "default": ["./"]},
                    "components": texts,
                    "architectures": texts,
                    "origin": {"type": "str", "required": True},
                    "content": {"type": "str", "default": ""},
                },
            }
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # folders that others must pass, whatever the login says
    manager = "apt" if shutil.which("apt-get") else "dnf"
    changed, needs = [], []
    try:
        for repository in module.params["repositories"]:
            if not NAME.fullmatch(repository["name"]):
                module.fail_json(
                    msg=f"{repository['name']!r} is no name for a repository: lower-case letters, digits, - and _"
                )
            files, missing = wanted(repository, manager, Path("/"))
            if missing:
                needs.append(repository["name"])
            for path, content in files.items():
                if read(path) != content:
                    changed.append(str(path))
                    if not module.check_mode:
                        write(path, content)
    except (OSError, binascii.Error) as error:
        module.fail_json(msg=f"a repository could not be written: {error}")
    module.exit_json(changed=bool(changed or needs), changed_paths=changed, needs=needs)


if __name__ == "__main__":
    main()
