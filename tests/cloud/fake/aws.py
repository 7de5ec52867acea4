"""The account: dispatches what botocore sends, keeps a log of it, throttles, and fails where it is told to."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest import mock

from botocore import UNSIGNED
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError
from botocore.retries import quota

from fake import promises as published
from fake import wire
from fake.clock import VirtualClock
from fake.policy import Policy
from fake.promises import Bucket, Promises
from fake.state import check_filters


class Refused(Exception):  # noqa: N818 - AWS's word
    """AWS says no."""

    def __init__(self, code: str, message: str = "", status: int = 400) -> None:
        super().__init__(code, message)
        self.code, self.message, self.status = code, message or code, status


class Crash(BaseException):
    """labtool dies here: nothing of it runs any more, whatever it would have cleaned up."""


@dataclass(frozen=True)
class Call:
    """One request as it came over the wire, retries included."""

    service: str
    action: str
    parameters: dict[str, Any]
    at: float
    outcome: str = ""


# What can go wrong with a call; "-after": the call was carried out all the same.
FAULTS = (
    "crash", "crash-after", "interrupt", "interrupt-after", "timeout", "timeout-after", "unreachable",
    "throttle", "error", "error-after", "not-found", "capacity",
)  # fmt: skip
NOT_FOUND = {
    "TerminateInstances": "InvalidInstanceID.NotFound",
    "CreateTags": "InvalidInstanceID.NotFound",
    "StartInstances": "InvalidInstanceID.NotFound",
    "GetConsoleOutput": "InvalidInstanceID.NotFound",
    "RunInstances": "InvalidGroup.NotFound",
    "AuthorizeSecurityGroupIngress": "InvalidGroup.NotFound",
    "RevokeSecurityGroupIngress": "InvalidGroup.NotFound",
}


class Aws:
    """One account in one region."""

    def __init__(
        self,
        clock: VirtualClock | None = None,
        promises: Promises | None = None,
        *,
        seed: int = 0,
        faults: dict[int, str] | None = None,
    ) -> None:
        from fake.ec2 import Ec2
        from fake.pricing import Pricing
        from fake.s3 import S3

        self.clock = clock or VirtualClock()
        self.promises = promises or Promises()
        self.random = random.Random(seed)
        self.faults = dict(faults or {})  # number of the call → what happens to it
        self.next_of: dict[str, str] = {}  # action → what happens to the next call of it
        self.calls: list[Call] = []
        self.refused: Counter[str] = Counter()  # how often with which code
        self.dead = False
        self.buckets: dict[str, Bucket] = {}
        self.ec2 = Ec2(self)
        self.pricing = Pricing()
        self.s3 = S3()
        self.policy: Policy | None = None  # None: an administrator of the account

    # What a test asks

    def counted(self) -> Counter[str]:
        """Return how often each action was asked for."""
        return Counter(call.action for call in self.calls)

    def revive(self) -> None:
        """Let the user start labtool again."""
        self.dead = False

    def pass_time(self, seconds: float) -> None:
        """Let time pass in which labtool does not run."""
        self.clock.sleep(seconds)

    # What botocore sends

    def handle(self, service: str, operation: Any, request: Any) -> Any:
        """Answer one request."""
        if self.dead:
            raise Crash
        number = len(self.calls)
        parameters = wire.parse(operation, request)
        fault = self.next_of.pop(operation.name, "") or self.faults.get(number, "")
        self.calls.append(Call(service, operation.name, parameters, self.clock.elapsed, fault))
        launch = operation.name == "RunInstances"
        self.clock.sleep(self.promises.launch_latency if launch else self.promises.latency)
        self._before(fault, operation, request)
        try:
            self._throttle(operation.name, parameters)
            denied = self.policy and self.policy.refusal(self, service, operation.name, parameters)
            if denied:
                raise Refused("UnauthorizedOperation", f"You are not authorized to perform {denied}.", 403)
            if operation.name in self.promises.denied:
                raise Refused("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
            if fault == "throttle":
                raise Refused("RequestLimitExceeded", "Request limit exceeded.", 503)
            if fault == "error":
                raise Refused("InternalError", "An internal error has occurred", 500)
            if fault == "not-found" and operation.name in NOT_FOUND:
                raise Refused(NOT_FOUND[operation.name], "does not exist")
            if fault == "capacity" and launch:
                raise Refused("InsufficientInstanceCapacity", "We currently do not have sufficient capacity", 500)
            if parameters.pop("DryRun", False):
                raise Refused("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
            if service == "ec2":
                check_filters(operation.name, parameters.get("Filters", []))
            answer = wire.answer(operation, self._action(service, operation.name)(parameters))
        except Refused as refused:
            self.refused[refused.code] += 1
            return wire.refusal(operation, refused.code, refused.message, refused.status)
        self._after(fault, request)
        if fault == "error-after":
            return wire.refusal(operation, "InternalError", "An internal error has occurred", 500)
        return answer

    def _before(self, fault: str, operation: Any, request: Any) -> None:
        if fault == "crash":
            self.dead = True
            raise Crash(operation.name)
        if fault == "interrupt":
            raise KeyboardInterrupt
        if fault == "timeout":
            self.clock.sleep(60)
            raise ReadTimeoutError(endpoint_url=request.url)
        if fault == "unreachable":
            self.clock.sleep(10)
            raise ConnectTimeoutError(endpoint_url=request.url)

    def _after(self, fault: str, request: Any) -> None:
        if fault == "crash-after":
            self.dead = True
            raise Crash(request.url)
        if fault == "interrupt-after":
            raise KeyboardInterrupt
        if fault == "timeout-after":
            self.clock.sleep(60)
            raise ReadTimeoutError(endpoint_url=request.url)

    def _throttle(self, action: str, parameters: dict[str, Any]) -> None:
        if not self.promises.throttle:
            return
        if action in published.OWN_BUCKETS:
            size = published.OWN_BUCKETS[action]
        elif not action.startswith(published.READS):
            size = published.WRITE_BUCKET
        elif action.startswith("Describe") and not parameters:
            size = published.UNFILTERED_BUCKET
        else:
            size = published.READ_BUCKET
        if not self.buckets.setdefault(action, Bucket(*size)).take(self.clock.elapsed):
            raise Refused("RequestLimitExceeded", "Request limit exceeded.", 503)
        if action in published.RESOURCES:
            count = parameters.get("MaxCount") or len(parameters.get("InstanceIds", [])) or 1
            own = self.buckets.setdefault("resources of " + action, Bucket(*published.RESOURCES[action]))
            if not own.take(self.clock.elapsed, count):
                raise Refused("RequestLimitExceeded", "Request limit exceeded.", 503)

    def _action(self, service: str, name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        home: Any = {
            "ec2": self.ec2,
            "ssm": self,
            "sts": self,
            "pricing": self.pricing,
            "s3": self.s3,
            "cloudwatch": self,
        }[service]
        found = getattr(home, re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(), None)
        if found is None:
            raise NotImplementedError(f"the fake has no {service} {name}")
        return found  # type: ignore[no-any-return]

    # SSM and STS

    def get_parameter(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return a public parameter: the newest image of a distribution."""
        value = next((i for i, image in self.ec2.images.items() if asked["Name"] == image["parameter"]), None)
        if value is None:
            raise Refused("ParameterNotFound", f"{asked['Name']} not found")
        return {"Parameter": {"Name": asked["Name"], "Type": "String", "Value": value, "Version": 1}}

    def get_metric_data(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Know no metric."""
        return {"MetricDataResults": [{"Id": each["Id"], "Values": []} for each in asked["MetricDataQueries"]]}

    def list_metrics(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Know no metric."""
        return {"Metrics": []}

    def get_caller_identity(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Say who asks."""
        return {"UserId": "AIDAFAKE", "Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/fake"}


class _Quota(quota.RetryQuota):  # type: ignore[misc]
    def refill(self) -> None:
        """Forget all retries."""
        self._available_capacity = self._max_capacity


def connect(session: Any, holder: Callable[[], Aws]) -> list[_Quota]:
    """Cut the wire of every client that `session` makes; `holder` says which account answers at the moment.

    Returns the clients' retry quotas, to which those made later are added. A client signs its first request, and says
    the same of itself in all of them: nobody looks at either, and they took a fifth of the tests' time.
    """
    make = session._make
    quotas: list[_Quota] = []

    def noted(*given: Any) -> _Quota:
        quotas.append(_Quota(*given))
        return quotas[-1]

    def made(*service: Any, **options: Any) -> Any:
        with mock.patch.object(quota, "RetryQuota", noted):
            client = make(*service, **options)
        model = client.meta.service_model

        def send(request: Any, event_name: str, **_: Any) -> Any:
            operation = model.operation_model(event_name.rsplit(".", 1)[-1])
            return holder().handle(model.service_name, operation, request)

        client.meta.events.register_first("before-send", send)
        signed = itertools.count()
        client.meta.events.register("choose-signer", lambda **_: UNSIGNED if next(signed) else None)
        agent = client._user_agent_creator
        agent.to_string = cache(agent.to_string)
        return client

    session._make = made
    return quotas


def digest(value: Any) -> str:
    """Return what tells one set of parameters from another."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
