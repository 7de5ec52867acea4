from __future__ import annotations

import os
import subprocess

import pytest

from labtool.errors import LocalCloudError
from labtool.localcloud import distribution, image, inherit
from labtool.localcloud.distribution import Distribution

DEBIAN = Distribution("debian", "12", "bookworm")
UBUNTU = Distribution("ubuntu", "24.04", "noble")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A file tree of a machine, and nothing of this one."""
    monkeypatch.setattr(
        inherit.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0, stdout=machine_apt, stderr="")
    )
    return tmp_path


machine_apt = """\
APT "";
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::Check-Valid-Until "false";
Acquire::IndexTargets::deb::Packages::MetaKey "x";
Acquire::Languages "none";
DPkg::Post-Invoke:: "rm -f /var/cache/apt/archives/*.deb";
Acquire::https "";
"""


def write(root, path, text):
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def files(machine, system=DEBIAN, **environment):
    found = inherit.host_files(system, root=machine, home=machine / "home/me", environment=environment)
    return {file.path: file for file in found}


def test_only_the_distributions_own_sources_are_taken(machine):
    write(
        machine,
        "/etc/apt/sources.list",
        "deb http://deb.example/debian bookworm main\n"
        "deb [signed-by=/k] https://deb.example/debian bookworm-updates main\n"
        "# deb http://old.example bookworm main\n"
        "deb-src http://deb.example/debian bookworm main\n"
        "deb https://third.example/apt cloud-sdk-bookworm main\n"
        "deb cdrom:[Debian 12]/ bookworm main\n",
    )
    text = files(machine)["/etc/apt/sources.list"].content.decode()
    assert text.splitlines() == [
        "deb http://deb.example/debian bookworm main",
        "deb [signed-by=/k] https://deb.example/debian bookworm-updates main",
    ]


def test_deb822_sources_and_their_keys(machine):
    write(
        machine,
        "/etc/apt/sources.list.d/ubuntu.sources",
        "Types: deb\n# a comment\nURIs: http://archive.example/ubuntu/\nSuites: noble noble-updates\n"
        "Components: main\nSigned-By: /usr/share/keyrings/u.gpg\n\n"
        "Types: deb\nEnabled: no\nURIs: http://archive.example/ubuntu/\nSuites: noble\nComponents: main\n\n"
        "Types: deb\nURIs: https://third.example/\nSuites: nodistro\nComponents: main\n",
    )
    write(machine, "/usr/share/keyrings/u.gpg", "key")
    found = files(machine, UBUNTU)
    text = found["/etc/apt/sources.list.d/ubuntu.sources"].content.decode()
    assert text.count("Types:") == 1
    assert "third" not in text
    assert found["/usr/share/keyrings/u.gpg"].content == b"key"


def test_plain_http_sources_are_what_the_cache_serves(machine):
    write(
        machine,
        "/etc/apt/sources.list",
        "deb http://a.example/debian bookworm main\ndeb http://b.example:8080/d bookworm main\n"
        "deb https://c.example/debian bookworm main\n",
    )
    found = tuple(files(machine).values())
    assert inherit.source_hosts(found) == ("a.example", "b.example:8080")
    assert inherit.http_proxy(found) == "http://proxy.example:3128"


def test_of_apts_options_those_that_reach_a_registry(machine):
    text = files(machine)["/etc/apt/apt.conf.d/80labtool-machine"].content.decode()
    assert text.splitlines() == [
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::Check-Valid-Until "false";',
    ]


def test_pip_is_merged_from_files_and_environment(machine):
    write(machine, "/etc/pip.conf", "[global]\nindex-url = https://one.example/simple\nno-color = true\n")
    write(machine, "/home/me/.config/pip/pip.conf", "[global]\ntimeout = 30\ncert = /opt/ca.pem\n")
    found = files(machine, PIP_INDEX_URL="https://two.example/simple", PIP_FIND_LINKS="/opt/wheels")
    text = found["/etc/pip.conf"].content.decode()
    assert "index-url = https://two.example/simple" in text
    assert "timeout = 30" in text
    assert f"cert = {inherit.CA_BUNDLE}" in text
    assert "wheels" not in text  # a folder of the machine's, which no host has
    assert "no-color" not in text


def test_certificates_become_part_of_the_hosts_bundle(machine):
    write(machine, "/usr/local/share/ca-certificates/company/root.crt", "PEM")
    write(machine, "/opt/ca.pem", "PEM2")
    found = files(machine, PIP_CERT="/opt/ca.pem", SSL_CERT_FILE=inherit.CA_BUNDLE)
    assert found["/usr/local/share/ca-certificates/company/root.crt"].content == b"PEM"
    assert found["/usr/local/share/ca-certificates/machine-0.crt"].content == b"PEM2"


def test_proxies_reach_every_login(machine):
    text = files(machine, HTTPS_PROXY="http://p:1", no_proxy="localhost")["/etc/environment"].content.decode()
    assert 'https_proxy="http://p:1"' in text
    assert 'HTTPS_PROXY="http://p:1"' in text
    assert 'no_proxy="localhost"' in text


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("<settings><mirrors><mirror><url>https://m</url></mirror></mirrors></settings>", True),
        ("<mirror>\n<id>maven-default-http-blocker</id><url>http://0.0.0.0/</url></mirror>", False),
        ("<settings><!-- <mirror>an example</mirror> --><mirrors></mirrors></settings>", False),
    ],
)
def test_mavens_settings_where_they_say_something(machine, text, taken):
    write(machine, "/etc/maven/settings.xml", text)
    assert ("/etc/maven/settings.xml" in files(machine)) == taken


def test_secrets_keep_their_modes(machine):
    write(machine, "/etc/apt/auth.conf.d/company.conf", "machine x login y password z")
    write(machine, "/home/me/.m2/settings.xml", "<settings/>")
    found = files(machine)
    assert found["/etc/apt/auth.conf.d/company.conf"].mode == 0o600
    assert found["/root/.m2/settings.xml"].mode == 0o600


@pytest.mark.parametrize(
    ("system", "name", "login", "parameter"),
    [
        (DEBIAN, "debian-12", "admin", "/aws/service/debian/release/12/latest/amd64"),
        (
            UBUNTU,
            "ubuntu-24.04",
            "ubuntu",
            "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id",
        ),
    ],
)
def test_distributions_are_named_as_on_aws(system, name, login, parameter):
    assert (system.image_name, system.login, system.public_parameter) == (name, login, parameter)


@pytest.mark.parametrize("text", ['ID=fedora\nVERSION_ID="40"\n', "ID=debian\n", 'ID=debian\nVERSION_ID="11"\n'])
def test_other_distributions_are_refused(tmp_path, text):
    (tmp_path / "os-release").write_text(text)
    with pytest.raises(LocalCloudError, match="this machine runs"):
        distribution.read(tmp_path / "os-release")


def recipe(**more):
    base = {"distribution": DEBIAN, "packages": ("systemd",), "files": (inherit.HostFile("/a", b"1"),)}
    return image.Recipe(**{**base, **more})


def test_the_recipes_hash_changes_with_all_that_decides_the_image():
    first = recipe()
    assert first.hash == recipe().hash
    others = [
        recipe(distribution=UBUNTU),
        recipe(packages=("systemd", "zstd")),
        recipe(files=(inherit.HostFile("/a", b"2"),)),
        recipe(files=(inherit.HostFile("/a", b"1", 0o755),)),
        recipe(files=(inherit.HostFile("/b", b"1"),)),
    ]
    assert len({first.hash, *(other.hash for other in others)}) == 6


def test_an_image_that_is_there_is_not_built(settings):
    class Engine:
        def image_exists(self, tag):
            return tag == recipe().tag

    said = []
    assert image.ensure(settings, Engine(), said.append, recipe()) == recipe().tag
    assert said == []


def test_the_image_is_built_from_the_machines_sources_only(tmp_path):
    overlay = tmp_path / "files"
    write(overlay, "/etc/apt/sources.list.d/debian.sources", "Types: deb\n")
    write(overlay, "/etc/apt/apt.conf.d/80labtool-machine", "")
    command = image.mmdebstrap_command(recipe(), overlay, tmp_path / "copy", tmp_path / "finish", tmp_path / "root.tar")
    at = command.index("bookworm")
    assert command[at + 1 :] == [
        str(tmp_path / "root.tar"),
        str(overlay / "etc/apt/sources.list.d/debian.sources"),
    ]
    assert f"--aptopt={overlay}/etc/apt/apt.conf.d/80labtool-machine" in command


def test_shell_scripts_of_the_image_parse():
    from importlib.resources import files as package_files

    folder = package_files("labtool.localcloud") / "hostimage"
    files = [entry for entry in folder.iterdir() if entry.is_file()]
    scripts = [entry for entry in files if entry.read_text().startswith(("#!/bin/sh", "#!/bin/bash"))]
    assert len(scripts) == 5
    for script in scripts:
        shell = "bash" if "bash" in script.read_text().splitlines()[0] else "sh"
        done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_a_full_disk_is_named_where_the_image_is_built(tmp_path, settings, monkeypatch):
    program = tmp_path / "bin" / "mmdebstrap"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'tar: ./usr/bin/perl: Cannot write: No space left on device'\nexit 2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    work = image._work_folder(settings)
    with pytest.raises(LocalCloudError, match="no space is left") as refused:
        image._bootstrap(recipe(), work, settings)
    assert str(work) in refused.value.message
    assert "local.state" in refused.value.hint
