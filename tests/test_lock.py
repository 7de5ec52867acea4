from __future__ import annotations

import os

import pytest

from labtool import lock
from labtool.errors import LabLockedError


def test_the_second_is_told_who_holds_it(tmp_path):
    with lock.hold(tmp_path, "one"), pytest.raises(LabLockedError, match=str(os.getpid())), lock.hold(tmp_path, "one"):
        pass


def test_it_is_free_afterwards_even_after_an_error(tmp_path):
    with pytest.raises(ValueError), lock.hold(tmp_path, "one"):
        raise ValueError
    with lock.hold(tmp_path, "one"):
        pass


def test_a_lab_that_is_measured_may_be_changed_but_not_measured_by_two(tmp_path):
    with lock.hold(tmp_path, "one", lock.MEASURE), lock.hold(tmp_path, "one"), pytest.raises(LabLockedError):
        lock.hold(tmp_path, "one", lock.MEASURE).__enter__()
