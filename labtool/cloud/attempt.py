"""Send a RunInstances: repeated when nobody knows what became of it, tried elsewhere when a zone has no room."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from labtool.cloud import clock, find
from labtool.cloud.journal import Journal
from labtool.cloud.placement import Site
from labtool.cloud.plan import Launch
from labtool.cloud.session import Session, error_code, told_clearly
from labtool.errors import CloudError
from labtool.progress import Progress

NO_ROOM = {
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "InsufficientCapacity",
    "InsufficientFreeAddressesInSubnet",
    "SpotMaxPriceTooLow",
    "Unsupported",  # the zone does not have the type
}
"""Another zone may do. EC2 answers some of them with status 500, as if they were failures of its own:
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html"""
NOT_KNOWN_YET = {
    "InvalidGroup.NotFound",
    "InvalidSecurityGroupID.NotFound",
    "InvalidKeyPair.NotFound",
    "InvalidPlacementGroup.Unknown",
}
"""Made by the calls just before this one."""
SLOW_DOWN = {"RequestLimitExceeded", "Throttling", "ThrottlingException", "RequestThrottled"}
TRIES = 8
KNOWN_S = 60.0


@dataclass(frozen=True)
class Launched:
    """Where a launch succeeded, and what it made."""

    site: Site
    ids: tuple[str, ...]


def launch(
    session: Session,
    journal: Journal,
    wanted: Launch,
    sites: Sequence[Site],
    request: Callable[[Site, int], dict[str, Any]],
    progress: Progress,
) -> Launched:
    """Make the instances of `wanted` in the first of `sites` that has room for all of them.

    `request` returns the call for a site and the number of the attempt, which its client token depends on.
    """
    tried: list[str] = []
    told = ""
    for number, site in enumerate(sites):
        call = journal.asking(request(site, number))
        try:
            ids = send(session, call.request, progress)
        except CloudError as error:
            if refused(error):
                journal.drop(call)
            if error_code_of(error) not in NO_ROOM:
                raise
            tried.append(site.zone)
            told = error.message
            progress.line(f"group {wanted.group}: no room in {site.zone} ({error_code_of(error)})")
            continue
        journal.made(call, ids)
        return Launched(site, tuple(ids))
    raise CloudError(
        f"no room for {len(wanted.indexes)} × {wanted.instance_type} of group {wanted.group} in "
        f"{', '.join(tried)}: {told.split(': ', 1)[-1]}",
        "another --type, --zone or --region, or later; what was launched stays, `labtool down` ends it",
    )


def send(session: Session, request: dict[str, Any], progress: Progress, *, doubt: bool = False) -> list[str]:
    """Send the call until its outcome is known, and return the ids it made.

    The same client token makes repeating harmless. botocore must not repeat it by itself: it would do so for a zone
    without room, for a minute. `doubt`: the call was sent before, and nobody knows what became of it.
    """
    client = session.client("ec2", attempts=1)
    what = f"launching {request['MinCount']} × {request['InstanceType']}"
    began = clock.monotonic()
    for number in range(1, TRIES + 1):
        try:
            with told_clearly(what):
                answer = client.run_instances(**request)
            return [instance["InstanceId"] for instance in answer["Instances"]]
        except CloudError as error:
            code = error_code_of(error)
            late = code in NOT_KNOWN_YET and clock.monotonic() - began < KNOWN_S
            open_ = not refused(error) or code in SLOW_DOWN
            if number == TRIES or not (late or open_):
                # Refused now, but was it carried out then? EC2 should have told by the token; nothing is left to that.
                made = made_by(session, request) if doubt and refused(error) else []
                if not made:
                    raise
                return made
            doubt = doubt or not refused(error)
            if code in SLOW_DOWN:
                progress.line(f"{what}: EC2 asks to slow down")
        clock.sleep(random.uniform(0.5, 1.0) * min(15.0, 0.5 * 2**number))  # noqa: S311 - spreads load, keeps no secret
    raise AssertionError("the last try returns or raises")


def made_by(session: Session, request: dict[str, Any]) -> list[str]:
    """Return the instances that a call has made, by its client token, looked for as long as the API may hide them."""
    until = clock.monotonic() + KNOWN_S
    while True:
        found = find.describe(session, [{"Name": "client-token", "Values": [request["ClientToken"]]}])
        if len(found) == request["MaxCount"] or clock.monotonic() > until:
            return [instance["InstanceId"] for instance in found]
        clock.sleep(3.0)


def error_code_of(error: CloudError) -> str:
    """Return the API's code behind an error; '' where there is none."""
    return error_code(error.__cause__) if isinstance(error.__cause__, Exception) else ""


def refused(error: CloudError) -> bool:
    """Tell whether the API said no and so made nothing; a timeout or a failure of its own leaves open what happened."""
    if error_code_of(error) in NO_ROOM | SLOW_DOWN:
        return True
    response = getattr(error.__cause__, "response", None)
    status = (response or {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    return 400 <= int(status) < 500
