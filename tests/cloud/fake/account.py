"""The fake as labtool meets it: a session whose wire is cut, in the account's time."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

from fake.aws import Aws, connect
from labtool.cloud import model, wait
from labtool.cloud.session import Session, Target


class Account:
    """A session, and the account that answers it at the moment: a client takes long to make, an account does not."""

    def __init__(self) -> None:
        target = Target("aws", "us-east-1", access_key="test", secret_key="test", caller_cidr="198.51.100.7/32")
        self.session = Session(target)
        self.aws = Aws()
        self._quotas = connect(self.session, lambda: self.aws)
        console = Session(target)
        connect(console, lambda: self.aws)
        with mock.patch.object(model, "shorten"):
            self._console = console.ec2

    def stop(self, *ids: str) -> None:
        """Stop instances as somebody else: labtool does not."""
        self._console.stop_instances(InstanceIds=list(ids))

    def reset(self, aws: Aws) -> None:
        """Let `aws` answer from now on, with clients that have not retried anything yet."""
        self.aws = aws
        for quota in self._quotas:
            quota.refill()
        self.session._paces.clear()


def install(aws: Aws, patch: Callable[[object, str, object], None]) -> None:
    """Let labtool live in the account's time and find its hosts."""
    aws.clock.install(patch)
    patch(wait, "greets", lambda host, access: aws.ec2.greets(host.address))
