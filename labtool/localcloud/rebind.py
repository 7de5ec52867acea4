"""`python -m labtool.localcloud.rebind PID…`: bind a new lxcfs's files over dead ones in running hosts.

A process of its own because one thread of several may not enter another mount namespace, and because nothing of
the host's (its shell, its mount program) is to run with the machine's rights.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from labtool.localcloud.lxcfs import IN_HOST, PROC_FILES, SYS_FILES

_MS_BIND = 0x1000
_CLONE_NEWNS = 0x20000


def rebind(pid: int) -> None:
    """Enter the mount namespace of `pid` and bind; `OSError` if that is refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/proc/{pid}/ns/mnt").open("rb") as namespace:
        if libc.setns(namespace.fileno(), _CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), f"setns to {pid}")
    source = IN_HOST / "fs"
    for kind, names in (("proc", PROC_FILES), ("sys", SYS_FILES)):
        for name in names:
            here, there = f"{source}/{kind}/{name}".encode(), f"/{kind}/{name}".encode()
            if libc.mount(here, there, None, ctypes.c_ulong(_MS_BIND), None) != 0:
                raise OSError(ctypes.get_errno(), f"mount of {there!r} in {pid}")


def main() -> int:
    """Rebind in every process named on the command line; return how many failed."""
    failed = 0
    for argument in sys.argv[1:]:
        # Forked: what entered one host's namespace does not see the next host's /proc/<pid>.
        child = os.fork()
        if child == 0:
            try:
                rebind(int(argument))
            except OSError as error:
                print(f"lxcfs: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        failed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return failed


if __name__ == "__main__":
    sys.exit(main())
