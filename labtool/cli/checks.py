"""What `labtool doctor` looks at besides the clouds' own needs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labtool.cloud.session import Session


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


def programs() -> list[Check]:
    """Return the programs that labtool runs, there or not."""
    return [
        Check(name, shutil.which(name) is not None, purpose, f"sudo {mend}")
        for name, (purpose, mend) in PROGRAMS.items()
    ]


def credentials(session: Session) -> Check:
    """Return whether AWS knows who this is."""
    from labtool.cloud.session import told_clearly
    from labtool.errors import CloudError

    try:
        with told_clearly("asking AWS who this is"):
            identity = session.client("sts").get_caller_identity()
    except CloudError as error:
        return Check("AWS credentials", False, error.message, error.hint or "aws configure")
    return Check("AWS credentials", True, identity["Arn"])


def permissions(session: Session) -> list[Check]:
    """Return a check for each permission that is denied or could not be tried, and one for all others."""
    from labtool.cloud import permissions
    from labtool.cloud.session import told_clearly
    from labtool.errors import CloudError

    try:
        with told_clearly("trying the permissions"):
            found = permissions.look(session)
    except CloudError as error:
        return [Check("AWS permissions", False, error.message, error.hint or "")]
    allowed = [each for each in found if each.answer == "allowed"]
    mend = "docs/aws-policy.json has it: attach it to this user or role"
    checks = [Check("AWS permissions", True, f"{len(allowed)} of {len(found)} tried and allowed, by dry runs")]
    checks += [Check(each.action, False, "not allowed", mend) for each in found if each.answer == "denied"]
    untried: dict[str, list[str]] = {}
    for each in found:
        if each.answer == "unknown":
            untried.setdefault(each.why, []).append(each.action)
    return checks + [
        Check(f"{len(actions)} permissions not known", False, f"{', '.join(actions)}: {why}", "", needed=False)
        for why, actions in untried.items()
    ]
