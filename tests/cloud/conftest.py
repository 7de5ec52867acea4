from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake import Aws, VirtualClock, connect

from labtool.cloud import wait
from labtool.cloud.session import Session, Target


class Account:
    """A session, and the account that answers it at the moment: a client takes long to make, an account does not."""

    def __init__(self) -> None:
        target = Target("aws", "us-east-1", access_key="test", secret_key="test", caller_cidr="198.51.100.7/32")
        self.session = Session(target)
        self.aws = Aws()
        self._quotas = connect(self.session, lambda: self.aws)

    def reset(self, aws):
        """Let `aws` answer from now on, with clients that have not retried anything yet."""
        self.aws = aws
        for quota in self._quotas:
            quota.refill()
        self.session._paces.clear()


@pytest.fixture(scope="session")
def account():
    return Account()


@pytest.fixture
def aws(account, monkeypatch):
    """An AWS account of its own in virtual time, behind `session`."""
    account.reset(Aws(VirtualClock()))
    install(account.aws, monkeypatch.setattr)
    return account.aws


@pytest.fixture
def session(account, aws):
    return account.session


def install(aws, patch) -> None:
    """Let labtool live in the account's time and find its hosts."""
    aws.clock.install(patch)
    patch(wait, "greets", lambda host, access=None: aws.ec2.greets(host.address))
