"""The role's modules: a master's answers, a secret that is not told, units that are stale."""

from __future__ import annotations

import http.server
import json
import os
import pwd
import threading

import pytest

from tests.roles.modules import load, load_utils

load_utils("daemon", "daemon_host", "daemon_unit")
(master,) = load_utils("spark", "spark_master")
secret = load("roles/spark/library/spark_secret.py")
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


def test_a_secret_is_made_of_256_bits_for_its_owner_alone(tmp_path):
    path = tmp_path / "spark/secret"
    secret.make(path, pwd.getpwnam(ME))
    first = path.read_text()
    assert len(bytes.fromhex(first.strip())) == 32 and path.stat().st_mode & 0o777 == 0o600
    secret.make(path, pwd.getpwnam(ME))
    assert path.read_text() != first


def test_a_host_without_spark_has_nothing_to_say(tmp_path):
    assert health.read(tmp_path / "cluster") == {}
    (tmp_path / "cluster").write_text("# Ansible managed\nurl=spark://a:7077\n")
    assert health.read(tmp_path / "cluster") == {"url": "spark://a:7077"}
