"""Each small role alone, with a playbook and a plain inventory of a sysadmin's own: check mode, run, run again."""

from __future__ import annotations

import hashlib
import tarfile

import pytest

from tests.roles.conftest import MITOGEN

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def two(lab_hosts, ansible):
    hosts = lab_hosts(2)
    ansible.groups({"web": {f"web-{at}": (host, {}) for at, host in enumerate(hosts)}})
    return hosts


def thrice(ansible, playbook, strategy, **variables):
    """Run in check mode, then really, then again; return the real run's result."""
    checked = ansible.run(playbook, "--check", strategy=strategy, **variables)
    assert checked.changed > 0
    first = ansible.run(playbook, strategy=strategy, **variables)
    assert first.changed > 0
    second = ansible.run(playbook, strategy=strategy, **variables)
    assert second.changed == 0, second.output
    return first


def test_hostnames(two, ansible, strategy):
    names = {"hostnames_hosts": ["web-0", "web-1"] if strategy == MITOGEN else ["web-0"]}
    playbook = ansible.play("- hosts: web\n  gather_facts: false\n  roles: [hostnames]\n")
    thrice(ansible, playbook, strategy, **names)
    for host in two:
        found = host.run("cat /etc/hosts; getent hosts web-0")
        assert f"{two[0].address} web-0" in found
        assert "127.0.0.1" in found
        assert (f"{two[1].address} web-1" in found) == (strategy == MITOGEN)
        assert found.count("BEGIN lab hosts") == 1


def test_java_finds_what_is_there(two, ansible, strategy):
    playbook = ansible.play(
        "- hosts: web\n  gather_facts: false\n  roles: [java]\n"
        "  tasks:\n    - ansible.builtin.debug:\n        msg: 'java is {{ java_release }} in {{ java_home }}'\n"
    )
    result = ansible.run(playbook, strategy=strategy)
    assert result.changed == 0
    assert "java is 17 in /usr/lib/jvm/" in result.output


def test_java_comes_to_a_host_that_has_none(two, ansible):
    two[1].run("apt-get purge -qq -y 'openjdk-*' && ! command -v java")
    playbook = ansible.play("- hosts: web-1\n  gather_facts: false\n  roles: [java]\n")
    thrice(ansible, playbook, MITOGEN)
    assert "17." in two[1].run("java -version 2>&1")


def test_java_says_what_to_do_where_packages_are_too_old(two, ansible):
    playbook = ansible.play("- hosts: web-0\n  gather_facts: false\n  roles: [java]\n")
    result = ansible.run(playbook, code=2, java_minimum=99, java_packages=["default-jre-headless"])
    assert "has no Java 99 or newer" in result.output and "Set java_packages" in result.output


def test_artifact(two, ansible, strategy, tmp_path):
    (tmp_path / "thing-1.0/libs").mkdir(parents=True)
    (tmp_path / "thing-1.0/libs/a.jar").write_text("jar")
    archive = tmp_path / "thing-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "thing-1.0", "thing-1.0")
    digest = hashlib.sha512(archive.read_bytes()).hexdigest()
    (tmp_path / "thing-1.0.tar.gz.sha512").write_text(f"{digest}  thing-1.0.tar.gz\n")
    playbook = ansible.play(
        "- hosts: web\n  gather_facts: false\n  roles: [artifact]\n"
        "  tasks:\n    - ansible.builtin.debug:\n        msg: 'fetched {{ artifact_thing.sha512 }}'\n"
    )
    wanted = {
        "artifact_name": "thing",
        "artifact_version": "1.0",
        "artifact_sites": [tmp_path.as_uri()],
        "artifact_cache": str(tmp_path / "cache"),
        "artifact_directory": f"/opt/thing-{strategy}",
    }
    first = thrice(ansible, playbook, strategy, **wanted)
    assert first.output.count(f"fetched {digest}") == 2
    for host in two:
        assert host.run(f"cat /opt/thing-{strategy}/current/libs/a.jar") == "jar"
    # A cut file in the cache is refused, and fetched again.
    (tmp_path / "cache/thing-1.0.tar.gz").write_bytes(archive.read_bytes()[:20])
    assert ansible.run(playbook, strategy=strategy, **wanted).changed == 1
