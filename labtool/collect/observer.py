"""Read what the collectors on the hosts have used: once when the window begins, so that its own cost is known.

The reading at the end comes with the gathered files, in each host's manifest.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from labtool import ssh
from labtool.collect import remote
from labtool.dataset import manifest
from labtool.dataset.observer import FOLDER
from labtool.dataset.run import Missing, RunDirectory
from labtool.errors import LabtoolError
from labtool.files import write_text
from labtool.topology import Host

WHAT = "the collectors' cost at the window's start"
PARALLEL = 16


def observe(
    access: ssh.Access, hosts: Sequence[Host], directory: RunDirectory, *, timeout_s: float = 30.0
) -> list[Missing]:
    """Write each host's reading to `raw/observer/<host>.json`; return the hosts that gave none.

    A host without a reading still gets a cost in the `observer` table, from the mean since its collectors began.
    """
    folder = directory.raw / FOLDER
    folder.mkdir(parents=True, exist_ok=True)

    def one(host: Host) -> Missing | None:
        if not host.running:
            return Missing(what=WHAT, host=host.name, why=f"the host is {host.state}")
        command = ssh.command(access, host, remote.privileged(host, (remote.COLLECT, "--cost")))
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
                check=False,
                start_new_session=True,
            )
            if done.returncode:
                return Missing(
                    what=WHAT, host=host.name, why=remote.reason(done.returncode, done.stderr.decode(errors="replace"))
                )
            manifest.parse_cost(done.stdout, "labtool-collect --cost")
        except subprocess.TimeoutExpired:
            return Missing(what=WHAT, host=host.name, why=f"no answer within {timeout_s:g} s")
        except LabtoolError as error:
            return Missing(what=WHAT, host=host.name, why=error.message)
        write_text(folder / f"{host.name}.json", done.stdout.decode())
        return None

    with ThreadPoolExecutor(max_workers=min(PARALLEL, max(len(hosts), 1)), thread_name_prefix="observer") as pool:
        return [missing for missing in pool.map(one, hosts) if missing]
