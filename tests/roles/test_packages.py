"""Role `packages` on a host: a signed repository, pip, kernel parameters, limits, and what is refused."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import subprocess
import tarfile
from email.utils import formatdate

import pytest

from tests.roles.conftest import MITOGEN

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(300)]

PLAY = "- hosts: web\n  gather_facts: false\n  roles: [packages]\n"


@pytest.fixture(scope="module")
def host(one_host, ansible):
    ansible.groups({"web": {"web-0": (one_host, {})}})
    return one_host


@pytest.fixture(scope="module")
def repository(host, tmp_path_factory):
    """A repository in the host's /srv/repo with one package, and the file of the key it is signed with."""
    folder = tmp_path_factory.mktemp("repo")
    (folder / "deb/DEBIAN").mkdir(parents=True)
    (folder / "deb/DEBIAN").chmod(0o755)
    (folder / "deb/DEBIAN/control").write_text(
        "Package: labtool-hello\nVersion: 1.0\nArchitecture: all\nMaintainer: t <t@example.org>\nDescription: a test\n"
    )
    repo = folder / "repo"
    repo.mkdir()

    def run(*words):
        subprocess.run(words, check=True, capture_output=True)

    run("dpkg-deb", "--build", "--root-owner-group", str(folder / "deb"), str(repo / "hello.deb"))
    deb = (repo / "hello.deb").read_bytes()
    listed = (folder / "deb/DEBIAN/control").read_text() + (
        f"Filename: ./hello.deb\nSize: {len(deb)}\nSHA256: {hashlib.sha256(deb).hexdigest()}\n"
    )
    lists = {"Packages": listed.encode(), "Packages.gz": gzip.compress(listed.encode())}
    sums = ""
    for name, content in lists.items():
        (repo / name).write_bytes(content)
        sums += f" {hashlib.sha256(content).hexdigest()} {len(content)} {name}\n"
    (repo / "Release").write_text(f"Date: {formatdate(usegmt=True)}\nSHA256:\n{sums}")
    home = folder / "gpg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", ""]
    run(*gpg, "--quick-generate-key", "t@example.org", "rsa2048", "sign")
    run(*gpg, "--clearsign", "--output", str(repo / "InRelease"), str(repo / "Release"))
    run(*gpg, "--export", "--output", str(folder / "key.gpg"))
    run("gpgconf", "--homedir", str(home), "--kill", "gpg-agent")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(repo, "repo")
    host.run(f"base64 -d <<'END' | tar xz -C /srv\n{base64.b64encode(packed.getvalue()).decode()}\nEND")
    return folder / "key.gpg"


def test_all_of_it(host, repository, ansible, strategy):
    wanted = {
        "packages_names": ["labtool-hello=1.0", "curl"],
        "packages_repositories": [{"name": "mine", "url": "file:/srv/repo", "key": str(repository)}],
        "packages_pip": ["colorama==0.4.6"],
        "packages_sysctls": {"net.ipv4.tcp_keepalive_time": 1234},
        "packages_limits": [{"domain": "admin", "item": "nofile", "value": 999}],
    }
    if strategy == MITOGEN:
        wanted["packages_name"] = "again"  # other files, the same content
    else:
        assert ansible.run(ansible.play(PLAY), "--check", **wanted).changed > 0
        assert host.run("ls -d /etc/apt/keyrings/mine.* /opt/labtool /etc/sysctl.d/60-labtool.conf", check=False) == ""
    first = ansible.run(ansible.play(PLAY), strategy=strategy, **wanted)
    assert first.changed == (5 if strategy == "linear" else 2)
    second = ansible.run(ansible.play(PLAY), "--diff", strategy=strategy, **wanted)
    assert second.changed == 0, second.output
    assert second.host_tasks("web-0") <= 7
    # Neither apt nor pip was asked.
    assert "Refresh the package lists" in first.output or strategy == MITOGEN
    assert "Refresh the package lists" not in second.output
    assert host.run("dpkg-query -W -f '${Version}' labtool-hello") == "1.0"
    assert host.run("/opt/labtool/venv/bin/python -c 'import colorama; print(colorama.__version__)'") == "0.4.6\n"
    # The host is a container, which has no kernel of its own.
    assert "net.ipv4.tcp_keepalive_time = 1234\n" in host.run("cat /etc/sysctl.d/60-*.conf")
    assert "not in force" in second.output
    assert host.run("su admin -c 'ulimit -n'") == "999\n"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"packages_sysctls": {"net.no_such": 1}}, "kernel has no parameter net.no_such"),
        (
            {"packages_repositories": [{"name": "x", "url": "file:/srv/repo", "key": "no-such-file"}]},
            "repository x: its key is neither a key's text nor a URL",
        ),
    ],
)
def test_what_is_wrong_is_named(host, repository, ansible, wanted, told):
    assert told in ansible.run(ansible.play(PLAY), code=2, **wanted).output


def test_a_repository_signed_with_another_key_is_not_installed_from(host, repository, ansible):
    host.run(
        "apt-get purge -q -y labtool-hello; rm /etc/apt/sources.list.d/mine.sources; rm -r /var/lib/apt/lists/*srv*"
    )
    other = host.run("cat /usr/share/keyrings/*archive-keyring.gpg | base64 -w0")
    key = repository.with_name("other.gpg")
    key.write_bytes(base64.b64decode(other))
    refused = ansible.run(
        ansible.play(PLAY),
        code=2,
        packages_names=["labtool-hello"],
        packages_repositories=[{"name": "mine", "url": "file:/srv/repo", "key": str(key)}],
    )
    assert "NO_PUBKEY" in refused.output or "is not signed" in refused.output or "labtool-hello" in refused.output
    assert host.run("dpkg-query -W -f '${Status}' labtool-hello 2>&1", check=False).count("install ok") == 0
    host.run("rm /etc/apt/sources.list.d/mine.sources")
