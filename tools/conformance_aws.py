"""Run the conformance suite (tests/conformance) on AWS, after saying what it calls and costs, and asking.

    python tools/conformance_aws.py [--yes]

Needs an account's credentials and region in the environment, and a default VPC there.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import boto3

from labtool.cloud.price import SHIPPED

ROOT = Path(__file__).parents[1]
HOSTS, HOST_TYPE, ROOT_GIB = 5, "t3.micro", 8
MINUTES = 30  # at most; most of it is waiting for consoles
LIFE_MINUTES = 60  # of each host, if the run is killed
CALLS = {
    "ec2": (
        "authorize_security_group_egress", "authorize_security_group_ingress", "create_security_group", "create_tags",
        "delete_key_pair", "delete_security_group", "describe_availability_zones", "describe_images",
        "describe_instances", "describe_security_groups", "describe_subnets", "describe_vpcs", "get_console_output",
        "import_key_pair", "modify_instance_attribute", "modify_instance_metadata_options",
        "revoke_security_group_egress", "revoke_security_group_ingress", "run_instances", "start_instances",
        "stop_instances", "terminate_instances",
    ),
    "iam": (
        "add_role_to_instance_profile", "create_instance_profile", "create_role", "delete_instance_profile",
        "delete_role", "delete_role_policy", "put_role_policy", "remove_role_from_instance_profile",
    ),
    "ssm": ("get_parameter",),
    "sts": ("get_caller_identity",),
}  # fmt: skip


def announcement(account: str, region: str) -> str:
    """Return what is about to happen."""
    most = SHIPPED.of([HOST_TYPE] * HOSTS, ROOT_GIB).usd_per_hour * MINUTES / 60
    calls = "\n".join(f"  {service}: {', '.join(names)}" for service, names in CALLS.items())
    return (
        f"The conformance suite runs in AWS account {account}, region {region}.\n"
        f"It launches {HOSTS} {HOST_TYPE} with public addresses for {MINUTES} minutes at most: ${most:.2f} at most "
        f"({SHIPPED}).\n"
        "It makes security groups, a key pair, a role and an instance profile, all named labtool-conformance-…, and "
        "removes everything at its end.\n"
        f"If it is killed, the hosts power themselves off after {LIFE_MINUTES} minutes; until then "
        "`labtool status --all --cloud aws` shows what is left, and after that `labtool down --expired --cloud aws` "
        f"removes it. A role and a profile, which cost nothing, stay.\nCalls:\n{calls}"
    )


def main() -> int:
    """Say, ask, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    given = parser.parse_args()
    session = boto3.Session()
    if session.get_credentials() is None or session.region_name is None:
        print(
            "error: there are no AWS credentials or no region\nhint: `aws configure`, or set AWS_PROFILE and AWS_REGION"
        )
        return 1
    account = session.client("sts").get_caller_identity()["Account"]
    print(announcement(account, session.region_name))
    if not given.yes:
        if not sys.stdin.isatty():
            print("error: nobody is here to ask\nhint: say --yes to agree")
            return 1
        if input("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing was done")
            return 1
    command = [sys.executable, "-m", "pytest", "-v", "-m", "conformance", "tests/conformance"]
    environment = {**os.environ, "LABTOOL_CONFORMANCE": "aws", "AWS_DEFAULT_REGION": session.region_name}
    return finished(command, environment)


def finished(command: list[str], environment: dict[str, str] | None) -> int:
    """Run the suite and return its exit code. ^C reaches the suite too, which then removes its hosts: it is awaited."""
    with subprocess.Popen(command, cwd=ROOT, env=environment) as suite:
        while True:
            try:
                return suite.wait()
            except KeyboardInterrupt:
                print("waiting until everything is removed", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
