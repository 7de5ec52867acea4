"""Role `python_app` on a host: from a folder, a wheel and a commit; started, restarted, crashed, ended, never well."""

from __future__ import annotations

import re
import subprocess
import time
import zipfile

import pytest

from tests.roles.conftest import MITOGEN

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(300)]

PLAY = "- hosts: web\n  gather_facts: false\n  roles: [python_app]\n"
RUN = """
- hosts: web
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: python_app, tasks_from: run}
"""
SERVER = """
import http.server, os, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{os.environ['GREETING']} {sys.argv[1:]} {os.getuid()} one".encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

http.server.HTTPServer(("localhost", 8000), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def host(one_host, ansible):
    ansible.groups({"web": {"web-0": (one_host, {})}})
    return one_host


@pytest.fixture
def folder(tmp_path):
    """Return a function that writes a program's main.py and returns its folder."""

    def write(text):
        (tmp_path / "program").mkdir(exist_ok=True)
        (tmp_path / "program/main.py").write_text(text)
        return tmp_path / "program"

    return write


def test_a_folder(host, folder, ansible, strategy):
    name = f"hello-{strategy[:3]}"
    odd = ["50 %", '"$HOME"', "a\\b"]
    wanted = {
        "python_app_name": name,
        "python_app_source": str(folder(SERVER)),
        "python_app_command": ["python", "main.py"],
        "python_app_arguments": odd,
        "python_app_environment": {"GREETING": "good day, 100 %"},
        "python_app_health_url": "http://localhost:8000/",
        "python_app_health_timeout": 20,
    }
    host.run("systemctl stop 'hello-*'", check=False)
    assert ansible.run(ansible.play(PLAY), "--check", strategy=strategy, **wanted).changed > 0
    assert host.run(f"ls -d /opt/{name} /etc/systemd/system/{name}.service", check=False) == ""
    assert ansible.run(ansible.play(PLAY), strategy=strategy, **wanted).changed == 3
    user = host.run(f"id -u {name}").strip()
    assert host.run("curl -s localhost:8000") == f"good day, 100 % {odd} {user} one"
    again = ansible.run(ansible.play(PLAY), strategy=strategy, **wanted)
    assert again.changed == 0, again.output
    assert again.host_tasks("web-0") <= 7
    if strategy == MITOGEN:
        return
    # Another program: another version behind the link, and the unit runs it.
    folder(SERVER.replace(" one", " two"))
    assert ansible.run(ansible.play(PLAY), strategy=strategy, **wanted).changed == 2
    assert host.run("curl -s localhost:8000").endswith("two")
    assert len(host.run(f"ls /opt/{name}").split()) == 3
    # Other arguments: the unit changes and starts again.
    assert ansible.run(ansible.play(PLAY), strategy=strategy, **{**wanted, "python_app_arguments": ["x"]}).changed == 1
    assert "['x']" in host.run("curl -s localhost:8000")
    assert host.run(f"cat /etc/labtool/logs.d/{name}.conf").splitlines()[-1] == f"unit {name}.service"
    assert host.run(f"systemctl is-enabled {name}") == "enabled\n"
    assert ansible.run(ansible.play(PLAY), **{**wanted, "python_app_state": "stopped"}).changed == 1
    assert host.run(f"systemctl is-active {name}; systemctl is-enabled {name}", check=False).split() == [
        "inactive",
        "disabled",
    ]


def test_a_crash_shows_the_journal_and_is_not_hidden(host, folder, ansible):
    wanted = {
        "python_app_name": "crash",
        "python_app_source": str(folder("import time\ntime.sleep(0.3)\nraise SystemExit('no such port: -7')\n")),
        "python_app_command": ["python", "main.py"],
    }
    failed = ansible.run(ansible.play(PLAY), code=2, **wanted)
    assert "the program has stopped (crash.service: failed, exit-code, exit code 1)" in failed.output
    assert "no such port: -7" in failed.output
    assert host.run("systemctl show crash -p NRestarts --value") == "0\n"
    # One that ends well is told what it is.
    wanted["python_app_source"] = str(folder("print('done')\n"))
    assert "is of python_app_type oneshot" in ansible.run(ansible.play(PLAY), code=2, **wanted).output


def test_a_program_that_shall_come_back_does(host, folder, ansible):
    ansible.run(
        ansible.play(PLAY),
        python_app_name="back",
        python_app_source=str(folder("import time\nwhile True: time.sleep(1)\n")),
        python_app_command=["python", "main.py"],
        python_app_restart="always",
    )
    before = host.run("systemctl show back -p MainPID --value")
    host.run(f"kill -9 {before}")
    until = time.monotonic() + 20
    while host.run("systemctl show back -p MainPID --value") in (before, "0\n"):
        assert time.monotonic() < until, host.run("systemctl status back", check=False)
        time.sleep(0.3)
    host.run("systemctl stop back")


def test_one_that_is_never_well_fails_at_the_deadline(host, folder, ansible):
    begun = time.monotonic()
    failed = ansible.run(
        ansible.play(PLAY),
        code=2,
        python_app_name="sick",
        python_app_source=str(folder("import time\nprint('listening nowhere')\nwhile True: time.sleep(1)\n")),
        python_app_command=["python", "main.py"],
        python_app_health_port=9,
        python_app_health_timeout=2,
    )
    assert time.monotonic() - begun < 40
    assert "the program is not well after 2 s: port 9 takes no connection" in failed.output
    assert "listening nowhere" in failed.output
    host.run("systemctl stop sick")


def test_a_wheel_with_a_requirement(host, ansible, tmp_path):
    wheel = tmp_path / "greeter-1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("greeter.py", "import colorama\ndef main():\n    print('greeted', colorama.__version__)\n")
        info = "greeter-1.2.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: greeter\nVersion: 1.2\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/entry_points.txt", "[console_scripts]\ngreet = greeter:main\n")
        archive.writestr(f"{info}/RECORD", "")
    wanted = {
        "python_app_name": "greeter",
        "python_app_source": str(wheel),
        "python_app_requirements": ["colorama==0.4.6"],
        "python_app_command": ["greet"],
        "python_app_type": "oneshot",
        "python_app_user": "root",
    }
    ansible.run(ansible.play(PLAY), **wanted)
    assert "greeted 0.4.6" in host.run("journalctl -u greeter -o cat")
    assert host.run("readlink /opt/greeter/current").startswith("1.2-")
    again = ansible.run(ansible.play(PLAY), **wanted)
    assert again.changed == 0, again.output
    assert host.run("journalctl -u greeter -o cat").count("greeted") == 1


def test_a_commit_and_the_one_before_it(host, folder, ansible, monkeypatch):
    place = folder("print('one')\n")
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "t")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "t@example.org")

    def git(*words):
        return subprocess.run(["git", "-C", place, *words], capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    commits = []
    for text in ("print('one')\n", "print('two')\n"):
        folder(text)
        git("add", ".")
        git("commit", "-qm", "x")
        commits.append(git("rev-parse", "HEAD"))
    for commit, said in ((commits[1], "two"), (commits[0], "one")):
        wanted = {
            "python_app_name": "committed",
            "python_app_source": place.as_uri(),
            "python_app_commit": commit,
            "python_app_command": ["python", "main.py"],
            "python_app_type": "oneshot",
        }
        ansible.run(ansible.play(PLAY), **wanted)
        assert host.run("journalctl --sync; journalctl -u committed -o cat -n 3").count(said) == 1
        assert re.match(commit[:12], host.run("readlink /opt/committed/current"))


def test_run_once_to_the_end(host, folder, ansible):
    wanted = {
        "python_app_name": "once",
        "python_app_source": str(
            folder("import sys, time\nprint(sys.argv)\ntime.sleep(float(sys.argv[1]))\nsys.exit(int(sys.argv[2]))\n")
        ),
        "python_app_command": ["python", "main.py"],
        "python_app_state": "stopped",
    }
    ansible.run(ansible.play(PLAY), **wanted)
    more = {**wanted, "python_app_unit": "once-run"}
    assert ansible.run(ansible.play(RUN), **more, python_app_arguments=["0.1", "0"]).changed == 1
    assert "'0.1', '0'" in host.run("journalctl -u once-run -o cat")
    failed = ansible.run(ansible.play(RUN), **more, python_app_arguments=["0", "3"], code=2)
    assert "once-run.service failed" in failed.output and "['main.py', '0', '3']" in failed.output
    begun = time.monotonic()
    late = ansible.run(ansible.play(RUN), **more, python_app_arguments=["60", "0"], python_app_time_limit=1, code=2)
    assert "timeout" in late.output and time.monotonic() - begun < 30
