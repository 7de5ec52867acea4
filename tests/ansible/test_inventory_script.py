import os
import shutil
import subprocess
import sys
from pathlib import Path

from labtool import content

SCRIPT = content.root() / "inventory" / "labtool.py"


def bare(script: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run the script by a Python that has no installed packages, as the first python3 on PATH may be."""
    return subprocess.run([sys.executable, "-S", script, *arguments], capture_output=True, text=True, check=False)


def test_it_is_a_program():
    assert os.access(SCRIPT, os.X_OK)
    assert SCRIPT.read_text().startswith("#!/usr/bin/env python3\n")


def test_without_a_cloud_it_says_so_in_one_line(tmp_path):
    (tmp_path / "labtool.toml").write_text(f'[local]\nname = "none"\nstate = "{tmp_path}/state"\n')
    done = subprocess.run([sys.executable, SCRIPT, "--list"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("labtool: ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_python_without_labtool_is_told(tmp_path):
    (tmp_path / "inventory").mkdir()
    script = Path(shutil.copy(SCRIPT, tmp_path / "inventory"))
    done = bare(script, "--list")
    assert done.returncode == 1
    assert "labtool is not installed for" in done.stderr
    assert "pip install labtool" in done.stderr


def test_the_environment_beside_it_is_found(tmp_path):
    (tmp_path / "inventory").mkdir()
    script = Path(shutil.copy(SCRIPT, tmp_path / "inventory"))
    beside = tmp_path / ".venv" / "bin" / "python"
    beside.parent.mkdir(parents=True)
    beside.write_text('#!/bin/sh\necho "$@"\n')
    beside.chmod(0o755)
    assert bare(script, "--host", "web-0").stdout.split() == [str(script), "--host", "web-0"]


CUT = """
import os
from labtool.cli import script
script.of_lab = lambda chosen: {"_meta": {"hostvars": {}}, "all": {"children": [f"group{n}" for n in range(50_000)]}}
script.answer(["--list"])
os._exit(0)
"""


def test_a_reader_who_has_enough_may_go():
    running = subprocess.Popen([sys.executable, "-c", CUT], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    assert running.stderr is not None
    assert running.stdout.read(10)
    running.stdout.close()
    assert running.stderr.read() == b""
    assert running.wait() == 0
    running.stderr.close()
