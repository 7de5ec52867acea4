"""The Python files of role `python_app`, without a host."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.roles.modules import load

unit = load("roles/python_app/module_utils/python_app_unit.py", "ansible.module_utils.python_app_unit")
service = load("roles/python_app/library/python_app_service.py")
running = load("roles/python_app/library/python_app_run.py")
installing = load("roles/python_app/library/python_app_install.py")
packing = load("roles/python_app/action_plugins/python_app_install.py", "role_python_app_packing")
words = load("roles/python_app/filter_plugins/python_app.py", "role_python_app_words")

NOTHING = {"health_url": "", "health_port": 0, "health_command": [], "user": "root", "link": "/"}


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
    first = packing.of_folder(program)
    os.utime(program / "main.py", (1, 1))
    assert packing.of_folder(program) == first
    packed = names(first)
    assert sorted(packed) == ["main.py", "pkg/a.py"]
    assert packed["main.py"].mode == 0o755 and packed["pkg/a.py"].mode == 0o644
    (program / "pkg/a.py").write_text("print(2)\n")
    assert packing.of_folder(program) != first


def test_a_link_to_a_file_is_packed_as_the_file(program):
    (program / "again.py").symlink_to(program / "pkg/a.py")
    (program / "nowhere.py").symlink_to(program / "gone")
    packed = names(packing.of_folder(program))
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
    with pytest.raises(packing.AnsibleActionFail, match="cannot be fetched"):
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
    with pytest.raises(packing.AnsibleActionFail, match=told):
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
        (folder / installing.MARKER).write_text("{}")
        os.utime(folder / installing.MARKER, (number, number))
    installing.point(tmp_path / "current", "v1")
    installing.drop_old(tmp_path, "v1", keep=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "v1", "v3", "v4"]


@pytest.mark.parametrize("name", ["/etc/passwd", "a/../../b"])
def test_a_path_that_leads_outside_is_refused(name):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    with tarfile.open(fileobj=io.BytesIO(packed.getvalue())) as tar, pytest.raises(ValueError, match="unsafe"):
        list(installing.members(tar))


@given(st.lists(st.text("ab \\\"%$'é{", max_size=8), min_size=1, max_size=4))
def test_no_word_of_a_unit_is_expanded_or_split(given_words):
    line = words.python_app_words(given_words)
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
        words.python_app_words(["a\nExecStartPre=/bin/rm"])


def test_a_bare_command_is_the_environments():
    assert words.python_app_command(["python", "a b.py"], "/opt/x/current")[0] == "/opt/x/current/venv/bin/python"
    assert words.python_app_command(["/usr/bin/env"], "/opt/x/current") == ["/usr/bin/env"]


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
    assert service.problem(NOTHING, 1) == ""
    assert "port 1 takes no connection" in service.problem({**NOTHING, "health_port": 1}, 1)
    assert "http://localhost:1/ does not answer" in service.problem({**NOTHING, "health_url": "http://localhost:1/"}, 1)


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
