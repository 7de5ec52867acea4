"""The Python files of roles `app_service` and `python_app`, without a host."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.roles.modules import load

unit = load("roles/app_service/module_utils/app_unit.py", "ansible.module_utils.app_unit")
versions = load("roles/app_service/module_utils/app_versions.py", "ansible.module_utils.app_versions")
service = load("roles/app_service/library/app_service.py")
running = load("roles/app_service/library/app_service_run.py")
words = load("roles/app_service/filter_plugins/app_service.py", "role_app_service_words")
installing = load("roles/python_app/library/python_app_install.py")
packing = load("roles/python_app/action_plugins/python_app_install.py", "role_python_app_packing")
commands = load("roles/python_app/filter_plugins/python_app.py", "role_python_app_commands")
sources = packing.app_source

NOTHING = {"health_url": "", "health_port": 0, "health_command": []}
ASKER = {"user": "root", "directory": "/"}


@pytest.fixture
def program(tmp_path):
    folder = tmp_path / "hello"
    (folder / "pkg/__pycache__").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / ".git/config").write_text("secret")
    (folder / "pkg/__pycache__/a.pyc").write_text("x")
    (folder / "pkg/a.py").write_text("print(1)\n")
    (folder / "main.py").write_text("import pkg.a\n")
    (folder / "main.py").chmod(0o700)
    return folder


def names(content):
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {member.name: member for member in tar.getmembers()}


def test_a_folder_is_packed_the_same_whenever_and_by_whomever(program):
    first = sources.of_folder(program, packing.is_left_out)
    os.utime(program / "main.py", (1, 1))
    assert sources.of_folder(program, packing.is_left_out) == first
    packed = names(first)
    assert sorted(packed) == ["main.py", "pkg/a.py"]
    assert packed["main.py"].mode == 0o755 and packed["pkg/a.py"].mode == 0o644
    (program / "pkg/a.py").write_text("print(2)\n")
    assert sources.of_folder(program, packing.is_left_out) != first


def test_a_link_to_a_file_is_packed_as_the_file(program):
    (program / "again.py").symlink_to(program / "pkg/a.py")
    (program / "nowhere.py").symlink_to(program / "gone")
    packed = names(sources.of_folder(program, packing.is_left_out))
    assert packed["again.py"].isreg() and packed["again.py"].size == 9
    assert "nowhere.py" not in packed


@pytest.fixture
def repository(program, monkeypatch, tmp_path):
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "t")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "t@example.org")
    (program / ".git/config").unlink()

    def git(*given):
        return subprocess.run(["git", "-C", program, *given], capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    git("add", "main.py")
    git("commit", "-qm", "one")
    return program, git


def test_a_commit_is_fetched_once_and_is_what_was_committed(repository):
    folder, git = repository
    (folder / "main.py").write_text("not committed\n")
    commit = git("rev-parse", "HEAD")
    kind, label, content = packing.program(str(folder), commit)
    assert (kind, label) == ("folder", commit[:12])
    assert names(content)["main.py"].size == len("import pkg.a\n")
    folder.rename(folder.with_name("away"))
    assert packing.program(str(folder), commit)[2] == content, "the cache has it"
    with pytest.raises(sources.SourceError, match="cannot be fetched"):
        packing.program(str(folder), "1" * 40)


@pytest.mark.parametrize(
    ("source", "commit", "told"),
    [
        ("/nowhere", "", "/nowhere is neither a folder nor a wheel on the controller"),
        ("https://example.org/x.git", "", "which commit"),
        ("https://example.org/x.git", "main", "not all 40 digits"),
    ],
)
def test_a_source_that_is_none_is_named(source, commit, told):
    with pytest.raises(sources.SourceError, match=told):
        packing.program(source, commit)


def test_a_version_follows_from_program_requirements_and_interpreter():
    base = {"kind": "wheel", "label": "1.0", "sha512": "a", "python": "python3", "requirements": []}
    version = installing.version_of(base)
    assert version.startswith("1.0-") and version == installing.version_of(dict(base))
    for other in ({"sha512": "b"}, {"python": "python3.12"}, {"requirements": ["x"]}):
        assert installing.version_of({**base, **other}) != version


def test_old_versions_go_and_the_current_one_stays(tmp_path):
    for number in range(5):
        folder = tmp_path / f"v{number}"
        folder.mkdir()
        (folder / versions.MARKER).write_text("{}")
        os.utime(folder / versions.MARKER, (number, number))
    versions.point(tmp_path / "current", "v1")
    versions.drop_old(tmp_path, "v1", keep=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "v1", "v3", "v4"]


@pytest.mark.parametrize("name", ["/etc/passwd", "a/../../b"])
def test_a_path_that_leads_outside_is_refused(name):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    with tarfile.open(fileobj=io.BytesIO(packed.getvalue())) as tar, pytest.raises(ValueError, match="unsafe"):
        list(versions.members(tar))


@given(st.lists(st.text("ab \\\"%$'é{", max_size=8), min_size=1, max_size=4))
def test_no_word_of_a_unit_is_expanded_or_split(given_words):
    line = words.app_service_words(given_words)
    found, at = [], 0
    # As systemd reads it: quoted words, backslash escapes, %% and $$.
    while at < len(line):
        assert line[at] == '"'
        at, word = at + 1, ""
        while line[at] != '"':
            step = 2 if line[at] in "\\%$" else 1
            assert step == 1 or line[at + 1] in ('"\\' if line[at] == "\\" else line[at])
            word += line[at + step - 1]
            at += step
        found.append(word)
        at += 2
    assert found == given_words


def test_a_line_break_in_an_argument_is_refused():
    with pytest.raises(ValueError, match="line break"):
        words.app_service_words(["a\nExecStartPre=/bin/rm"])


def test_a_bare_command_is_the_environments():
    assert commands.python_app_command(["python", "a b.py"], "/opt/x/current")[0] == "/opt/x/current/venv/bin/python"
    assert commands.python_app_command(["/usr/bin/env"], "/opt/x/current") == ["/usr/bin/env"]


def test_systemds_time():
    assert unit.instant("Thu 1970-01-01 00:01:00.250000 UTC") == 60.25
    assert unit.instant("Thu 1970-01-01 00:01:00 UTC") == 60
    assert unit.instant("") == 0 == unit.instant("n/a")


def test_a_change_after_the_start_is_seen(tmp_path):
    link = tmp_path / "current"
    link.symlink_to("v1")
    changed = link.lstat().st_mtime
    assert service.is_stale(changed - 1, link)
    assert not service.is_stale(changed + 1, link, tmp_path / "no.service")


def test_what_is_wrong_is_named(tmp_path):
    assert service.problem(NOTHING, ASKER, 1) == ""
    assert "port 1 takes no connection" in service.problem({**NOTHING, "health_port": 1}, ASKER, 1)
    told = service.problem({**NOTHING, "health_url": "http://localhost:1/"}, ASKER, 1)
    assert "http://localhost:1/ does not answer" in told


def test_the_line_of_a_run():
    line = running.command_line(
        {
            "unit": "x.service",
            "command": ["/bin/a", "--b"],
            "environment": {"A": "b c"},
            "directory": "/opt/x",
            "user": "x",
            "time_limit": 9,
        }
    )
    assert line[:2] == ["systemd-run", "--wait"] and line[-3:] == ["--", "/bin/a", "--b"]
    assert "--setenv=A=b c" in line and "--property=RuntimeMaxSec=9" in line


def test_instances_have_what_is_their_own_in_a_drop_in():
    instances = [
        {"name": "a", "arguments": ["--port", "1"], "health_port": 1},
        {"name": "b", "environment": {"X": "1 %"}},
    ]
    health = {"health_url": "", "health_port": 9, "health_command": []}
    first, second = words.app_service_units(instances, "hello", ["/bin/x"], health)
    assert (first["name"], first["health_port"]) == ("hello@a.service", 1)
    assert first["own"].splitlines()[-3:] == ["[Service]", "ExecStart=", 'ExecStart="/bin/x" "--port" "1"']
    assert (second["name"], second["health_port"]) == ("hello@b.service", 9)
    assert second["own"].splitlines()[-1] == 'Environment="X=1 %%"'
    assert words.app_service_units([], "hello", ["/bin/x"], health) == [{"name": "hello.service", "own": "", **health}]
    with pytest.raises(ValueError, match="two instances of hello have the name a"):
        words.app_service_units([{"name": "a"}, {"name": "a"}], "hello", [], health)


def test_units_that_are_no_longer_wanted_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(service, "UNITS", tmp_path)
    for name in ("hello@a.service.d", "hello@b.service.d", "hello-b@c.service.d"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "instance.conf").write_text("x")
    for name in ("hello.service", "hello@.service", "hello-b@.service"):
        (tmp_path / name).write_text("x")

    def found(*units):
        wanted = [{"name": name, "own": "x" if "@" in name else ""} for name in units]
        return sorted(str(path.relative_to(tmp_path)) for path in service.unwanted("hello", wanted))

    assert found("hello@a.service") == ["hello.service", "hello@b.service.d/instance.conf"]
    assert found("hello.service") == [
        "hello@.service",
        "hello@a.service.d/instance.conf",
        "hello@b.service.d/instance.conf",
    ]


def test_an_archive_is_packed_as_its_folder(program, tmp_path):
    packed = sources.of_folder(program, packing.is_left_out)
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        tar.add(program, "hello-1.0")
    assert sources.of_archive(tmp_path / "a.tgz", packing.is_left_out) == packed
    (tmp_path / "cut.tgz").write_bytes((tmp_path / "a.tgz").read_bytes()[:40])
    with pytest.raises(sources.SourceError, match="no tar or zip archive, or was cut"):
        sources.of_archive(tmp_path / "cut.tgz", packing.is_left_out)
