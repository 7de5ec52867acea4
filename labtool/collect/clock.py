"""Measure the hosts' clock offsets by exchanges over one SSH connection each.

An exchange: the controller notes its time t0 and sends a line, the host answers with its own time th, the controller
notes t1. The host read its clock between t0 and t1, so the offset lies in [th - t1, th - t0]. The intersection over
all exchanges is at most as wide as the fastest round trip; half of it is the bound (Cristian 1989,
https://doi.org/10.1007/BF01784024).
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from labtool import ssh
from labtool.collect import remote
from labtool.dataset.clock import Offset
from labtool.dataset.run import Missing
from labtool.errors import CollectError
from labtool.topology import Host

WHAT = "its clock's offset"
PARALLEL = 8

_ANSWER = "import sys, time\nfor _ in sys.stdin.buffer: print(time.time_ns(), flush=True)"

Exchange = tuple[int, int, int]
"""Controller's time before, host's time, controller's time after: nanoseconds since the epoch."""


def measure(
    access: ssh.Access, hosts: Sequence[Host], phase: str, *, exchanges: int = 32, timeout_s: float = 20.0
) -> tuple[list[Offset], list[Missing]]:
    """Return the offset of each host's clock, and the hosts whose offset could not be measured.

    `phase` is before, during or after. Takes about a third of a second a host, eight hosts at a time.
    """

    def one(host: Host) -> Offset | Missing:
        if not host.running:
            return Missing(what=WHAT, host=host.name, why=f"the host is {host.state}")
        try:
            measured = _exchange(access, host, exchanges, timeout_s)
            offset_s, bound_s = intersect(measured)
        except CollectError as error:
            return Missing(what=WHAT, host=host.name, why=error.message)
        return Offset(datetime.now(UTC), host.name, phase, offset_s, bound_s, len(measured))

    with ThreadPoolExecutor(max_workers=min(PARALLEL, max(len(hosts), 1)), thread_name_prefix="clock") as pool:
        found = list(pool.map(one, hosts))
    return [one for one in found if isinstance(one, Offset)], [one for one in found if isinstance(one, Missing)]


def intersect(exchanges: Iterable[Exchange]) -> tuple[float, float]:
    """Return the offset and its bound in seconds: the middle and half width of what all exchanges allow.

    `CollectError` where there is none, or where no offset fits them all: the clock was stepped meanwhile.
    """
    low, high = None, None
    for before, theirs, after in exchanges:
        low = theirs - after if low is None else max(low, theirs - after)
        high = theirs - before if high is None else min(high, theirs - before)
    if low is None or high is None:
        raise CollectError("no exchange was answered")
    if low > high:
        raise CollectError("the clock was set while it was measured (no offset fits all exchanges)")
    return (low + high) / 2e9, (high - low) / 2e9


def _exchange(access: ssh.Access, host: Host, count: int, timeout_s: float) -> list[Exchange]:
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            ssh.command(access, host, remote.python(_ANSWER)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(timeout_s, process.kill)
        late.start()
        found: list[Exchange] = []
        try:
            with process.stdout, process.stdin:
                for _ in range(count):
                    before = time.time_ns()
                    process.stdin.write(b"\n")
                    process.stdin.flush()
                    answer = process.stdout.readline()
                    after = time.time_ns()
                    if not answer.strip().isdigit():
                        break
                    found.append((before, int(answer), after))
        except BrokenPipeError:
            pass  # the connection ended: its exit status says why
        finally:
            late.cancel()
        status = process.wait()
        said.seek(0)
        if not found:
            if late.finished.is_set() and status < 0:
                raise CollectError(f"no answer within {timeout_s:g} s")
            raise CollectError(remote.reason(status, said.read().decode(errors="replace")))
    return found
