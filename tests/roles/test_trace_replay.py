"""The workload on real hosts, as a sysadmin runs it: what the trace has is what the server got, and nothing is left."""

from __future__ import annotations

import json
import random

import pytest

from labtool.dataset import parsers
from tests.roles.conftest import MITOGEN, ROOT

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(300)]
PLAYBOOK = ROOT / "playbooks/workloads/trace-replay.yml"
SERVER = r"""
import http.server, json

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with open("/run/got", "a") as file:
            file.write(json.dumps([self.headers["X-Request-Id"], self.path, body]) + "\n")
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("", 80), Handler).serve_forever()
"""
DECISION = {
    "requests": {
        "request": {
            "path": "/decide.php",
            "form": {"payload": "{user}\t{3-}", "method": "request"},
            "follow": {
                "after_s": 0.5,
                "name": "update",
                "path": "/decide.php",
                "form": {"payload": "{user}", "method": "update"},
            },
        }
    }
}


@pytest.fixture(scope="module")
def hosts(lab_hosts, ansible):
    """A server and a load host, which replay."""
    server, load = lab_hosts(2)
    server.run(f"cat > /run/server.py <<'EOF'\n{SERVER}\nEOF\nsystemd-run --unit=server python3 /run/server.py")
    server.run("for _ in $(seq 100); do ss -ltn | grep -q ':80 ' && exit 0; sleep 0.1; done; exit 1")
    ansible.groups({"web": {"web-0": (server, {})}, "load": {"load-0": (load, {})}})
    return server, load


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """A trace of 200 lines in no order, a tenth of a minute apart, one of them broken; and its template."""
    folder = tmp_path_factory.mktemp("trace")
    rows = [f"{1700000000000 + number * 6000},user-{number % 7},{number},a b" for number in range(199)]
    random.Random(3).shuffle(rows)
    (folder / "trace.csv").write_text("\n".join(["time,user,f1,f2", *rows[:100], "broken", *rows[100:]]) + "\n")
    (folder / "decision.json").write_text(json.dumps(DECISION))
    return folder


def replayed(ansible, trace, raw, *, strategy="linear", code=0, **changes):
    given = {
        "trace_replay_file": str(trace / "trace.csv"),
        "trace_replay_template": str(trace / "decision.json"),
        "trace_replay_speed": "200",
        "trace_replay_clients": 2,
        "trace_replay_key": "user",
        "labtool_raw": str(raw),
        "labtool_duration_s": 10,
    }
    return ansible.run(PLAYBOOK, strategy=strategy, code=code, **(given | changes))


def test_what_is_wrong_is_said_before_anything_is_sent(ansible, hosts, trace, tmp_path):
    broken = replayed(ansible, trace, tmp_path, code=2).output
    assert "1 of 200 lines of" in broken and "trace.csv:102: 1 field, expected 4: 'broken'" in broken
    foreign = replayed(ansible, trace, tmp_path, code=2, trace_replay_url="http://192.0.2.1/").output
    assert "type --i-may-load 192.0.2.1 if it is yours to load" in foreign
    assert "with --trace FILE" in replayed(ansible, trace, tmp_path, code=2, trace_replay_file="").output
    hosts[0].run("test ! -e /run/got")


def test_the_server_got_what_the_trace_has(ansible, hosts, trace, tmp_path):
    replayed(ansible, trace, tmp_path, trace_replay_skip_bad=True)
    got = [json.loads(line) for line in hosts[0].run("cat /run/got").splitlines()]
    assert sorted(body for _, _, body in got) == sorted(
        body
        for number in range(199)
        for body in (
            f"payload=user-{number % 7}%09{number}%09a+b&method=request",
            f"payload=user-{number % 7}&method=update",
        )
    )
    tables = parsers.workload(PLAYBOOK.with_suffix(".py"), tmp_path, {})
    requests = tables["requests"].to_pylist()
    assert {row["id"] for row in requests} == {name for name, _, _ in got} and len(requests) == 398
    assert {(row["status"], row["error"]) for row in requests} == {(200, "")}
    folder = tmp_path / "trace-replay/load-0"
    start = {f"load-0/{file.stem}": json.loads(file.read_text())["start_us"] / 1e6 for file in folder.glob("*.json")}
    due = [row["due"].timestamp() - start[row["client"]] for row in requests if row["endpoint"] == "request"]
    assert sorted(due) == pytest.approx([number * 0.03 for number in range(199)], abs=1e-5)
    assert {row["client"] for row in tables["workload_summary"]} == {"load-0/client-1", "load-0/client-2"}
    found = json.loads((tmp_path / "trace-replay/trace.json").read_text())
    assert (found["replayed"], found["broken"]["count"], found["cut"]) == (199, 1, 0)
    assert not (tmp_path / "trace-replay/parts").exists()


def test_what_does_not_fit_into_the_run_is_cut(ansible, hosts, trace, tmp_path):
    changes = {"trace_replay_skip_bad": True, "trace_replay_clients": 1, "labtool_duration_s": 2}
    replayed(ansible, trace, tmp_path, strategy=MITOGEN, **changes)
    # Of the run before, nothing is left on the load host.
    assert [file.name for file in (tmp_path / "trace-replay/load-0").glob("*.json")] == ["client-1.json"]
    known = json.loads((tmp_path / "trace-replay/load-0/client-1.json").read_text())
    found = json.loads((tmp_path / "trace-replay/trace.json").read_text())
    assert (found["cut"], found["replayed"], known["trace_lines"], known["trace_left"]) == (132, 67, 67, 0)
