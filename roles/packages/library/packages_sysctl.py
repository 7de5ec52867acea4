#!/usr/bin/python
"""Set kernel parameters, now and for every boot."""

from __future__ import annotations

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: packages_sysctl
short_description: Kernel parameters in a file of /etc/sysctl.d, and in force
description:
  - The file has these values and no others. A value that the kernel refuses is an error before the file is written.
  - In a container the kernel's parameters may be another's to change. Then the file is written, and a warning names
    the values that are not in force.
options:
  file: {description: The file, required: true, type: path}
  values: {description: Values by name, required: true, type: dict}
"""

PROC = Path("/proc/sys")


class RefusedError(Exception):
    """The kernel does not know a parameter or refuses a value; says which and why."""


def path_of(name: str, proc: Path) -> Path:
    """Return the file of a parameter; as in sysctl(8) a slash in the name stands for a dot."""
    return proc / name.translate(str.maketrans("./", "/."))


def words(value: object) -> str:
    """Return a value as the kernel shows it, with single blanks."""
    return " ".join(str(int(value) if isinstance(value, bool) else value).split())


def in_force(name: str, proc: Path) -> str:
    """Return the value in force."""
    try:
        return words(path_of(name, proc).read_text())
    except FileNotFoundError:
        raise RefusedError(f"this host's kernel has no parameter {name}") from None
    except OSError as error:
        raise RefusedError(f"{name} cannot be read: {error.strerror}") from None


def put(name: str, value: str, proc: Path) -> None:
    """Bring a value into force."""
    try:
        path_of(name, proc).write_text(value)
    except OSError as error:
        raise RefusedError(f"{name} cannot be {value!r} on this host: {error.strerror}") from None


def locked(proc: Path) -> bool:
    """Return True where no parameter can be changed, as in most containers."""
    return bool(os.statvfs(proc).f_flag & os.ST_RDONLY)


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={"file": {"type": "path", "required": True}, "values": {"type": "dict", "required": True}},
        supports_check_mode=True,
    )
    values = {name: words(value) for name, value in module.params["values"].items()}
    file = Path(module.params["file"])
    text = "# Ansible managed\n" + "".join(f"{name} = {value}\n" for name, value in sorted(values.items()))
    try:
        before = file.read_text() if file.exists() else ""
        live = [name for name, value in values.items() if in_force(name, PROC) != value]
        if live and locked(PROC):
            module.warn(f"not in force, for this host may not change its kernel's parameters: {', '.join(live)}")
            live = []
        if not module.check_mode:
            for name in live:
                put(name, values[name], PROC)
            if before != text:
                file.parent.mkdir(parents=True, exist_ok=True)
                temporary = file.with_name(f".{file.name}.{os.getpid()}")
                temporary.write_text(text)
                temporary.chmod(0o644)
                temporary.replace(file)
    except (RefusedError, OSError) as error:
        module.fail_json(msg=str(error))
    difference = {"before_header": str(file), "after_header": str(file), "before": before, "after": text}
    module.exit_json(changed=bool(live) or before != text, set=live, diff=difference)


if __name__ == "__main__":
    main()
