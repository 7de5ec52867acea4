"""Find the keys of package repositories on the controller, and hand over those that a host has not."""

from __future__ import annotations

import base64
import hashlib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase

ARMOUR = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
BINARY = (0x98, 0x99, 0xC6)  # how a packet of a public key begins (RFC 9580, 4.2)
SILENCE_S = 20.0


class ActionModule(ActionBase):
    """Ask the host; where it lacks a key that must be fetched, fetch it and ask again."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module once or, where a URL was to be fetched, twice."""
        result = super().run(tmp, task_vars)
        given = [dict(each) for each in self._task.args["repositories"]]
        for each in given:
            key = str(each.get("key", ""))
            if is_url(key):
                each["origin"] = key
            else:
                content = key.strip().encode() + b"\n" if ARMOUR in key else self._file(each, key)
                each |= {"origin": f"SHA-256 {hashlib.sha256(content).hexdigest()}", "content": encoded(each, content)}
        asked = self._module(given, task_vars)
        if not asked.get("needs") or self._task.check_mode:
            return {**result, **asked}
        for each in given:
            if each["name"] in asked["needs"]:
                each["content"] = encoded(each, fetched(each))
        done = self._module(given, task_vars)
        return {**result, **done, "changed": bool(done.get("changed") or asked.get("changed_paths"))}

    def _module(self, given: list[dict[str, Any]], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        found: dict[str, Any] = self._execute_module(
            "packages_repositories", module_args={"repositories": given}, task_vars=task_vars
        )
        return found

    def _file(self, repository: dict[str, Any], path: str) -> bytes:
        try:
            return Path(self._find_needle("files", path)).read_bytes()
        except (AnsibleError, OSError):
            raise AnsibleActionFail(
                f"repository {repository.get('name')}: its key is neither a key's text nor a URL, and the controller "
                f"has no file {path[:80]!r}"
            ) from None


def is_url(key: str) -> bool:
    """Return True if the key is to be fetched."""
    return key.startswith(("https://", "http://"))


def fetched(repository: dict[str, Any]) -> bytes:
    """Return what is at a key's URL."""
    try:
        with urllib.request.urlopen(repository["key"], timeout=SILENCE_S) as answer:
            content: bytes = answer.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise AnsibleActionFail(
            f"repository {repository['name']}: its key at {repository['key']} cannot be fetched: {reason}"
        ) from None
    return content


def encoded(repository: dict[str, Any], content: bytes) -> str:
    """Return a key for the module; what is none is refused here, before apt refuses the whole repository."""
    if not content.lstrip().startswith(ARMOUR.encode()) and content[:1] not in map(bytes, ([one] for one in BINARY)):
        raise AnsibleActionFail(f"repository {repository['name']}: what was given as its key is no OpenPGP public key")
    return base64.b64encode(content).decode()
