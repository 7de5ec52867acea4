"""What the hosts do right now, for a display: a small loop on each host, read over one SSH connection each.

The loop sends the kernel's own counters every two seconds (about 1 ms of the host's CPU each time); rates are made of
them here. It ends when its input is closed, so that nothing stays behind on a host.
"""

from __future__ import annotations

import json
import selectors
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO, Any

from labtool import ssh
from labtool.collect import remote
from labtool.topology import Host

INTERVAL_S = 2.0

SECTOR = 512
"""Bytes: /proc/diskstats counts in these, whatever the disk's own are."""

# cpu: guest time is in user's already; disks: whole ones (those of /sys/block), without what is stacked on them.
_LOOP = """
import json, os, re, select, sys, time
stacked = re.compile(r"(loop|ram|zram|dm-|md|sr|fd)[0-9]")
disks = set(d for d in os.listdir("/sys/block") if not stacked.match(d))
while True:
    with open("/proc/stat") as f:
        cpu = [int(n) for n in f.readline().split()[1:9]]
    with open("/proc/meminfo") as f:
        memory = dict((k, int(v.split()[0])) for k, v in (l.split(":") for l in f if l.startswith("Mem")))
    rx = tx = 0
    with open("/proc/net/dev") as f:
        for line in f.readlines()[2:]:
            name, _, counts = line.partition(":")
            if name.strip() != "lo":
                n = counts.split(); rx += int(n[0]); tx += int(n[8])
    rd = wr = 0
    with open("/proc/diskstats") as f:
        for line in f:
            n = line.split()
            if n[2] in disks:
                rd += int(n[5]); wr += int(n[9])
    sys.stdout.write(json.dumps({"t": time.monotonic(), "idle": cpu[3] + cpu[4], "steal": cpu[7], "all": sum(cpu),
        "total": memory["MemTotal"], "free": memory["MemAvailable"], "rx": rx, "tx": tx, "rd": rd, "wr": wr}) + "\\n")
    sys.stdout.flush()
    if select.select([sys.stdin], [], [], INTERVAL)[0]:
        break
"""


@dataclass(frozen=True)
class Sample:
    """What a host did since the sample before."""

    host: str
    time: float  # controller's clock, seconds since the epoch
    cpu: float  # ratio of its vCPUs, as `utilisation` in host_metrics
    memory: float  # ratio that is not available
    rx: float  # bytes/s, all interfaces but lo
    tx: float
    disk_read: float  # bytes/s, all whole disks
    disk_write: float


@dataclass(frozen=True)
class HostLost:
    """A host's stream has ended: it went away, or could not be reached."""

    host: str
    why: str


Event = Sample | HostLost


@dataclass
class _Stream:
    host: Host
    process: subprocess.Popen[bytes]
    said: IO[bytes]
    rest: bytes = b""
    last: dict[str, Any] = field(default_factory=dict)


class LiveSampler:
    """Samples of many hosts, in one thread: use it in a `with` statement and call `poll` again and again."""

    def __init__(self, access: ssh.Access, hosts: Sequence[Host], *, interval_s: float = INTERVAL_S) -> None:
        self._access = access
        self._hosts = tuple(hosts)
        self._program = _LOOP.replace("INTERVAL", repr(float(interval_s)))
        self._selector = selectors.DefaultSelector()
        self._streams: dict[str, _Stream] = {}

    def __enter__(self) -> LiveSampler:
        for host in self._hosts:
            said = tempfile.TemporaryFile()
            process = subprocess.Popen(
                ssh.command(self._access, host, remote.python(self._program)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                bufsize=0,  # what is there, not as much as was asked for
                start_new_session=True,
            )
            stream = _Stream(host, process, said)
            self._streams[host.name] = stream
            assert process.stdout is not None
            self._selector.register(process.stdout, selectors.EVENT_READ, stream)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts whose streams are open."""
        return tuple(self._streams)

    def poll(self, timeout_s: float) -> list[Event]:
        """Return what arrives within `timeout_s`, at once when something has; the first sample takes two readings.

        With no stream open it waits the whole time, so that a loop around it does not spin.
        """
        if not self._streams:
            time.sleep(timeout_s)
            return []
        deadline = time.monotonic() + timeout_s
        events: list[Event] = []
        while not events and (left := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                events += self._read(key.data)
        return events

    def close(self) -> None:
        """End the loops on the hosts and their connections; harmless when called twice."""
        streams = list(self._streams.values())
        for stream in streams:
            assert stream.process.stdin is not None
            stream.process.stdin.close()
        for stream in streams:
            self._end(stream, patience_s=1.0)
        self._selector.close()

    def _read(self, stream: _Stream) -> list[Event]:
        assert stream.process.stdout is not None
        piece = stream.process.stdout.read(1 << 16)
        if not piece:
            return [HostLost(stream.host.name, self._end(stream, patience_s=1.0))]
        *lines, stream.rest = (stream.rest + piece).split(b"\n")
        events: list[Event] = []
        for line in lines:
            try:
                now = json.loads(line)
            except ValueError:
                continue  # a banner of the host's shell
            if stream.last and (sample := rates(stream.host.name, stream.last, now)):
                events.append(sample)
            stream.last = now
        return events

    def _end(self, stream: _Stream, patience_s: float) -> str:
        self._streams.pop(stream.host.name, None)
        process = stream.process
        assert process.stdout is not None
        self._selector.unregister(process.stdout)
        process.stdout.close()
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with stream.said:
            stream.said.seek(0)
            return remote.reason(process.returncode, stream.said.read().decode(errors="replace"))


def rates(host: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Sample | None:
    """Make a sample of two readings of a host's counters; None where no time has passed or a counter went back."""
    elapsed = now["t"] - before["t"]
    jiffies = now["all"] - before["all"]
    moved = {key: now[key] - before[key] for key in ("rx", "tx", "rd", "wr")}
    if elapsed <= 0 or jiffies <= 0 or min(moved.values()) < 0:
        return None
    busy = jiffies - (now["idle"] - before["idle"]) - (now["steal"] - before["steal"])
    return Sample(
        host=host,
        time=time.time(),
        cpu=min(max(busy / jiffies, 0.0), 1.0),
        memory=1.0 - now["free"] / now["total"],
        rx=moved["rx"] / elapsed,
        tx=moved["tx"] / elapsed,
        disk_read=moved["rd"] * SECTOR / elapsed,
        disk_write=moved["wr"] * SECTOR / elapsed,
    )
