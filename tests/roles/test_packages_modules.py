"""The modules of role `packages`, without a host."""

from __future__ import annotations

import base64
import sys

import pytest

from tests.roles.modules import load

missing = load("roles/packages/library/packages_missing.py")
repositories = load("roles/packages/library/packages_repositories.py")
keys = load("roles/packages/action_plugins/packages_repositories.py", "role_packages_keys")
sysctl = load("roles/packages/library/packages_sysctl.py")
pip = load("roles/packages/library/packages_pip.py")

LISTED = (
    "curl\tamd64\t7.88.1-10\tinstalled\t\n"
    "gone\tamd64\t1.0\tconfig-files\t\n"
    "mawk\tamd64\t1.3.4\tinstalled\tawk\n"
    "libx1\tamd64\t2.0\tinstalled\tlibx (= 2.0), libx:any\n"
)
ARMOURED = base64.b64encode(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nxx\n").decode()
NGINX = {
    "name": "nginx",
    "url": "https://nginx.org/packages/debian",
    "suites": ["bookworm"],
    "components": ["nginx"],
    "architectures": [],
    "origin": "https://nginx.org/keys/nginx_signing.key",
}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["curl", "curl:amd64", "curl=7.88.1-10", "awk", "libx"], []),
        (["curl=8", "gone", "tree", "curl:arm64"], ["curl=8", "gone", "tree", "curl:arm64"]),
    ],
)
def test_what_dpkg_has(names, found):
    assert missing.missing_of_dpkg(names, LISTED) == found


def test_what_rpm_has(monkeypatch):
    answers = {
        "bash": "bash-5.1-1.x86_64\n",
        "awk": "package awk is not installed\n",
        "none": "no package provides none",
    }
    monkeypatch.setattr(missing, "run", lambda *command: answers[command[-1]])
    assert missing.missing_of_rpm(["bash", "awk", "none"]) == ["awk", "none"]
    monkeypatch.setattr(missing, "run", lambda *command: "gawk-5.1-1.x86_64\n")
    assert missing.missing_of_rpm(["awk"], "--whatprovides") == []


def test_a_repository_of_apt_trusts_its_own_key_only(tmp_path):
    files, needs = repositories.wanted({**NGINX, "content": ARMOURED}, "apt", tmp_path)
    assert not needs
    place = tmp_path / "etc/apt/sources.list.d/nginx.sources"
    assert files[place].decode().splitlines() == [
        "# Its key: https://nginx.org/keys/nginx_signing.key",
        "Types: deb",
        "URIs: https://nginx.org/packages/debian",
        "Suites: bookworm",
        "Components: nginx",
        "Signed-By: /etc/apt/keyrings/nginx.asc",
    ]
    assert files[tmp_path / "etc/apt/keyrings/nginx.asc"].startswith(b"-----BEGIN PGP")


def test_a_repository_of_dnf_is_checked_with_its_key(tmp_path):
    binary = base64.b64encode(b"\x99\x01\x0d").decode()
    files, _ = repositories.wanted({**NGINX, "content": binary}, "dnf", tmp_path)
    text = files[tmp_path / "etc/yum.repos.d/nginx.repo"].decode()
    assert "gpgcheck=1\ngpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-nginx.gpg\n" in text
    assert files[tmp_path / "etc/pki/rpm-gpg/RPM-GPG-KEY-nginx.gpg"] == b"\x99\x01\x0d"


@pytest.mark.parametrize("manager", ["apt", "dnf"])
def test_a_key_is_fetched_once(tmp_path, manager):
    assert repositories.wanted(NGINX, manager, tmp_path) == ({}, True)
    for path, content in repositories.wanted({**NGINX, "content": ARMOURED}, manager, tmp_path)[0].items():
        repositories.write(path, content)
    assert repositories.wanted(NGINX, manager, tmp_path) == ({}, False)
    assert repositories.wanted({**NGINX, "origin": "https://other"}, manager, tmp_path) == ({}, True)


def test_what_is_no_key_is_refused():
    with pytest.raises(keys.AnsibleActionFail, match="repository nginx: what was given as its key is no OpenPGP"):
        keys.encoded(NGINX, b"<html>404</html>")
    assert keys.encoded(NGINX, b"\x99\x01") == base64.b64encode(b"\x99\x01").decode()


def test_kernel_parameters_are_read_and_put(tmp_path):
    (tmp_path / "net/ipv4/conf/eth0.1").mkdir(parents=True)
    file = tmp_path / "net/ipv4/conf/eth0.1/rp_filter"
    file.write_text("0\t 1\n")
    assert sysctl.in_force("net.ipv4.conf.eth0/1.rp_filter", tmp_path) == "0 1"
    sysctl.put("net.ipv4.conf.eth0/1.rp_filter", sysctl.words(True), tmp_path)
    assert file.read_text() == "1"


def test_a_kernel_that_refuses_is_named(tmp_path):
    with pytest.raises(sysctl.RefusedError, match=r"no parameter net\.no"):
        sysctl.in_force("net.no", tmp_path)
    (tmp_path / "kernel").mkdir()
    with pytest.raises(sysctl.RefusedError, match="kernel cannot be '1' on this host"):
        sysctl.put("kernel", "1", tmp_path)


def test_requirements_are_compared_by_pips_own_rules(tmp_path):
    """With an interpreter that has pip; the tests' own environment may have none."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").symlink_to(sys.executable)
    code = pip.UNMET.replace("pip._vendor.packaging", "packaging")
    given = ["pytest>=8", "pytest==1.0", "no-such-thing", 'gone; python_version < "3"']
    told = pip.run([sys.executable, "-c", code], "x", __import__("json").dumps(given))
    assert told.split() == ['["pytest==1.0",', '"no-such-thing"]']
    with pytest.raises(pip.PipError, match="is no requirement"):
        pip.run([sys.executable, "-c", code], "x", '["a b c"]')
