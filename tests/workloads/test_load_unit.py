"""What every driver does: its unit, and the packing of what its clients left."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile

from tests.roles.modules import ROOT, load

load_unit = load("playbooks/workloads/files/load_unit.py", "load_unit")


def driver(tmp_path, clients=lambda plan: 0):
    (tmp_path / "plan.json").write_text(json.dumps({"output": str(tmp_path / "out")}))
    made = load_unit.Driver("labtool-test-load.service", tmp_path / "test_load.py", clients, lambda plan: 42.0)
    return lambda what: made.main([what, str(tmp_path / "plan.json")])


def test_packing(tmp_path, monkeypatch):
    monkeypatch.setattr(load_unit.subprocess, "run", lambda *_a, **_k: None)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/producer-1.out").write_text("1 x\n")
    assert driver(tmp_path)("pack") == 0
    with tarfile.open(tmp_path / "out.tar.gz") as tar:
        assert tar.getnames() == ["producer-1.out"]


def test_what_an_earlier_load_left_is_not_this_ones(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/client-9.json").write_text("{}")
    assert driver(tmp_path, lambda plan: (tmp_path / "out/client-1.json").write_text("{}") * 0)("clients") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["client-1.json"]


def test_its_unit_has_an_end_and_its_words_come_back(tmp_path, monkeypatch, capsys):
    commands = []

    def run(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, 1 if command[0] == "systemd-run" else 0, "", "no such topic\n")

    monkeypatch.setattr(load_unit.subprocess, "run", run)
    assert driver(tmp_path)("run") == 1
    assert commands[0][:2] == ["systemctl", "stop"]
    assert {"--unit=labtool-test-load.service", "--property=RuntimeMaxSec=42"} <= set(commands[1])
    assert capsys.readouterr().err == "no such topic\n"


def test_usage():
    for name in ("kafka_load", "http_load"):
        file = ROOT / f"playbooks/workloads/files/{name}.py"
        done = subprocess.run([sys.executable, file], capture_output=True, text=True, check=False)
        assert done.returncode == 2 and f"{name}.py run|clients|pack PLAN.json" in done.stderr
