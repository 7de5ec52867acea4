"""A new host's seed: the folder that it finds mounted at its first boot, with its keys and what it is to do."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from labtool.files import write_bytes
from labtool.localcloud import user_data


@dataclass(frozen=True)
class Seed:
    """What a host is given."""

    host_key: bytes
    host_key_public: str
    authorized_key: bytes | str | None
    user_data: bytes
    endpoint: str  # the API's URL for hosts; empty without one
    apt_cache: str  # the package cache's line; empty without one


def write(folder: Path, seed: Seed) -> None:
    """Make the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "ssh_host_ed25519_key", seed.host_key, 0o600)
    write_bytes(folder / "ssh_host_ed25519_key.pub", f"{seed.host_key_public}\n".encode(), 0o644)
    if seed.authorized_key is not None:
        public = seed.authorized_key
        line = public if isinstance(public, bytes) else str(public).encode()
        write_bytes(folder / "authorized_keys", line.strip() + b"\n", 0o600)
    _write_user_data(folder, seed.user_data)
    for name, content in (("endpoint", seed.endpoint), ("apt-cache", seed.apt_cache)):
        if content:
            write_bytes(folder / name, f"{content}\n".encode(), 0o644)


def _write_user_data(folder: Path, content: bytes) -> None:
    """Leave a script as it is, anything else as a plan: most hosts have a script, and start no interpreter for it."""
    if not content:
        return
    with suppress(user_data.WrongValueError):
        script = user_data.plain_script(content)
        if script is not None:
            write_bytes(folder / "user-data", script, 0o600)
            return
    plan = json.dumps(user_data.plan(content).document())
    write_bytes(folder / "first-boot.json", plan.encode(), 0o600)
