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
- hosts: all
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
SITE = {"name": "main", "root": "/srv", "port": 443, "server_name": "a.example.org"}
PHP = {"php_extensions": ["mbstring"], "php_process_manager": "dynamic"}
CASES = {  # each a host of its own, which knows nothing of the others
    "rocky": (
        {"role": "httpd", "family": "RedHat", "name": "Rocky", "release": ""},
        {"httpd_sites": [{**SITE, "tls_certificate": "/c", "tls_key": "/k"}]},
    ),
    "ubuntu": ({"role": "php", "family": "Debian", "name": "Ubuntu", "release": "noble"}, PHP),
    "amazon": ({"role": "php", "family": "RedHat", "name": "Amazon", "release": ""}, PHP),
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> dict[str, dict]:
    """What the roles would write on a host of each distribution, told by one call of Ansible."""
    plays, wanted, told = [], {}, {}
    for case, (of, arguments) in CASES.items():
        made = tmp_path_factory.mktemp(case)
        told[case] = made / "told.json"
        folder = ROOT / "roles" / of["role"]
        for kind in ("templates", "files", "filter_plugins"):
            if (folder / kind).is_dir():
                (made / kind).symlink_to(folder / kind)
        wanted[case] = {each: f"__{of['role']}_{each}" for each in ("unit", "packages", "programs", "files")}
        (play,) = yaml.safe_load(PLAY)
        play["vars"] = {
            **yaml.safe_load((folder / "defaults/main.yml").read_text()),
            **arguments,
            "this": {**of, "role": str(folder), "told": str(told[case]), "wanted": list(wanted[case].values())},
            "host_survey": {"memory_mb": 4096, "processors": 2},
        }
        plays.append(str(made / "play.yml"))
        (made / "play.yml").write_text(yaml.safe_dump([{**play, "hosts": case}]))
    program = str(Path(sys.executable).parent / "ansible-playbook")
    python = f"ansible_python_interpreter={sys.executable}"
    done = subprocess.run(
        [program, "-i", ",".join(CASES), "-c", "local", "-e", python, *plays],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env={**os.environ, "ANSIBLE_FORCE_COLOR": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = {case: json.loads(file.read_text()) for case, file in told.items()}
    return {case: {each: found[case][name] for each, name in names.items()} for case, names in wanted.items()}


def text(made: dict, ending: str) -> str:
    return next(file["content"] for file in made["files"] if file["path"].endswith(ending))


def test_httpd_with_tls_on_red_hat(rendered):
    made = rendered["rocky"]
    assert made["unit"] == "httpd.service" and made["packages"] == ["httpd", "mod_http2", "mod_ssl"]
    assert "/usr/lib64/httpd/modules/mod_ssl.so" in made["programs"]
    main = text(made, "/etc/httpd/conf/httpd.conf")
    assert "LoadModule systemd_module /usr/lib64/httpd/modules/mod_systemd.so" in main
    assert 'SSLCertificateKeyFile "/etc/httpd/labtool-main.key"' in main and "ServerName a.example.org" in main
    assert "User apache" in main and "proxy_fcgi" not in main
    assert "MaxRequestWorkers 1024" in text(made, "/etc/httpd/labtool-mpm.conf")


@pytest.mark.parametrize(
    ("case", "unit", "package", "pool", "user"),
    [
        ("ubuntu", "php8.3-fpm.service", "php8.3-mbstring", "/etc/php/8.3/fpm/pool.d", "www-data"),
        ("amazon", "php-fpm.service", "php8.2-mbstring", "/etc/php-fpm.d", "apache"),
    ],
)
def test_php(rendered, case, unit, package, pool, user):
    made = rendered[case]
    assert made["unit"] == unit and package in made["packages"]
    (file,) = made["files"]
    assert file["path"] == f"{pool}/www.conf"
    assert f"user = {user}\n" in file["content"] and "pm.max_children = 64\n" in file["content"]
    assert "pm.max_spare_servers = 64\n" in file["content"]
