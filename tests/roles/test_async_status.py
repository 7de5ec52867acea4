"""A host that goes away while a task runs on it."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.roles.modules import ROOT, load

plugin = load("roles/app_service/action_plugins/async_status.py", "labtool_async_status")
LOST = "EOF on stream; last lines received:\n    ssh: connect to host 198.18.0.4 port 22: No route to host"


@pytest.fixture
def poll(monkeypatch):
    """Polls, each at a second of the clock, of a host that answers or not."""
    clock = [0.0]
    monkeypatch.setattr(plugin.time, "monotonic", lambda: clock[0])

    def answer(self, tmp, task_vars):
        if self.lost:
            raise ConnectionError(LOST)
        return {"finished": False, "started": True}

    monkeypatch.setattr(plugin._ansible.ActionModule, "run", answer)
    module = plugin.ActionModule.__new__(plugin.ActionModule)
    module._task = SimpleNamespace(args={"jid": "1"})

    def run(at: float, lost: bool, mode: str = "status"):
        clock[0], module.lost, module._task.args["mode"] = at, lost, mode
        return module.run()

    return run


def test_a_host_that_is_gone_is_unreachable_after_a_minute(poll):
    assert not poll(0, lost=False)["finished"]
    for at in (2, 30, 61):
        with pytest.raises(ConnectionError):
            poll(at, lost=True)
    given_up = poll(62, lost=True)
    assert given_up["finished"] and given_up["unreachable"]
    assert given_up["msg"] == (
        "the host went away, and has not answered for 60 s: ssh: connect to host 198.18.0.4 port 22: No route to host"
    )
    assert poll(63, lost=True, mode="cleanup") == {}


def test_a_host_that_comes_back_is_waited_for_anew(poll):
    with pytest.raises(ConnectionError):
        poll(0, lost=True)
    assert poll(50, lost=False)["started"]
    with pytest.raises(ConnectionError):
        poll(70, lost=True)


@pytest.mark.parametrize("folder", ["playbooks/workloads", "roles/app_service"])
def test_ansible_polls_with_it(folder):
    code = (
        "from ansible.plugins.loader import action_loader as loader, init_plugin_loader\n"
        "init_plugin_loader()\n"
        f"loader.add_directory({str(ROOT / folder / 'action_plugins')!r})\n"
        "print(loader.get('ansible.legacy.async_status', class_only=True).run.__doc__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "unreachable" in done.stdout
