from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from labtool.localcloud import counters
from labtool.localcloud.counters import Counters

ID = "1edcad2698a5d6ed25997cc1972a8a60bf5c6244c446af8acbee59c41ca1a3ee"
NET_DEV = """\
Inter-|   Receive                         |  Transmit
 face |bytes    packets errs drop fifo …  |bytes    packets errs drop fifo …
    lo: 9999      99    0    0    0     0 0 0     9999      99    0    0    0     0       0          0
  eth0:  313984     132    0    0    0     0 0 0    19308     120    0    0    0     0       0          0
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(counters, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(counters, "PROC", tmp_path / "proc")
    write(tmp_path / "proc/7/net/dev", NET_DEV)
    return tmp_path


def test_v1_and_hybrid(machine):
    path = f"libpod_parent/libpod-{ID}"
    write(
        machine / "proc/7/cgroup",
        f"9:name=systemd:/{path}/init.scope\n7:blkio:/{path}\n2:cpu,cpuacct:/{path}\n0::/{path}\n",
    )
    (machine / "cgroup/unified").mkdir(parents=True)
    write(machine / f"cgroup/cpu,cpuacct/{path}/cpuacct.usage", "3087429140\n")
    blkio = machine / f"cgroup/blkio/{path}"
    write(blkio / "blkio.throttle.io_service_bytes_recursive", "254:0 Read 4096\n254:0 Write 8192\nTotal 12288\n")
    write(blkio / "blkio.throttle.io_serviced_recursive", "254:0 Read 1\n254:0 Write 2\n254:0 Sync 3\nTotal 3\n")
    assert counters.read(7) == Counters(3.08742914, 313984, 19308, 132, 120, 4096, 8192, 1, 2)


@pytest.mark.parametrize("below", ["", "/init.scope", "/container/init.scope"])
def test_v2_reads_the_containers_group_and_not_one_below(machine, below):
    path = f"machine.slice/libpod-{ID}.scope"
    write(machine / "proc/7/cgroup", f"0::/{path}{below}\n")
    write(machine / f"cgroup/{path}/cpu.stat", "usage_usec 2500000\nuser_usec 1\nsystem_usec 1\n")
    write(machine / f"cgroup/{path}/io.stat", "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n7:0 rbytes=5\n")
    assert counters.read(7) == Counters(2.5, 313984, 19308, 132, 120, 15, 20, 1, 2)


def test_a_kernel_that_does_not_count_disks_says_zero(machine):
    path = f"libpod-{ID}"
    write(machine / "proc/7/cgroup", f"7:blkio:/{path}\n2:cpuacct:/{path}\n")
    write(machine / f"cgroup/cpuacct/{path}/cpuacct.usage", "0\n")
    write(machine / f"cgroup/blkio/{path}/blkio.throttle.io_service_bytes_recursive", "Total 0\n")
    assert counters.read(7).disk_write_bytes == 0


def test_a_host_that_has_gone_is_an_os_error(machine):
    with pytest.raises(OSError, match="cgroup"):
        counters.read(8)


def test_this_machines_own_files_are_understood():
    """A process of ours in the machine's own cgroup: the files have the forms that the code expects."""
    process = subprocess.Popen(["sleep", "100"])
    try:
        places = counters.cgroup_folders(process.pid)
        assert places
        received, sent = counters._network(process.pid)
        assert len(received) == len(sent) == 2
    finally:
        process.kill()
        process.wait()
    assert counters.cgroup_folders(os.getpid())
