#!/usr/bin/python
"""Find a Java runtime on the host without starting one."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: java_info
short_description: Find the newest Java runtime of a host
description:
  - Reads the C(release) file of every runtime under the usual folders and of the C(java) on PATH. Starts no JVM.
options:
  minimum: {description: Lowest acceptable feature release (17), required: true, type: int}
"""

HOMES = ("usr/lib/jvm/*", "opt/java*", "opt/jdk*", "usr/java/*")


def feature(home: Path) -> int:
    """Return the feature release of the runtime in `home` (8, 11, 17, …); 0 if there is none."""
    if not os.access(home / "bin" / "java", os.X_OK):
        return 0
    try:
        match = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', (home / "release").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(match.group(1)) if match else 0


def find(minimum: int) -> tuple[str, int]:
    """Return home and release: the one on PATH if it will do, else the lowest that will; ('', 0) if none does."""
    on_path = shutil.which("java")
    if on_path:
        home = Path(on_path).resolve().parent.parent
        if feature(home) >= minimum:
            return str(home), feature(home)
    homes = {path.resolve() for pattern in HOMES for path in Path("/").glob(pattern)}
    found = sorted((feature(home), str(home)) for home in homes if feature(home) >= minimum)
    return (found[0][1], found[0][0]) if found else ("", 0)


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(argument_spec={"minimum": {"type": "int", "required": True}}, supports_check_mode=True)
    home, release = find(module.params["minimum"])
    facts = {"java_home": home, "java_release": release}
    module.exit_json(changed=False, found=bool(home), ansible_facts=facts)


if __name__ == "__main__":
    main()
