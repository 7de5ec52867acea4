"""The console script: what ends it from outside ends it as ^C does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
import sys, time
import labtool.cli.app as app

def run(arguments):
    try:
        print("begun", flush=True)
        time.sleep(0.5 if arguments else 30)
    except KeyboardInterrupt:
        print("tidied", flush=True)
        return 130
    return 0

app.run = run
from labtool.__main__ import main
main()
"""


def end(number, *words, ignored=False):
    # A test run in the background was started with ^C ignored, and its children would inherit that.
    first = ["env", "--default-signal=INT", *(["--ignore-signal=HUP"] if ignored else [])]
    command = [*first, sys.executable, "-c", PROGRAM, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        os.kill(process.pid, number)
        return process.stdout.read(), process.wait(20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_was_begun_is_tidied_and_the_code_is_130(number):
    assert end(number) == ("tidied\n", 130)


def test_nohup_holds():
    assert end(signal.SIGHUP, "short", ignored=True) == ("", 0)
