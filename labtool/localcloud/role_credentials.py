"""Temporary credentials of instance profiles: made by moto's STS, renewed before they end, refused after.

One set an instance and role. They are known to STS, so `get-caller-identity` names the role and the instance.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.backends import get_backend

from labtool.localcloud.metadata_tree import stamp

LIFETIME = timedelta(hours=6)
"""As on EC2, about."""
RENEWED_BEFORE = timedelta(minutes=30)
"""New ones are served this long before the old ones end; EC2 promises five minutes."""
_REMEMBERED = timedelta(days=1)


@dataclass(frozen=True)
class Issued:
    """One set of credentials."""

    access_key: str
    secret_key: str
    token: str
    made: datetime
    ends: datetime

    def document(self) -> str:
        """Return it as `iam/security-credentials/<role>` has it."""
        fields = {
            "Code": "Success",
            "LastUpdated": stamp(self.made),
            "Type": "AWS-HMAC",
            "AccessKeyId": self.access_key,
            "SecretAccessKey": self.secret_key,
            "Token": self.token,
            "Expiration": stamp(self.ends),
        }
        return json.dumps(fields, indent=2)


class RoleCredentials:
    """All credentials of one local cloud. Safe to use from several threads."""

    def __init__(
        self, account: str, region: str, *, lifetime: timedelta = LIFETIME, clock: Callable[[], float] = time.time
    ) -> None:
        self._account, self._region, self._lifetime, self._clock = account, region, lifetime, clock
        self._current: dict[tuple[str, str], Issued] = {}
        self._ends: dict[str, datetime] = {}
        self._lock = threading.Lock()

    def of(self, instance_id: str, role_arn: str) -> Issued:
        """Return credentials of the role for the instance that are good for a while yet."""
        with self._lock:
            now = self._now()
            issued = self._current.get((instance_id, role_arn))
            renew = min(RENEWED_BEFORE, self._lifetime / 2)
            if issued is None or issued.ends - now <= renew:
                issued = self._issue(instance_id, role_arn, now)
                self._current[instance_id, role_arn] = issued
            return issued

    def expired(self, access_key: str) -> bool:
        """True if `access_key` was issued here and its time is over."""
        ends = self._ends.get(access_key)
        return ends is not None and ends <= self._now()

    def _issue(self, instance_id: str, role_arn: str, now: datetime) -> Issued:
        sts = get_backend("sts")[self._account]["aws"]
        role: Any = sts.assume_role(
            region_name=self._region,
            role_session_name=instance_id,
            role_arn=role_arn,
            policy="",
            duration=int(self._lifetime.total_seconds()),
            external_id="",
        )
        ends = now + self._lifetime
        self._ends[role.access_key_id] = ends
        for key in [key for key, when in self._ends.items() if when < now - _REMEMBERED]:
            del self._ends[key]
        return Issued(role.access_key_id, role.secret_access_key, role.session_token, now, ends)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)
