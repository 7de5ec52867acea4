import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from labtool.ansible.events import HostResult, HostStarted, PlaybookFinished, TaskStarted
from labtool.ansible.observers import TimelineWriter
from labtool.ansible.runner import run_playbook
from labtool.errors import AnsibleError

pytestmark = pytest.mark.slow

LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


def local_inventory(*names: str) -> dict:
    return {"_meta": {"hostvars": dict.fromkeys(names, LOCAL)}, "web": {"hosts": list(names)}}


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """A folder for temporary files of each test's own, which must be empty at its end."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


@pytest.fixture
def playbook(tmp_path):
    def write(tasks: str, header: str = "hosts: all\n  gather_facts: false") -> Path:
        path = tmp_path / "site.yml"
        path.write_text(f"- name: Site\n  {header}\n  tasks:\n" + textwrap.indent(textwrap.dedent(tasks), "    "))
        return path

    return write


class Recorder:
    def __init__(self, on=None):
        self.events = []
        self.on = on

    def notice(self, event):
        self.events.append(event)
        if self.on:
            self.on(event)


def ours(mark: str) -> list[psutil.Process]:
    """The processes whose command line has `mark`, besides this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and any(mark in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def gone(mark: str, within_s: float = 3) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not ours(mark):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("strategy", ["linear", "mitogen"])
def test_a_playbook_that_works(playbook, tmp_path, folders, strategy):
    path = playbook("""
        - name: Read
          ansible.builtin.command: echo {{ greeting }} {{ number + 1 }}
          changed_when: false
        - name: Write
          ansible.builtin.copy:
            content: "{{ inventory_hostname }}"
            dest: "{{ folder }}/{{ inventory_hostname }}"
            mode: "0644"
        - name: Skip
          ansible.builtin.command: "false"
          when: false
    """)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    command_lines, cores = [], set()

    def look(event):
        if isinstance(event, HostStarted):
            command_lines.extend(" ".join(p.cmdline()) for p in psutil.Process().children())
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    cores.add(tuple(process.cpu_affinity()))

    seen = Recorder(on=look)
    log, timeline = tmp_path / "ansible" / "deploy.log", tmp_path / "timeline.jsonl"
    result = run_playbook(
        path,
        local_inventory("web-0", "web-1"),
        extra_vars={"greeting": "hunter2", "number": 41, "folder": tmp_path},
        observers=[seen, TimelineWriter(timeline)],
        strategy=strategy,
        log=log,
    )
    assert result.check().ok
    assert result.host_tasks == 6
    assert {(c.ok, c.changed, c.skipped) for c in result.hosts.values()} == {(2, 1, 1)}
    assert list(result.hosts) == ["web-0", "web-1"]
    assert result.changed == 2
    assert (tmp_path / "web-1").read_text() == "web-1"

    results = [event for event in seen.events if isinstance(event, HostResult)]
    assert {(r.host, r.task): r.status for r in results}["web-0", "Write"] == "changed"
    assert results[0].stdout == "hunter2 42"
    assert all(r.duration_s > 0 for r in results)
    assert [e.task for e in seen.events if isinstance(e, TaskStarted)] == ["Read", "Write", "Skip"]
    assert isinstance(seen.events[-1], PlaybookFinished)

    text = log.read_text()
    assert "TASK [Write]" in text
    assert "changed: [web-1]" in text
    assert "\x1b" not in text
    assert len(timeline.read_text().splitlines()) == 6

    assert not any("hunter2" in line for line in command_lines)
    assert cores == {tuple(psutil.Process().cpu_affinity())}  # mitogen by itself would bind processes to cores
    assert any("ansible-playbook" in line for line in command_lines)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert [p.name for p in folders.iterdir() if p.name.startswith("labtool-")] == []


def test_a_failure_says_where_what_and_how_it_ended(playbook, tmp_path):
    path = playbook("""
        - name: Start the broker
          ansible.builtin.shell: "for i in $(seq 30); do echo line $i; done; echo no heap >&2; exit 7"
          when: inventory_hostname == 'web-1'
        - name: Go on
          ansible.builtin.debug: {msg: on}
    """)
    log = tmp_path / "deploy.log"
    result = run_playbook(path, local_inventory("web-0", "web-1"), strategy="linear", log=log)
    assert result.status == "failed"
    assert result.failed_hosts == ("web-1",)
    assert result.hosts["web-0"].ok == 1
    with pytest.raises(AnsibleError) as error:
        result.check()
    message = error.value.message
    assert message.startswith(
        "site failed on web-1; nothing failed on the other one\nweb-1 failed in [Start the broker]: exit code 7:"
    )
    assert "line 30" in message
    assert "no heap" in message
    assert "line 2\n" not in message
    assert str(log) in error.value.hint


def test_the_others_finish_when_a_host_is_gone(playbook, tmp_path):
    path = playbook("- name: Look\n  ansible.builtin.ping:\n- name: Look again\n  ansible.builtin.ping:\n")
    inventory = local_inventory("web-0", "web-1")
    inventory["_meta"]["hostvars"] = {
        **inventory["_meta"]["hostvars"],
        "web-1": {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_retries": 0},
    }
    result = run_playbook(path, inventory, log=tmp_path / "log")
    assert result.failures[0].unreachable
    assert result.hosts["web-0"].ok == 2
    error = result.error()
    assert "web-1 could not be reached in [Look]" in error.message
    assert "Connection refused" in error.message
    assert "labtool status" in error.hint


def test_a_limit_that_matches_nothing_is_a_failure(playbook, tmp_path):
    result = run_playbook(
        playbook("- ansible.builtin.ping:\n"), local_inventory("web-0"), limit="db", log=tmp_path / "l"
    )
    assert not result.ok
    assert "no hosts to target" in result.error().message


def test_a_play_for_nobody_is_a_failure(playbook, tmp_path):
    path = playbook("- ansible.builtin.ping:\n", header="hosts: kafka\n  gather_facts: false")
    result = run_playbook(path, local_inventory("web-0"), log=tmp_path / "l")
    assert "web-0" in result.error().message
    assert not result.ok


def test_a_playbook_that_is_no_playbook(tmp_path):
    path = tmp_path / "site.yml"
    path.write_text("- hosts: all\n  taskss: []\n")
    error = run_playbook(path, local_inventory("web-0"), log=tmp_path / "l").error()
    assert "site failed before any host did anything" in error.message
    assert "taskss" in error.message
    with pytest.raises(AnsibleError, match="no playbook"):
        run_playbook(tmp_path / "absent.yml", local_inventory("web-0"), log=tmp_path / "l")


def test_check_mode_and_tags(playbook, tmp_path):
    path = playbook("""
        - name: Write
          ansible.builtin.file: {path: "{{ folder }}/made", state: touch, mode: "0644"}
          tags: [write]
        - name: Other
          ansible.builtin.ping:
    """)
    result = run_playbook(
        path, local_inventory("web-0"), extra_vars={"folder": tmp_path}, tags=["write"], check=True, log=tmp_path / "l"
    )
    assert result.check().host_tasks == 1
    assert result.changed == 1
    assert not (tmp_path / "made").exists()


def test_a_log_that_cannot_be_written(playbook, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AnsibleError, match="cannot be written"):
        run_playbook(playbook("- ansible.builtin.ping:\n"), local_inventory("web-0"), log=tmp_path / "file" / "log")


@pytest.mark.parametrize("strategy", ["linear", "mitogen"])
def test_cancelling_ends_everything_here(playbook, tmp_path, folders, strategy):
    cancel = threading.Event()

    def when_both_run(event):
        if isinstance(event, HostStarted) and event.host == "web-1":
            threading.Timer(0.7, cancel.set).start()

    path = playbook("- name: Wait long\n  ansible.builtin.command: sleep 30\n")
    started = time.monotonic()
    result = run_playbook(
        path,
        local_inventory("web-0", "web-1"),
        observers=[Recorder(on=when_both_run)],
        strategy=strategy,
        log=tmp_path / "log",
        cancel=cancel,
    )
    assert result.status == "cancelled"
    assert result.unfinished == {"web-0": "Wait long", "web-1": "Wait long"}
    assert "web-1 was in: Wait long" in result.error().message
    assert time.monotonic() - started < 8
    assert gone(str(path))
    assert not list(folders.glob("labtool-*"))


def test_an_observers_error_ends_ansible_and_is_raised(playbook, tmp_path, folders):
    class FullDiskError(Exception):
        pass

    def fail(event):
        if isinstance(event, HostStarted):
            raise FullDiskError("no space")

    path = playbook("- ansible.builtin.command: sleep 30\n")
    with pytest.raises(FullDiskError) as error:
        run_playbook(path, local_inventory("web-0"), observers=[Recorder(on=fail)], log=tmp_path / "log")
    assert gone(str(path))
    # A bug keeps the folder, without what may be secret in it.
    kept = next(folders.glob("labtool-ansible-*"))
    assert str(kept) in error.value.__notes__[0]
    assert not (kept / "env" / "envvars").exists()
    assert not (kept / "artifacts" / "play" / "command").exists()


@pytest.fixture
def labtool_process(playbook, tmp_path, folders):
    """A process that runs a long playbook by labtool, which has begun; and what tells Ansible's processes."""
    path = playbook("- name: Wait long\n  ansible.builtin.command: sleep 30\n")
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from labtool.ansible.events import HostStarted
        from labtool.ansible.runner import run_playbook

        class Tell:
            def notice(self, event):
                if isinstance(event, HostStarted):
                    print("started", flush=True)

        try:
            run_playbook(
                Path({str(path)!r}),
                {local_inventory("web-0")!r},
                observers=[Tell()],
                log=Path({str(tmp_path / "log")!r}),
            )
        except KeyboardInterrupt:
            sys.exit(130)
        """)
    )
    env = {**os.environ, "TMPDIR": str(folders)}
    child = subprocess.Popen(
        [sys.executable, program], stdout=subprocess.PIPE, text=True, start_new_session=True, env=env
    )
    assert child.stdout.readline() == "started\n"
    time.sleep(0.3)
    return child, str(path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_ansible_and_is_told(labtool_process, number):
    child, mark = labtool_process
    child.send_signal(number)
    assert child.wait(10) == 130
    assert gone(mark)


def test_nothing_outlives_a_labtool_that_was_killed(labtool_process, folders):
    child, mark = labtool_process
    assert ours(mark) and list(folders.iterdir())
    child.kill()
    child.wait()
    assert gone(mark, within_s=10)
    assert gone(str(folders))  # the watchdog too
    assert not list(folders.glob("labtool-*"))  # the variables of the call may be secret
