"""User data: what is asked for becomes a plan, and the host's program carries it out."""

from __future__ import annotations

import base64
import gzip
import importlib.util
import json
import subprocess
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from importlib.machinery import SourceFileLoader
from importlib.resources import files as package_files
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from labtool.localcloud import seed, user_data


def config(**keys):
    return b"#cloud-config\n" + yaml.safe_dump(keys).encode()


def scripts(plan):
    return [base64.b64decode(script).decode() for script in plan.scripts]


def archive(*parts):
    made = MIMEMultipart()
    for kind, text in parts:
        made.attach(MIMEText(text, kind))
    return made.as_bytes()


def test_a_script_needs_no_plan():
    assert user_data.plain_script(b"#!/bin/sh\n:\n") == b"#!/bin/sh\n:\n"
    assert user_data.plain_script(gzip.compress(b"#!/bin/sh\n:\n")) == b"#!/bin/sh\n:\n"
    assert user_data.plain_script(config(runcmd=["true"])) is None
    assert scripts(user_data.plan(b"#!/bin/sh\n:\n")) == ["#!/bin/sh\n:\n"]


def test_commands_are_text_for_a_shell_or_words_for_a_program():
    plan = user_data.plan(config(runcmd=["echo $HOME > /tmp/x", ["printf", "%s", "a b", 3]], bootcmd=["true"]))
    assert scripts(plan) == ["#!/bin/sh\necho $HOME > /tmp/x\nprintf %s 'a b' 3\n"]
    assert plan.bootcmd == "#!/bin/sh\ntrue\n"
    assert plan.complaints == []


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), min_size=1, max_size=4))
def test_a_list_of_words_reaches_its_program_word_by_word(words):
    (script,) = scripts(user_data.plan(config(runcmd=[["printf", "%s\\0", *words]])))
    done = subprocess.run(["sh", "-c", script.partition("\n")[2]], capture_output=True, check=True)
    assert done.stdout == "".join(f"{word}\0" for word in words).encode()


@pytest.mark.parametrize(
    ("entry", "content", "mode"),
    [
        ({"content": "ä\n"}, "ä\n".encode(), 0o644),
        ({"content": "YQ==", "encoding": "b64", "permissions": "0600"}, b"a", 0o600),
        ({"content": base64.b64encode(gzip.compress(b"z")).decode(), "encoding": "gz+b64"}, b"z", 0o644),
        ({"content": gzip.compress(b"z"), "encoding": "gzip"}, b"z", 0o644),
        ({"content": b"\0\xff", "permissions": 0o755}, b"\0\xff", 0o755),
        ({}, b"", 0o644),
    ],
)
def test_files(entry, content, mode):
    (file,) = user_data.plan(config(write_files=[{"path": "/x", **entry}])).files
    assert (base64.b64decode(file["content"]), file["mode"]) == (content, mode)
    assert (file["owner"], file["append"], file["defer"]) == ("root:root", False, False)


def test_users_and_groups():
    plan = user_data.plan(
        config(
            groups=["a", {"b": ["root"]}],
            users=["default", {"name": "eve", "groups": "a, b", "sudo": "ALL=(ALL) NOPASSWD:ALL",
                               "ssh_authorized_keys": ["k1 ", "k2"], "shell": "/bin/sh"}],
            ssh_authorized_keys=["k3"],
        )
    )  # fmt: skip
    assert plan.groups == [{"name": "a", "members": []}, {"name": "b", "members": ["root"]}]
    (eve,) = plan.users
    assert (eve["groups"], eve["sudo"], eve["keys"]) == (["a", "b"], ["ALL=(ALL) NOPASSWD:ALL"], ["k1", "k2"])
    assert (eve["shell"], eve["lock"], eve["home"]) == ("/bin/sh", True, "default")
    assert plan.keys == ["k3"]


def test_packages():
    plan = user_data.plan(config(packages=["tree", ["jq", "1.6"], {"apt": ["zsh"]}], package_update=True))
    assert (plan.packages, plan.update, plan.upgrade) == (["tree", "jq=1.6", "zsh"], True, False)


def test_an_archive_has_scripts_and_configs_and_runcmd_is_last():
    raw = archive(
        ("cloud-config", "#cloud-config\nruncmd: [echo config]\n"),
        ("x-shellscript", "#!/bin/sh\necho one\n"),
        ("x-shellscript", "#!/bin/sh\necho two\n"),
        ("jinja2", "## template: jinja\n"),
    )
    for given_ in (raw, gzip.compress(raw)):
        plan = user_data.plan(given_)
        assert [script.split()[-1] for script in scripts(plan)] == ["one", "two", "config"]
        assert plan.complaints == ["text/jinja2 is not supported: this part is ignored"]


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"hello", "what this begins with is not supported: this part is ignored"),
        (b"#include\nhttp://x/\n", "text/x-include-url is not supported: this part is ignored"),
        (b"\x1f\x8bgarbage", "user data is not whole"),
        (b"#cloud-config\n- a\n", "keys and values were expected"),
        (b"#cloud-config\na: [\n", "is no YAML"),
        (b"#cloud-config\na: &a [*a]\n", "is no YAML"),
        (b'#cloud-config\nruncmd: ["\\ud800"]\n', "is no YAML"),
        (config(runcmd="echo"), "runcmd: a list was expected, not 'echo'"),
        (config(power_state={"mode": "reboot"}), "power_state is not supported"),
        (config(write_files=[{"content": "x"}]), "each file needs a path"),
        (config(write_files=[{"path": "/x", "permissions": "rw"}]), "/x: permissions 'rw' are no file mode"),
        (config(write_files=[{"path": "/x", "encoding": "b64", "content": "a"}]), "/x: its content is not b64"),
        (config(write_files=[{"path": "/x", "source": {}}]), "write_files: /x: source is not supported"),
        (config(users=[{"name": "eve", "ssh_import_id": ["x"]}]), "users: eve: ssh_import_id is not supported"),
        (config(packages=[{"snap": ["x"]}]), "a package is a name"),
    ],
)
def test_what_cannot_be_done_is_named(raw, complaint):
    plan = user_data.plan(raw)
    assert len(plan.complaints) == 1
    assert complaint in plan.complaints[0]


def test_a_key_of_two_parts_counts_once():
    plan = user_data.plan(archive(("cloud-config", "packages: [a]"), ("cloud-config", "packages: [b]")))
    assert plan.packages == ["a"]
    assert "packages stands in two parts" in plan.complaints[0]


def test_a_bomb_is_refused():
    assert "larger than 10 MiB" in user_data.plan(gzip.compress(b"#" * (11 << 20))).complaints[0]


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: b"#cloud-config\n" + text.encode()))
def test_whatever_comes_is_a_plan_that_can_be_written_down(raw):
    json.dumps(user_data.plan(raw).document())


@pytest.mark.slow
@given(st.dictionaries(
    st.sampled_from(sorted({*user_data._KEYS, "runcmd", "x"})),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                 lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("name", "path")), inner)),
))  # fmt: skip
def test_values_of_any_shape_are_a_plan_too(keys):
    json.dumps(user_data.plan(config(**keys)).document())


def test_the_seed_holds_a_script_or_a_plan(tmp_path):
    def seeded(name, content):
        seed.write(tmp_path / name, seed.Seed(b"key", "public", b"ssh-ed25519 A \n", content, "http://e:1", ""))
        return sorted(file.name for file in (tmp_path / name).iterdir() if not file.name.startswith("ssh_host"))

    assert seeded("none", b"") == ["authorized_keys", "endpoint"]
    assert seeded("script", b"#!/bin/sh\n") == ["authorized_keys", "endpoint", "user-data"]
    assert seeded("config", config(runcmd=["true"])) == ["authorized_keys", "endpoint", "first-boot.json"]
    assert json.loads((tmp_path / "config/first-boot.json").read_text())["scripts"]
    assert seeded("torn", b"\x1f\x8bgarbage") == ["authorized_keys", "endpoint", "first-boot.json"]


@pytest.fixture
def program(tmp_path, monkeypatch):
    """The host's program, in folders of the test; commands are noted and not run."""
    path = str(package_files("labtool.localcloud") / "hostimage/labtool-cloud-config")
    loader = SourceFileLoader("labtool_cloud_config", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("labtool_cloud_config", loader))
    loader.exec_module(module)
    monkeypatch.setattr(module, "SEED", tmp_path)
    monkeypatch.setattr(module, "SCRIPTS", tmp_path / "scripts")
    commands = []
    monkeypatch.setattr(module, "run", lambda *command, **_: commands.append(command))
    monkeypatch.setattr(module, "exists", lambda *_: False)
    monkeypatch.setattr(module.shutil, "chown", lambda *_: None)
    real = module.Path
    login = tmp_path / "login"
    login.write_text("admin\n")
    monkeypatch.setattr(module, "Path", lambda p: login if str(p) == "/usr/lib/labtool/login" else real(p))

    def carry_out(raw):
        commands.clear()
        (tmp_path / "first-boot.json").write_text(json.dumps(user_data.plan(raw).document()))
        return module.main(), list(commands)

    carry_out.module = module
    return carry_out


def test_the_program_keeps_cloud_inits_order(program, tmp_path, capsys):
    early, late = tmp_path / "early", tmp_path / "deep/late"
    code, commands = program(
        config(
            runcmd=["true"],
            packages=["tree"],
            users=[{"name": "eve", "groups": ["g"]}],
            write_files=[
                {"path": str(late), "content": "l", "defer": True, "permissions": "0600"},
                {"path": str(early), "content": "e"},
                {"path": str(early), "content": "f", "append": True},
            ],
            bootcmd=["true"],
        )
    )
    assert code == 0
    assert early.read_text() == "ef"
    assert late.stat().st_mode & 0o777 == 0o600
    first = [command[0].rpartition("/")[2] for command in commands]
    assert first == ["bootcmd", "groupadd", "useradd", "passwd", "apt-get", "part-001"]
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("user data: write")]
    assert said == [f"user data: write {path}" for path in (early, early, late)]


def test_a_step_that_fails_is_told_and_the_others_are_done(program, tmp_path, capsys):
    module = program.module

    def run(*command, **_):
        if command[0] == "apt-get":
            raise module.Failed("no such package")

    module.run = run
    code, _ = program(config(packages=["nonsense"], write_files=[{"path": str(tmp_path / "x"), "defer": True}]))
    out = capsys.readouterr().out
    assert code == 1
    assert "user data: packages nonsense FAILED: no such package" in out
    assert "done in" in out
    assert "1 failed" in out
    assert (tmp_path / "x").exists()


def test_what_is_not_supported_is_printed(program, capsys):
    assert program(config(swap={"size": 1}))[0] == 1
    assert "swap is not supported, and ignored" in capsys.readouterr().out


def test_a_program_of_the_image_is_python_that_compiles():
    path = Path(str(package_files("labtool.localcloud") / "hostimage/labtool-cloud-config"))
    compile(path.read_text(), str(path), "exec")
