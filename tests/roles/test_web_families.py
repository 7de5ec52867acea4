"""What the web roles write on distributions that have no host here: their variables and templates, by Ansible."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.roles.modules import ROOT

pytestmark = pytest.mark.slow

PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.set_fact:
        cacheable: true
        os_family: "{{ this.family }}"
        distribution: "{{ this.name }}"
        distribution_release: "{{ this.release }}"
    - ansible.builtin.include_vars: {file: "{{ this.role }}/vars/main.yml"}
    - ansible.builtin.include_vars: {file: "{{ this.role }}/vars/{{ this.family | lower }}.yml"}
    - ansible.builtin.copy:
        dest: "{{ this.told }}"
        mode: "0600"
        content: "{{ dict(this.wanted | zip(this.wanted | map('extract', vars))) | to_json }}"
"""


def rendered(tmp_path: Path, role: str, family: str, name: str, release: str = "", **arguments) -> dict:
    """Return what the role would write on a host of that distribution."""
    folder = ROOT / "roles" / role
    for kind in ("templates", "files", "filter_plugins"):
        if (folder / kind).is_dir():
            (tmp_path / kind).symlink_to(folder / kind)
    (tmp_path / "play.yml").write_text(PLAY)
    told = tmp_path / "told.json"
    this = {"family": family, "name": name, "release": release, "role": str(folder), "told": str(told)}
    wanted = {each: f"__{role}_{each}" for each in ("unit", "packages", "programs", "files")}
    defaults = yaml.safe_load((folder / "defaults/main.yml").read_text())
    given = {
        **defaults,
        **arguments,
        "this": {**this, "wanted": list(wanted.values())},
        "host_survey": {"memory_mb": 4096, "processors": 2},
    }
    program = str(Path(sys.executable).parent / "ansible-playbook")
    python = f"ansible_python_interpreter={sys.executable}"
    done = subprocess.run(
        [program, "-i", "localhost,", "-c", "local", "-e", json.dumps(given), "-e", python, "play.yml"],
        cwd=tmp_path,
        env={**os.environ, "ANSIBLE_FORCE_COLOR": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(told.read_text())
    return {each: found[variable] for each, variable in wanted.items()}


def text(made: dict, ending: str) -> str:
    return next(file["content"] for file in made["files"] if file["path"].endswith(ending))


def test_httpd_with_tls_on_red_hat(tmp_path):
    site = {"name": "main", "root": "/srv", "port": 443, "server_name": "a.example.org"}
    made = rendered(
        tmp_path,
        "httpd",
        "RedHat",
        "Rocky",
        httpd_sites=[{**site, "tls_certificate": "/c", "tls_key": "/k"}],
    )
    assert made["unit"] == "httpd.service" and made["packages"] == ["httpd", "mod_http2", "mod_ssl"]
    assert "/usr/lib64/httpd/modules/mod_ssl.so" in made["programs"]
    main = text(made, "/etc/httpd/conf/httpd.conf")
    assert "LoadModule systemd_module /usr/lib64/httpd/modules/mod_systemd.so" in main
    assert 'SSLCertificateKeyFile "/etc/httpd/labtool-main.key"' in main and "ServerName a.example.org" in main
    assert "User apache" in main and "proxy_fcgi" not in main
    assert "MaxRequestWorkers 1024" in text(made, "/etc/httpd/labtool-mpm.conf")


@pytest.mark.parametrize(
    ("family", "name", "release", "unit", "package", "pool", "user"),
    [
        ("Debian", "Ubuntu", "noble", "php8.3-fpm.service", "php8.3-mbstring", "/etc/php/8.3/fpm/pool.d", "www-data"),
        ("RedHat", "Amazon", "", "php-fpm.service", "php8.2-mbstring", "/etc/php-fpm.d", "apache"),
    ],
)
def test_php(tmp_path, family, name, release, unit, package, pool, user):
    made = rendered(tmp_path, "php", family, name, release, php_extensions=["mbstring"], php_process_manager="dynamic")
    assert made["unit"] == unit and package in made["packages"]
    (file,) = made["files"]
    assert file["path"] == f"{pool}/www.conf"
    assert f"user = {user}\n" in file["content"] and "pm.max_children = 64\n" in file["content"]
    assert "pm.max_spare_servers = 64\n" in file["content"]
