"""What `make test-aws` says it will call is what the suite calls."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
TOOL = HERE.parents[1] / "tools/conformance_aws.py"


def tool():
    spec = importlib.util.spec_from_file_location("tool_test_aws", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_call_of_the_suite_is_announced_and_no_other():
    text = "".join(file.read_text() for file in HERE.glob("*.py") if file.name != "test_calls.py")
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
