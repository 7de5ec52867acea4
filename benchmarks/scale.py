"""What a lab of 100 and of 1,000 hosts costs in calls, time and memory, against the fake of AWS that throttles.

    python benchmarks/scale.py [--hosts 100 1000]

The fake throttles at AWS's published rates, shows things up to five seconds late and answers after 50 ms; its time is
virtual: `up` and `down` are how long the commands would take with AWS, `processor` is what they cost this machine.
Everything should grow with the number of hosts at most. Three groups; each host's sshd greets 28 s after its launch.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "cloud"))
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"

from fake import Account, Aws, Promises, VirtualClock, install

from labtool.cloud import end, launch
from labtool.progress import Silent
from labtool.topology import GroupSpec, VarSpec


class Board(Silent):
    """Progress that counts how many hosts are in which state."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}

    def host(self, name: str, state: str, detail: str = "") -> None:
        """Note a host's state."""
        self.states[name] = state


def measure(account: Account, hosts: int) -> dict[str, Any]:
    """Bring `hosts` up and down again."""
    aws = Aws(VirtualClock(), Promises(lag=5.0, throttle=True))
    account.reset(aws)
    install(aws, setattr)
    brokers = hosts * 3 // 10
    specs = [
        GroupSpec("kafka", brokers, "m5.large", (VarSpec("kafka_node_id", "index", base=1),)),
        GroupSpec("load", brokers, "c5.large"),
        GroupSpec("web", hosts - 2 * brokers, "t3.small"),
    ]
    board = Board()
    processor, began = time.process_time(), aws.clock.elapsed
    lab = launch.up(
        account.session, "scale", specs, image="debian-12", ttl=timedelta(hours=4), progress=board, deadline_s=1800
    )
    up_s, up_calls, up_cpu = aws.clock.elapsed - began, aws.counted(), time.process_time() - processor
    assert len(lab) == hosts and Counter(board.states.values()) == {"ready": hosts}
    processor, began = time.process_time(), aws.clock.elapsed
    end.down(account.session, "scale", board)
    assert aws.ec2.left() == []
    down_calls = aws.counted() - up_calls
    return {
        "hosts": hosts,
        "up_s": round(up_s, 1),
        "up_calls": up_calls.total(),
        "up_processor_s": round(up_cpu, 1),
        "down_s": round(aws.clock.elapsed - began, 1),
        "down_calls": down_calls.total(),
        "down_processor_s": round(time.process_time() - processor, 1),
        "throttled": aws.refused["RequestLimitExceeded"],
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "by_action": dict(up_calls.most_common()),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    account = Account()
    found = []
    for hosts in given.hosts:
        with tempfile.TemporaryDirectory(prefix="labtool-scale-") as home:
            os.environ["LABTOOL_HOME"] = home
            found.append(measure(account, hosts))
    if given.json:
        print(json.dumps(found))
        return
    for each in found:
        print(
            f"{each['hosts']} hosts: up {each['up_s']} s with {each['up_calls']} calls "
            f"({each['up_processor_s']} s of processor), down {each['down_s']} s with {each['down_calls']} calls "
            f"({each['down_processor_s']} s); {each['throttled']} calls throttled; {each['memory_mib']} MiB\n"
            f"  {', '.join(f'{count} {action}' for action, count in each['by_action'].items())}"
        )


if __name__ == "__main__":
    main()
