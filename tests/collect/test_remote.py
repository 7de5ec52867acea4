from __future__ import annotations

import shlex
import subprocess

import pytest

from labtool.collect import remote

NOT_INSTALLED = f"the collector is not installed there: {remote.DEPLOY}"


def test_only_root_needs_no_sudo(host):
    assert remote.privileged(host("h", login="root"), ("a b", "c")) == "'a b' c"
    assert remote.privileged(host("h", login="admin"), ("a b", "c")) == "sudo -n 'a b' c"


def test_a_program_survives_the_shell():
    line = remote.python("import sys\nprint('it\\'s', sys.flags.isolated)")
    assert subprocess.run(line, shell=True, capture_output=True, text=True, check=True).stdout == "it's 1\n"
    assert shlex.split(line)[0] == "python3"


@pytest.mark.parametrize(
    ("status", "said", "reason"),
    [
        (255, "", "SSH failed: the connection was lost"),
        (255, "Warning: x\nPermission denied (publickey).\n", "SSH failed: Permission denied (publickey)."),
        (1, "sudo: /usr/local/bin/labtool-collect: command not found\n", NOT_INSTALLED),
        (3, "", "ended with status 3"),
        (-15, "", "ended by signal 15"),
    ],
)
def test_a_reason_is_one_line(status, said, reason):
    assert remote.reason(status, said) == reason
