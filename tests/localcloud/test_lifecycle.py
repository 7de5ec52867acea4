from __future__ import annotations

import fcntl
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec import structs

from labtool import localcloud
from labtool.checked import encoded
from labtool.errors import LabtoolError, LocalCloudError
from labtool.localcloud import lifecycle, requirements
from labtool.localcloud.layout import Layout


def answer(settings, **more):
    return {
        "name": settings.name, "pid": 1, "port": settings.port, "subnet": settings.subnet, "hosts": {"running": 2},
        "image": "i", "default_image": "debian-12", "state_dir": "/s", "disk_bytes": 1, "started": 0.0,
        "lxcfs": True, "metrics_bytes": 3, "security_groups": True, **more,
    }  # fmt: skip


@pytest.fixture
def running(settings, serve):
    """Something that answers as a local cloud does; returns the settings with its port."""
    told = {}

    def application(environ, start_response):
        assert environ["PATH_INFO"] == lifecycle._STATUS_PATH
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(told["answer"]).encode()]

    served = serve(application)
    mine = structs.replace(settings, port=served.server.server_port)
    told["answer"] = answer(mine)
    return mine, told


def test_nothing_runs(settings):
    assert localcloud.status(settings) is None


def test_a_running_cloud_is_found_without_root(running):
    settings, _ = running
    found = localcloud.status(settings)
    assert found.hosts == {"running": 2}
    assert found.url == f"http://127.0.0.1:{settings.port}"


@pytest.mark.parametrize("told", [{"name": "another"}, {"surprise": 1}])
def test_another_program_on_the_port_is_not_ours(running, told):
    settings, answers = running
    answers["answer"] |= told
    assert localcloud.status(settings) is None


def test_starting_what_runs_returns_its_endpoint(running):
    settings, _ = running
    endpoint = localcloud.start(settings, print)
    assert endpoint.url.endswith(str(settings.port))
    assert (endpoint.region, endpoint.default_image) == ("us-east-1", "debian-12")


def test_a_cloud_with_another_subnet_is_not_taken_for_this_one(running):
    settings, _ = running
    with pytest.raises(LocalCloudError, match="runs with subnet"):
        localcloud.start(structs.replace(settings, subnet="198.19.241.0/24"), print)


def test_a_taken_port_is_named_with_a_way_out(settings, monkeypatch):
    monkeypatch.setattr(lifecycle, "_ANSWER_TIMEOUT_S", 0.2)  # the other program never answers
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        from labtool.localcloud.serve import _listen

        with pytest.raises(LocalCloudError) as caught:
            _listen("127.0.0.1", port)
        assert str(port) in caught.value.message
        assert "LABTOOL_LOCAL_PORT" in caught.value.hint
        found = {c.name: c for c in localcloud.checks(structs.replace(settings, port=port))}
        assert not found["port"].ok
        assert str(port) in found["port"].mend


def test_a_second_start_waits_for_the_first(settings):
    layout = Layout(settings)
    layout.lock.parent.mkdir(parents=True)
    said, entered = [], threading.Event()

    def second():
        with lifecycle._locked(layout, said.append):
            entered.set()

    with layout.lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        thread = threading.Thread(target=second)
        thread.start()
        deadline = time.monotonic() + 5
        while not said and time.monotonic() < deadline:
            time.sleep(0.005)
        assert said == ["waiting: another command starts or stops the local cloud"]
        assert not entered.is_set()
    assert entered.wait(5)
    thread.join()


def test_the_processs_last_words_are_the_error(layout):
    layout.log.write_text("2026 INFO x\nerror: port 4600 is taken\nhint: choose another\n")
    assert lifecycle._last_words(layout) == ("port 4600 is taken", "choose another")
    # That was an earlier process.
    assert lifecycle._last_words(layout, layout.log.stat().st_size) is None


@pytest.mark.parametrize(
    ("free", "said", "way_out"),
    [(10 << 20, "disk: 0.0 GiB free", "free 4 GiB"), (1 << 40, "ended with -11", "cloud.log")],
)
def test_where_the_process_says_nothing_what_the_machine_lacks_does(settings, layout, monkeypatch, free, said, way_out):
    monkeypatch.setattr(requirements.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    monkeypatch.setattr(requirements, "checks", lambda settings: [requirements._disk(settings)])
    message, hint = lifecycle._unmet(settings, layout, -11)
    assert message.startswith("the local cloud ended with -11 as it started")
    assert said in message
    assert way_out in hint


def test_a_pid_that_became_another_process_is_left_alone(layout):
    other = subprocess.Popen(["sleep", "100"])
    try:
        layout.pid.write_text(f"{other.pid}\n")
        lifecycle._stop_process(layout, print)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_process_that_ignores_sigterm_is_killed(layout, monkeypatch):
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(100)"
    process = subprocess.Popen([sys.executable, "-c", code, "labtool.localcloud"], stdout=subprocess.PIPE)
    process.stdout.readline()
    real = time.monotonic
    start = real()
    monkeypatch.setattr(lifecycle.time, "monotonic", lambda: start + (real() - start) * 30)  # 15 s pass in half a one
    layout.pid.write_text(f"{process.pid}\n")
    lifecycle._stop_process(layout, print)
    assert not layout.pid.exists()
    process.wait(5)


def test_without_root_sudo_is_asked_and_said_why(settings, monkeypatch, tmp_path):
    sudo = tmp_path / "sudo"
    sudo.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/asked\nexit 1\n')
    sudo.chmod(0o755)
    monkeypatch.setattr(lifecycle.os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    said = []
    with pytest.raises(LocalCloudError, match="failed as root"):
        localcloud.start(settings, said.append)
    assert "root" in said[0]
    assert "password" in said[0]
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[:5] == ["-E", sys.executable, "-m", "labtool.localcloud", "start"]
    assert json.loads(asked[6])["name"] == settings.name


def test_without_root_and_sudo_it_says_so(settings, monkeypatch):
    monkeypatch.setattr(lifecycle.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(lifecycle.shutil, "which", lambda _name: None)
    with pytest.raises(LocalCloudError, match="no sudo"):
        localcloud.stop(settings, print)


def test_every_failed_check_has_a_command_that_mends_it(settings, monkeypatch):
    monkeypatch.setattr(requirements.shutil, "which", lambda *_a, **_k: None)
    monkeypatch.setattr(requirements.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(requirements.shutil, "disk_usage", lambda _p: type("U", (), {"free": 1})())
    found = {c.name: c for c in localcloud.checks(settings)}
    failed = {name for name, check in found.items() if not check.ok}
    assert failed >= {"root", "container engine", "image tool", "network tools", "disk", "lxcfs"}
    assert all(check.mend for check in found.values() if not check.ok)
    assert not any(check.mend for check in found.values() if check.ok)
    assert not found["lxcfs"].needed


def test_a_module_is_there_if_built_in_loaded_or_on_disk(tmp_path, monkeypatch):
    real = requirements.Path
    root = tmp_path

    def path(text):
        text = str(text)
        return root / text.lstrip("/") if text.startswith(("/sys/module", "/lib/modules")) else real(text)

    monkeypatch.setattr(requirements, "Path", path)
    release = requirements.os.uname().release
    (root / "lib/modules" / release).mkdir(parents=True)
    assert not requirements._has_module("veth")
    (root / "lib/modules" / release / "modules.builtin").write_text("kernel/drivers/net/veth.ko\n")
    assert requirements._has_module("veth")
    assert not requirements._has_module("bridge")
    (root / "sys/module/bridge").mkdir(parents=True)
    assert requirements._has_module("bridge")


def test_the_command_line_of_the_module(settings):
    words = [sys.executable, "-m", "labtool.localcloud", "status", "--settings", encoded(settings).decode()]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (1, "null")


def test_a_folder_of_state_that_cannot_be_made_is_named(settings):
    nowhere = structs.replace(settings, state=Path("/proc/none"))
    with (
        pytest.raises(LabtoolError, match="the folder /proc/none cannot be made") as told,
        lifecycle._locked(Layout(nowhere), print),
    ):
        pass
    assert told.value.hint == "LABTOOL_LOCAL_STATE names another"
