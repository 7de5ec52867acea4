from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake import Account, Aws, VirtualClock, install


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
