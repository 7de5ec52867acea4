"""The role's modules: a master's answers, a secret that is not told, units that are stale."""

from __future__ import annotations

import http.server
import json
import os
import pwd
import threading

import pytest

from tests.roles.modules import load

unit = load("roles/spark/module_utils/spark_unit.py", "ansible.module_utils.spark_unit")
master = load("roles/spark/module_utils/spark_master.py", "ansible.module_utils.spark_master")
files = load("roles/spark/library/spark_files.py")
secret = load("roles/spark/library/spark_secret.py")
state = load("roles/spark/library/spark_state.py")
service = load("roles/spark/library/spark_service.py")
verify = load("roles/spark/library/spark_verify.py")
health = load("roles/spark/library/spark_health.py")
ME = pwd.getpwuid(os.getuid()).pw_name


def worker(number, life="ALIVE", free=2):
    return {
        "host": f"198.18.0.{number}",
        "state": life,
        "cores": 2,
        "coresfree": free,
        "memory": 3072,
        "memoryfree": 3072 * free // 2,
    }


def answer(*workers, apps=(), status="ALIVE"):
    return {"url": "spark://198.18.0.1:7077", "status": status, "workers": list(workers), "activeapps": list(apps)}


@pytest.fixture
def page():
    """A master's page; what it answers can be changed."""
    told = {"json": answer(worker(2))}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(told["json"]).encode() if "json" in told else b"<html>")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    told["port"] = server.server_port
    yield told
    server.shutdown()
    server.server_close()


def asked(page, **more):
    there = {"address": "198.18.0.2", "master_address": "127.0.0.1", "master_ui_port": page["port"]}
    return {**there, "history_port": 1, "restart": True, "timeout": 0.0, **more}


def test_workers_that_went_away_are_not_counted(page):
    page["json"] = answer(worker(2), worker(3, "DEAD"), worker(4, "UNKNOWN"))
    assert master.ask("127.0.0.1", page["port"]).addresses == {"198.18.0.2"}


def test_an_answer_that_is_none_names_the_page(page):
    page["json"] = {"url": "spark://x"}
    with pytest.raises(master.MasterError, match=r"/json/: no master's answer \(KeyError: 'status'\)"):
        master.ask("127.0.0.1", page["port"])
    del page["json"]
    with pytest.raises(master.MasterError, match="no master's answer"):
        master.ask("127.0.0.1", page["port"])


def test_a_worker_is_at_work_when_it_is_counted_with_what_it_offers(page):
    mine = {"unit": "spark-worker.service", "is": "worker", "cores": 2, "memory_mb": 3072}
    assert service.problem_of(mine, asked(page)) == ""
    # One that was restarted with another size is counted with the old one for a while.
    assert "does not count it" in service.problem_of({**mine, "memory_mb": 4096}, asked(page))
    page["json"] = answer(worker(3))
    assert service.problem_of(mine, asked(page)).endswith("does not count it; it counts 198.18.0.3")
    page["json"] = answer(worker(2), status="RECOVERING")
    assert service.problem_of({**mine, "is": "master"}, asked(page)) == "the master is RECOVERING"


def test_the_count_is_waited_for_with_a_deadline(page):
    wanted = {"master_address": "127.0.0.1", "master_ui_port": page["port"], "timeout": 0.3}
    assert len(verify.counted({**wanted, "workers": ["198.18.0.2"]}).workers) == 1
    with pytest.raises(verify.UnverifiedError, match=r"not ready after 0 s: it does not count 198\.18\.0\.9"):
        verify.counted({**wanted, "workers": ["198.18.0.2", "198.18.0.9"]})


def test_a_cluster_that_is_taken_is_not_asked_to_run_a_job(page):
    app = {"id": "app-1", "name": "etl", "cores": 4, "state": "RUNNING"}
    page["json"] = answer(worker(2, free=0), worker(3), apps=[app])
    assert verify.no_room(master.ask("127.0.0.1", page["port"])) == "etl (app-1)"
    page["json"] = answer(worker(2, free=1), worker(3), apps=[app])
    assert verify.no_room(master.ask("127.0.0.1", page["port"])) == ""


def submit(tmp_path, says):
    program = tmp_path / "spark-submit"
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(0o755)
    return {"submit": str(program), "program": "verify.py", "timeout": 5.0}


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ("""echo '{"executors": ["198.18.0.2:7300"], "sum": 1, "expected": 1}'""", "no task ran on 198.18.0.3"),
        (
            """echo '{"executors": ["198.18.0.2:1", "198.18.0.3:1"], "sum": 1, "expected": 2}'""",
            "the job's sum is 1, not 2",
        ),
        ("echo 'ERROR no way' >&2; exit 3", "the job ended with 3. Its last lines:\nERROR no way"),
        ("exec sleep 5", "the job did not end in 0 s"),
    ],
)
def test_a_job_that_does_not_run_everywhere_is_told(page, tmp_path, says, told):
    page["json"] = answer(worker(2), worker(3))
    arguments = submit(tmp_path, says) | ({"timeout": 0.1} if "sleep" in says else {})
    with pytest.raises(verify.UnverifiedError) as error:
        verify.run_job(arguments, master.ask("127.0.0.1", page["port"]))
    assert told in str(error.value)


def test_the_secret_is_in_the_file_and_in_no_difference(tmp_path):
    file = {"path": str(tmp_path / "conf/a.conf"), "content": "key @SECRET@\n", "mode": "0600", "owner": ME}
    shown = files.write_file(file, "s3cret", check_mode=False)
    assert (tmp_path / "conf/a.conf").read_text() == "key s3cret\n"
    assert (tmp_path / "conf/a.conf").stat().st_mode & 0o777 == 0o600
    assert "s3cret" not in str(shown) and shown["after"] == "key @SECRET@\n"
    assert files.write_file(file, "s3cret", check_mode=False) is None
    changed = files.write_file(file, "other", check_mode=True)
    assert changed and "s3cret" not in str(changed) and "other" not in str(changed)
    assert (tmp_path / "conf/a.conf").read_text() == "key s3cret\n", "check mode changes nothing"


def test_folders_are_made_once(tmp_path):
    assert files.make_directory(tmp_path / "a/b", ME, check_mode=True) and not (tmp_path / "a").exists()
    assert files.make_directory(tmp_path / "a/b", ME, check_mode=False)
    assert not files.make_directory(tmp_path / "a/b", ME, check_mode=False)
    assert files.make_directory(tmp_path / "c", "no-such-user", check_mode=True), "the user is not made yet"


def test_a_secret_is_made_of_256_bits_for_its_owner_alone(tmp_path):
    path = tmp_path / "spark/secret"
    secret.make(path, pwd.getpwnam(ME))
    first = path.read_text()
    assert len(bytes.fromhex(first.strip())) == 32 and path.stat().st_mode & 0o777 == 0o600
    secret.make(path, pwd.getpwnam(ME))
    assert path.read_text() != first


def test_a_hosts_processors_are_those_that_it_sees():
    assert state.cores("cpu  1 2\ncpu0 1 2\ncpu1 1 2\nintr 5\n") == 2
    assert state.memory_mb("MemTotal:        4194304 kB\nMemFree: 1 kB\n") == 4096


def test_a_host_without_spark_has_nothing_to_say(tmp_path):
    assert health.read(tmp_path / "cluster") == {}
    (tmp_path / "cluster").write_text("# Ansible managed\nurl=spark://a:7077\n")
    assert health.read(tmp_path / "cluster") == {"url": "spark://a:7077"}


def test_what_a_host_is_before_it_is_part_of_spark(monkeypatch):
    assert state.home_and_shell("root") == ["/root", pwd.getpwnam("root").pw_shell]
    assert state.home_and_shell("nobody-of-that-name") == []
    asked = []

    class Network(state.socket.socket):
        def connect(self, address):
            asked.append(address)
            if len(asked) > 1:
                raise OSError("Network is unreachable")
            super().connect(("127.0.0.1", 9))

    monkeypatch.setattr(state.socket, "socket", Network)
    assert [state.own_address(), state.own_address()] == ["127.0.0.1", ""]
