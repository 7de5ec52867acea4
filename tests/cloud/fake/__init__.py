"""A fake of AWS behind botocore that honours what AWS promises, in virtual time.

Requests are made, validated, retried and parsed by botocore itself, and a client's first one is signed; only the wire
is cut. What it honours: client tokens, paging, throttling at the published rates, eventual consistency, capacity and
quotas, and that a security group, a placement group or a volume cannot go while something holds it. What it does not
know is refused.
"""

from __future__ import annotations

from fake.account import Account, install
from fake.aws import Aws, Crash
from fake.clock import VirtualClock
from fake.promises import Promises

__all__ = ["Account", "Aws", "Crash", "Promises", "VirtualClock", "install"]
