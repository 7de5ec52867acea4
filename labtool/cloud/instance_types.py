"""Which instance types a region has: asked before anything is made for hosts that it could not launch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from labtool.cloud.session import DENIED, Session, error_code, told_clearly
from labtool.errors import UsageError

NEAREST = 3


def check(session: Session, types: Iterable[str]) -> None:
    """Return if the region has every one of `types`; `UsageError` names those it has not and the nearest it has."""
    wanted = sorted(set(types))
    if not wanted:
        return
    with told_clearly("reading the instance types"):
        try:
            session.ec2.describe_instance_types(InstanceTypes=wanted)
            return
        except Exception as error:
            if error_code(error) in DENIED:
                return  # who may launch need not be allowed to list: RunInstances says the rest
            if error_code(error) not in ("InvalidInstanceType", "InvalidParameterValue"):
                raise
        pages = session.ec2.get_paginator("describe_instance_type_offerings").paginate()
        known = [offering["InstanceType"] for page in pages for offering in page["InstanceTypeOfferings"]]
    missing = [name for name in wanted if name not in known]
    if not missing:
        return
    nearest = difflib.get_close_matches(missing[0], sorted(known), n=NEAREST, cutoff=0.0)
    raise UsageError(
        f"{session.target.region} has no instance type {', '.join(missing)}",
        f"the nearest to {missing[0]} that it has: {', '.join(nearest)}",
    )
