"""What `labtool doctor` looks at besides the local cloud's own needs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labtool.config import Settings


@dataclass(frozen=True)
class Check:
    """One need of labtool: whether it is met, and the command that meets it."""

    name: str
    ok: bool
    detail: str
    mend: str = ""
    needed: bool = True  # without the others labtool works, less well


PROGRAMS = {
    "ssh": ("reaches the hosts", "apt-get install openssh-client"),
    "ssh-keygen": ("makes a lab's key", "apt-get install openssh-client"),
    "sadf": ("decodes the hosts' counters", "apt-get install sysstat"),
    "zstd": ("unpacks what is collected", "apt-get install zstd"),
    "mvn": ("fetches jars where the project's own site is out of reach", "apt-get install maven"),
}


def checks(chosen: Settings) -> list[Check]:
    """Return what labtool needs for `chosen.cloud`, met or not."""
    found = [
        Check(name, shutil.which(name) is not None, purpose, f"sudo {mend}")
        for name, (purpose, mend) in PROGRAMS.items()
    ]
    if chosen.cloud == "local":
        from labtool import localcloud

        found += [Check(c.name, c.ok, c.detail, c.mend, c.needed) for c in localcloud.checks(chosen.local)]
    else:
        found.append(_credentials(chosen))
    return found


def _credentials(chosen: Settings) -> Check:
    from labtool.cloud.session import Session, Target, told_clearly
    from labtool.errors import CloudError

    try:
        session = Session(Target("aws", chosen.region))
        with told_clearly("asking AWS who this is"):
            identity = session.client("sts").get_caller_identity()
    except CloudError as error:
        return Check("AWS credentials", False, error.message, error.hint or "aws configure")
    return Check("AWS credentials", True, identity["Arn"])
