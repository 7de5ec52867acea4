"""What `make test-aws` says it will call is what the suite calls."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import clouds

HERE = Path(__file__).parent
TOOL = HERE.parents[1] / "tools/conformance_aws.py"


def tool():
    spec = importlib.util.spec_from_file_location("tool_test_aws", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_call_of_the_suite_is_announced_and_no_other():
    text = "".join(file.read_text() for file in HERE.glob("*.py") if file.name not in ("test_calls.py", "test_left.py"))
    named = set(re.findall(r'\b(?:ec2|iam|ssm|session\.client\("(?:ec2|sts)"\))\.([a-z_]+)\(', text))
    named |= set(re.findall(r'^\s+\("([a-z]+_[a-z_]+)", \{', text, re.MULTILINE))  # by name, in tidy
    named |= {"describe_images", "get_parameter"}  # by labtool.cloud.images
    assert named == {name for names in tool().CALLS.values() for name in names}


def test_the_announcement_has_account_price_and_calls():
    told = tool().announcement("123456789012", "us-east-1")
    for word in ("123456789012", "us-east-1", "5 t3.micro", "$0.05 at most", "run_instances", "delete_role"):
        assert word in told


def test_nothing_is_done_where_nobody_can_agree():
    environment = {"PATH": "/usr/bin:/bin", "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(HERE)}
    command = [sys.executable, str(TOOL)]
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment, check=False
    )
    assert done.returncode == 1
    assert "no AWS credentials" in done.stdout


def test_the_announced_life_is_the_one_that_hosts_are_given():
    assert clouds.LIFE.total_seconds() / 60 == tool().LIFE_MINUTES
    assert "after 60 minutes" in tool().announcement("123456789012", "us-east-1")


# Begins to remove what it made when it is interrupted, and takes a second for that.
SUITE = """
import pathlib, sys, time
try:
    print("began", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)
    pathlib.Path(sys.argv[1]).touch()
    sys.exit(2)
"""


def test_an_interrupted_suite_is_waited_for(tmp_path):
    removed = tmp_path / "removed"
    program = "import runpy, sys; sys.exit(runpy.run_path(sys.argv[1])['finished'](sys.argv[2:], None))"
    running = subprocess.Popen(
        [sys.executable, "-c", program, str(TOOL), sys.executable, "-c", SUITE, str(removed)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert running.stdout.readline() == "began\n"
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    running.communicate(timeout=30)
    assert running.returncode == 2
    assert removed.exists()
