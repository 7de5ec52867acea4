"""Which software the hosts run: kernel, and each archive that role `artifact` unpacked, with its SHA-512."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from labtool import ssh
from labtool.dataset.run import RunRecord
from labtool.ssh import Access
from labtool.topology import Host

# The role leaves /opt/<name>/<version>/.artifact.json behind the link /opt/<name>/current.
_ASK = """echo "kernel $(uname -r) {}"
for link in /opt/*/current; do
  made=$link/.artifact.json
  [ -e "$made" ] && echo "$(basename "$(dirname "$link")") $(readlink "$link") $(cat "$made")"
done; true"""


def note(access: Access, hosts: Sequence[Host], record: RunRecord) -> None:
    """Write the versions of the hosts' software into `record`; hosts that differ are all named."""

    def ask(host: Host) -> str:
        line = ssh.command(access, host, _ASK)
        try:
            done = subprocess.run(
                line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
            )
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout if done.returncode == 0 else ""

    if not hosts:
        return
    versions: dict[str, set[str]] = {}
    with ThreadPoolExecutor(min(32, len(hosts))) as pool:
        for answer in pool.map(ask, hosts):
            for line in answer.splitlines():
                name, version, rest = (*line.split(" ", 2), "", "")[:3]
                versions.setdefault(name, set()).add(version)
                try:
                    digest = json.loads(rest).get("sha512")
                except (ValueError, AttributeError):
                    continue  # a file that was cut: the version stands, its digest is not known
                if digest:
                    record.artifacts[f"{name} {version}"] = digest
    record.versions |= {name: ", ".join(sorted(found)) for name, found in versions.items()}
