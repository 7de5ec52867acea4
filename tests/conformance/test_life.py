"""A host's first boot, its console, and its stops and starts, asked for from outside and from inside."""

from __future__ import annotations

import gzip
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest
from clouds import until

pytestmark = [pytest.mark.hosts, pytest.mark.conformance, pytest.mark.timeout(1200)]


def config(key: str) -> str:
    return f"""#cloud-config
package_update: true
packages: [tree]
timezone: Europe/Berlin
users:
  - default
  - name: eve
    gecos: Eve
    groups: [adm]
    shell: /bin/sh
    sudo: "ALL=(ALL) NOPASSWD:ALL"
    ssh_authorized_keys: ["{key}"]
write_files:
  - path: /etc/labtool-test/plain
    content: "one\\n"
    permissions: "0640"
  - path: /etc/labtool-test/plain
    content: "two\\n"
    append: true
  - path: /etc/labtool-test/binary
    encoding: b64
    content: AAH/
  - path: /etc/labtool-test/owned
    owner: "eve:adm"
    defer: true
    content: mine
runcmd:
  - echo "runcmd as $(id -un)" | tee /var/tmp/runcmd
  - [sh, -c, 'printf %s "$1" >>/var/tmp/runcmd', sh, "a  b"]
"""


@pytest.fixture(scope="module")
def host(cloud):
    """A host whose user data is an archive of a cloud-config and a script, compressed."""
    archive = MIMEMultipart()
    archive.attach(MIMEText(config(cloud.public_key), "cloud-config"))
    archive.attach(MIMEText("#!/bin/sh\necho script-of-the-first-boot >>/var/tmp/script\n", "x-shellscript"))
    archive.attach(MIMEText(cloud.power_off(), "x-shellscript"))
    instance = cloud.launch(
        SecurityGroupIds=[cloud.group("life")],
        UserData=gzip.compress(archive.as_bytes()),
        InstanceInitiatedShutdownBehavior="stop",
    )
    cloud.ready(instance)
    return instance


def test_files_are_written(cloud, host):
    assert cloud.says(host, "sudo cat /etc/labtool-test/plain").split() == ["one", "two"]
    assert cloud.says(host, "sudo od -An -tx1 /etc/labtool-test/binary").split() == ["00", "01", "ff"]
    shown = cloud.says(host, "cd /etc/labtool-test && sudo stat -c '%a %U %G' plain binary owned").splitlines()
    assert [line.split()[1:] for line in shown] == [["root", "root"], ["root", "root"], ["eve", "adm"]]
    assert [line.split()[0] for line in shown[1:]] == ["644", "644"]


def test_users_can_log_in(cloud, host):
    assert cloud.ssh(host, "id -Gn; sudo -n id -un; echo $SHELL", login="eve").stdout.split() == [
        "eve", "adm", "root", "/bin/sh"
    ]  # fmt: skip


def test_packages_and_the_time_zone_are_there(cloud, host):
    assert cloud.says(host, "tree --version; date +%Z").split()[-1] in ("CET", "CEST")


def test_commands_ran_as_root_and_scripts_did(cloud, host):
    assert cloud.says(host, "cat /var/tmp/runcmd").splitlines() == ["runcmd as root", "a  b"]
    assert cloud.says(host, "cat /var/tmp/script") == "script-of-the-first-boot"


def test_the_console_shows_the_first_boots_output(cloud, host):
    until(lambda: "runcmd as root" in cloud.console(host), 300, cloud.patience)
    assert "runcmd as root" in cloud.says(host, "sudo cat /var/log/cloud-init-output.log")


def test_stop_and_start_keep_disk_address_and_identity(cloud, host):
    address = cloud.instance(host)["PrivateIpAddress"]
    machine = cloud.says(host, "cat /etc/machine-id; echo kept >kept.txt; sync").split()
    cloud.ec2.stop_instances(InstanceIds=[host])
    cloud.becomes(host, "stopped")
    assert cloud.instance(host)["PrivateIpAddress"] == address
    cloud.ec2.start_instances(InstanceIds=[host])
    cloud.becomes(host, "running")
    until(lambda: cloud.ssh(host, "true").returncode == 0, 300, 0.5)
    assert cloud.instance(host)["PrivateIpAddress"] == address
    assert cloud.says(host, "cat kept.txt; cat /etc/machine-id").split() == ["kept", *machine]
    assert cloud.says(host, "cat /var/tmp/script") == "script-of-the-first-boot"  # once


def test_poweroff_inside_stops_an_instance_that_is_to_stop(cloud, host):
    cloud.ssh(host, "sudo systemctl poweroff")
    cloud.becomes(host, "stopped")
    assert cloud.instance(host)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


def test_poweroff_inside_ends_an_instance_that_is_to_end(cloud):
    instance = cloud.launch(SecurityGroupIds=[cloud.group("ends")], InstanceInitiatedShutdownBehavior="stop")
    cloud.ready(instance)
    cloud.ec2.modify_instance_attribute(InstanceId=instance, InstanceInitiatedShutdownBehavior={"Value": "terminate"})
    cloud.ssh(instance, "sudo systemctl poweroff")
    cloud.becomes(instance, "terminated")
    assert cloud.instance(instance)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
