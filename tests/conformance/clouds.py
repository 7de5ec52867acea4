"""The clouds of the conformance suite: the local one, and AWS.

The tests know boto3 and SSH and nothing of which cloud it is. What they make is named after this run and removed at its
end. It is tagged as a lab, too, that ends in an hour: what a killed run leaves is seen by `labtool status --all` and
ended by `labtool down --expired`. On AWS the calls go by the credentials and region that the environment has.
"""

from __future__ import annotations

import getpass
import json
import shlex
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

from labtool.cloud import images, keys, request, tags
from labtool.cloud.session import Session, Target
from labtool.config import LocalSettings
from tests.processes import NUMBER

SETTINGS = LocalSettings(name=f"conform{NUMBER}", subnet=f"198.19.{160 + 16 * NUMBER}.0/20", port=4630 + NUMBER)
INSTANCE_TYPE, ROOT_GIB = "t3.micro", 8
LIFE = timedelta(hours=1)
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
MAY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"}]}
# Run on the host, without a package: asks the metadata service and prints [status, headers, body] of each request.
ASK = """
import json, sys, urllib.error, urllib.request
ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
def one(method, path, headers):
    request = urllib.request.Request("http://169.254.169.254" + path, headers=headers, method=method)
    try:
        with ask(request, timeout=10) as answer:
            return [answer.status, dict(answer.headers), answer.read().decode("latin-1")]
    except urllib.error.HTTPError as error:
        return [error.code, dict(error.headers), ""]
print(json.dumps([one(*request) for request in json.loads(sys.argv[1])]))
"""
TTL, TOKEN = "X-aws-ec2-metadata-token-ttl-seconds", "X-aws-ec2-metadata-token"


def until(condition: Callable[[], Any], timeout_s: float = 120.0, every_s: float = 0.2) -> Any:
    """Return what `condition` returns once it is true; fails after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while True:
        if found := condition():
            return found
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s"
        time.sleep(every_s)


class Cloud:
    """Clients of one cloud, what this run made there, and SSH to its hosts."""

    def __init__(self, folder: Path, session: boto3.Session, *, endpoint: str | None, caller: str, patience: float):
        self.folder, self.session, self.endpoint, self.caller, self.patience = (
            folder,
            session,
            endpoint,
            caller,
            patience,
        )
        self.ec2, self.iam, self.ssm = (self.client(name) for name in ("ec2", "iam", "ssm"))
        self.region = session.region_name
        self.lab = f"conformance-{uuid.uuid4().hex[:8]}"
        self.name = keys.pair_name(self.lab)
        self.expires = datetime.now(UTC) + LIFE
        self.instances: list[str] = []
        self.groups: list[str] = []
        self.users: dict[str, str] = {}
        self.key = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        self.public_key = self.key.with_suffix(".pub").read_text().strip()

    def client(self, service: str) -> Any:
        return self.session.client(service, endpoint_url=self.endpoint)

    # What tests make

    def begin(self) -> None:
        """Make what every host needs: the key pair."""
        belongs = self.tagged("key-pair")
        self.ec2.import_key_pair(
            KeyName=self.name, PublicKeyMaterial=self.public_key.encode(), TagSpecifications=belongs
        )

    @property
    def tags(self) -> dict[str, str]:
        """What all that this run makes is tagged with."""
        return {tags.LAB: self.lab, tags.EXPIRES: tags.time_text(self.expires)}

    def tagged(self, *kinds: str, **more: str) -> list[dict[str, Any]]:
        """Return the run's tags as a call takes them, for each kind of what it makes."""
        return [{"ResourceType": kind, "Tags": tags.to_list({**self.tags, **more})} for kind in kinds]

    def host_tags(self) -> dict[str, str]:
        """Return the tags of the next host: those by which labtool knows it, and a name."""
        index = str(len(self.instances))
        about = {tags.GROUP: "test", tags.INDEX: index, tags.ROOT_GIB: str(ROOT_GIB), tags.OWNER: getpass.getuser()}
        return {"Name": self.name, **self.tags, **about, tags.LOGIN: self.image.login}

    def power_off(self) -> str:
        """Return a script for the first boot, by which a host powers itself off when the run's time is over."""
        return request.user_data(self.expires)

    def group(self, name: str, *, ssh: bool = True) -> str:
        """Make a security group that lets the caller in by SSH."""
        vpc = self.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
        made = self.ec2.create_security_group(
            GroupName=f"{self.name}-{name}",
            Description="a test",
            VpcId=vpc,
            TagSpecifications=self.tagged("security-group"),
        )
        self.groups.append(made["GroupId"])
        if ssh:
            allowed = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": self.caller}]}
            self.ec2.authorize_security_group_ingress(GroupId=made["GroupId"], IpPermissions=[allowed])
        return str(made["GroupId"])

    def profile(self) -> str:
        """Make a role that may describe instances, and its instance profile; both have the run's name."""
        own = tags.to_list(self.tags)
        self.iam.create_role(RoleName=self.name, AssumeRolePolicyDocument=json.dumps(TRUST), Tags=own)
        self.iam.put_role_policy(RoleName=self.name, PolicyName="describe", PolicyDocument=json.dumps(MAY))
        self.iam.create_instance_profile(InstanceProfileName=self.name, Tags=own)
        self.iam.add_role_to_instance_profile(InstanceProfileName=self.name, RoleName=self.name)
        return self.name

    def launch(self, **more: Any) -> str:
        """Launch one instance and return its id; it is tagged, and ends itself if `more` does not say otherwise.

        With user data of its own, those have to have `power_off` in them.
        """
        asked = {
            "ImageId": self.image.id, "InstanceType": INSTANCE_TYPE, "MinCount": 1, "MaxCount": 1, "KeyName": self.name,
            "InstanceInitiatedShutdownBehavior": "terminate", "UserData": self.power_off(),
            "TagSpecifications": self.tagged("instance", "volume", **self.host_tags()), **more,
        }  # fmt: skip

        def attempt() -> str:
            try:
                return str(self.ec2.run_instances(**asked)["Instances"][0]["InstanceId"])
            except ClientError as error:
                # A new instance profile is unknown to EC2 for some seconds.
                if "Instance Profile" not in str(error):
                    raise
                return ""

        instance = until(attempt, every_s=2)
        self.instances.append(instance)
        return str(instance)

    @property
    def image(self) -> images.Image:
        """This distribution's newest image."""
        if not hasattr(self, "_image"):
            known = self.session.get_credentials() if self.endpoint else None  # AWS's are the environment's
            target = Target(
                "conformance",
                self.region,
                endpoint_url=self.endpoint,
                access_key=known and known.access_key,
                secret_key=known and known.secret_key,
                default_image=self.default_image,
            )
            self._image = images.resolve(Session(target), None)
        return self._image

    default_image = "debian-12"

    # What tests ask

    def instance(self, instance: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
        return found

    def becomes(self, instance: str, state: str) -> None:
        until(lambda: self.instance(instance)["State"]["Name"] == state, 300 * self.patience)

    def console(self, instance: str) -> str:
        return str(self.ec2.get_console_output(InstanceId=instance, Latest=True).get("Output", ""))

    def ready(self, instance: str) -> None:
        """Wait until the host lets us in by the key that its console shows and has carried out its user data."""
        self.becomes(instance, "running")
        begin, end = "-----BEGIN SSH HOST KEY KEYS-----", "-----END SSH HOST KEY KEYS-----"
        text = until(lambda: (t := self.console(instance)) and begin in t and end in t and t, 600, self.patience)
        keys = text.partition(begin)[2].partition(end)[0].strip().splitlines()
        # The serial console may put a carriage return or a kernel's line between them.
        lines = [f"{instance} {key.strip()}" for key in keys if key.startswith(("ssh-", "ecdsa-"))]
        (self.folder / f"known-{instance}").write_text("\n".join(lines) + "\n")
        until(lambda: self.ssh(instance, "test -e /var/lib/cloud/instance/boot-finished").returncode == 0, 300, 0.5)

    def address(self, instance: str) -> str:
        """Return where the caller reaches the host."""
        found = self.instance(instance)
        return str(found["PrivateIpAddress"] if self.endpoint else found["PublicIpAddress"])

    def ssh(
        self, instance: str, *words: str, stdin: str = "", login: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        options = {
            "BatchMode": "yes", "StrictHostKeyChecking": "yes", "HostKeyAlias": instance, "ConnectTimeout": 5,
            "UserKnownHostsFile": self.folder / f"known-{instance}", "IdentitiesOnly": "yes",
        }  # fmt: skip
        given = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        where = f"{login or self.image.login}@{self.address(instance)}"
        command = ["ssh", "-i", str(self.key), *given, where, *words]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=300)

    def says(self, instance: str, *words: str, stdin: str = "") -> str:
        done = self.ssh(instance, *words, stdin=stdin)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def ask(self, instance: str, *requests: tuple[str, str, dict[str, str]]) -> list[tuple[int, dict[str, str], str]]:
        """Have the host ask its metadata service; return status, headers and body of each answer."""
        program = f"python3 - {shlex.quote(json.dumps(requests))}"
        return [tuple(each) for each in json.loads(self.says(instance, program, stdin=ASK))]

    def token(self, instance: str, ttl_s: int = 300) -> str:
        ((status, _, token),) = self.ask(instance, ("PUT", "/latest/api/token", {TTL: str(ttl_s)}))
        assert status == 200
        return token

    def reads(self, instance: str, *paths: str) -> list[str]:
        """Return what the host reads at `paths`, with a token."""
        headers = {TOKEN: self.token(instance)}
        answers = self.ask(instance, *(("GET", path, headers) for path in paths))
        assert [status for status, _, _ in answers] == [200] * len(paths), list(zip(paths, answers, strict=True))
        return [body for _, _, body in answers]

    # The end

    def tidy(self) -> None:
        """Remove all that this run made; what fails keeps nothing else from being removed, and is told at the end."""
        failed: list[Exception] = []

        def attempt(step: Callable[..., Any], *given: Any) -> None:
            try:
                step(*given)
            except Exception as error:
                failed.append(error)

        attempt(self._end_instances)
        attempt(self._delete_groups)
        attempt(lambda: self.ec2.delete_key_pair(KeyName=self.name))
        for call, given in (
            ("remove_role_from_instance_profile", {"InstanceProfileName": self.name, "RoleName": self.name}),
            ("delete_instance_profile", {"InstanceProfileName": self.name}),
            ("delete_role_policy", {"RoleName": self.name, "PolicyName": "describe"}),
            ("delete_role", {"RoleName": self.name}),
        ):
            attempt(self._forget, call, given)
        if failed:
            raise ExceptionGroup(f"not all of {self.name} was removed: `labtool down --lab {self.lab}`", failed)

    def _with_tag(self) -> list[dict[str, Any]]:
        return [{"Name": f"tag:{tags.LAB}", "Values": [self.lab]}]

    def _end_instances(self) -> None:
        # By their tag too: the answer to a launch may not have come. And what a test has ended may be forgotten by now.
        there: dict[str, str] = {}
        for known in ([{"Name": "instance-id", "Values": self.instances or ["i-none"]}], self._with_tag()):
            for each in self.ec2.describe_instances(Filters=known)["Reservations"]:
                there |= {instance["InstanceId"]: instance["State"]["Name"] for instance in each["Instances"]}
        if there:
            self.ec2.terminate_instances(InstanceIds=list(there))
            for instance in there:
                self.becomes(instance, "terminated")

    def _delete_groups(self) -> None:
        found = self.ec2.describe_security_groups(Filters=self._with_tag())["SecurityGroups"]
        for group in found:  # rules that name another group keep that one from being deleted
            if group["IpPermissions"]:
                self.ec2.revoke_security_group_ingress(GroupId=group["GroupId"], IpPermissions=group["IpPermissions"])
        groups = {group["GroupId"] for group in found}.union(self.groups)
        # Each is tried each time: one may keep another.
        until(lambda: not [group for group in groups if not self._deleted(group)], 120, 1)

    def _forget(self, call: str, given: dict[str, str]) -> None:
        try:
            getattr(self.iam, call)(**given)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchEntity":  # no test needed it
                raise

    def _deleted(self, group: str) -> bool:
        try:
            self.ec2.delete_security_group(GroupId=group)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("DependencyViolation", "InvalidGroup.NotFound"):
                raise
            return error.response["Error"]["Code"] == "InvalidGroup.NotFound"
        return True


def local(folder: Path) -> Iterator[Cloud]:
    """Start a local cloud of this suite's own, and stop it at the end."""
    from labtool import localcloud

    localcloud.stop(SETTINGS, print)  # what a killed run left
    endpoint = localcloud.start(SETTINGS, lambda text: print(text, file=sys.stderr))
    session = boto3.Session(endpoint.access_key, endpoint.secret_key, region_name=endpoint.region)
    try:
        made = Cloud(folder, session, endpoint=endpoint.url, caller=SETTINGS.gateway_cidr, patience=0.1)
        made.default_image = endpoint.default_image
        made.begin()
        yield made
        made.tidy()
    finally:
        localcloud.stop(SETTINGS, print)


def aws(folder: Path) -> Iterator[Cloud]:
    """Use the account and region that the environment names."""
    session = boto3.Session()
    assert session.get_credentials() is not None, "no AWS credentials"
    with urllib.request.urlopen("https://checkip.amazonaws.com", timeout=10) as answer:
        caller = f"{answer.read().decode().strip()}/32"
    made = Cloud(folder, session, endpoint=None, caller=caller, patience=5.0)
    try:
        made.begin()
        yield made
    finally:
        made.tidy()
