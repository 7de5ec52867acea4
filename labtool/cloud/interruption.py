"""Spot instances that AWS takes back: noticed two minutes before, or as soon as the API says so.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from labtool.cloud.session import Session, told_clearly
from labtool.errors import CloudError
from labtool.topology import Host

EVERY_S = 10.0
WELL = {"fulfilled", "pending-fulfillment", "pending-evaluation", "request-canceled-and-instance-running"}
"""Status codes of a spot request whose instance runs and is to go on running."""


def taken_back(session: Session, hosts: Sequence[Host]) -> dict[str, str]:
    """Return which of the spot `hosts` AWS ends or has ended, and the status code it gives as the reason."""
    ids = {host.instance_id: host.name for host in hosts if host.spot}
    if not ids:
        return {}
    with told_clearly("asking for spot interruptions"):
        pages = session.ec2.get_paginator("describe_spot_instance_requests").paginate(
            Filters=[{"Name": "instance-id", "Values": sorted(ids)}]
        )
        requests = [request for page in pages for request in page["SpotInstanceRequests"]]
    return {
        ids[request["InstanceId"]]: request["Status"]["Code"]
        for request in requests
        if request["Status"]["Code"] not in WELL
    }


@contextmanager
def watched(
    session: Session, hosts: Sequence[Host], notice: Callable[[str, str], None], every_s: float = EVERY_S
) -> Iterator[None]:
    """Call `notice(host, reason)` for each spot host that AWS takes back while the block runs, once."""
    spot = [host for host in hosts if host.spot]
    done = threading.Event()
    told: set[str] = set()

    def look() -> None:
        while not done.wait(every_s):
            try:
                found = taken_back(session, spot)
            except CloudError:
                continue  # the next look tells
            for name, reason in found.items():
                if name not in told:
                    told.add(name)
                    notice(name, reason)

    thread = threading.Thread(target=look, name="spot", daemon=True)
    if spot:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if spot:
            thread.join(timeout=10)
