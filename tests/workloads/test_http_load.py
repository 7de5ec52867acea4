"""The plan of a web workload: where it goes, what it sends, and what is refused before anything is sent."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
import time
from itertools import pairwise

import pytest
from ansible.errors import AnsibleFilterError

from tests.roles.modules import ROOT, load

plans = load("playbooks/workloads/filter_plugins/http_load.py", "filter_http_load")
h2load = load("playbooks/workloads/files/h2load.py", "h2load")
DRIVER = ROOT / "playbooks/workloads/files/http_load.py"
HOSTS = {
    "web-0": {"ansible_host": "198.18.0.5"},
    "web-1": {"ansible_host": "198.18.0.6", "labtool_private_address": "198.18.0.66"},
    "load-0": {"ansible_host": "198.18.0.9"},
    "load-1": {"ansible_host": "198.18.0.10"},
}
GROUPS = {"web": ["web-0", "web-1"], "load": ["load-0", "load-1"]}


def plan(groups=GROUPS, hosts=("load-0",), **given):
    variables = {"drive_home": "/var/lib/x"} | {f"http_load_{name}": value for name, value in given.items()}
    return plans.http_load_plan(variables, HOSTS, groups, hosts[-1], hosts)


def refused(**given) -> str:
    with pytest.raises(AnsibleFilterError) as caught:
        plan(**given)
    return str(caught.value)


def test_it_goes_to_the_balancer_or_else_to_all_fronts():
    assert plan()["targets"] == ["http://198.18.0.5", "http://198.18.0.66"]
    assert plan(groups=GROUPS | {"balancer": ["load-1"]})["targets"] == ["http://198.18.0.10"]
    assert plan(url="/a?b=1")["path"] == "/a?b=1"
    assert "no web server" in refused(groups={})


def test_a_whole_url_is_of_the_lab_or_typed_out():
    made = plan(url="http://web-1:8080/a?b=1")
    assert (made["targets"], made["path"]) == (["http://198.18.0.66:8080"], "/a?b=1")
    assert plan(url="http://198.18.0.5")["path"] == "/"
    assert "type --i-may-load www.example if it is yours" in refused(url="http://www.example/")
    assert "is no host of this lab" in refused(url="http://www.example/", i_may_load="example")
    assert plan(url="https://www.example:8443/x", i_may_load="www.example")["targets"] == ["https://www.example:8443"]
    assert "is no URL" in refused(url="www.example")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"rate": 1e6}, "can't be sent: a core does"),
        ({"rate": 6000, "generator": "replay"}, "6,000 requests/s of one client can't be sent"),
        ({"find_max": "p99 < 5"}, "--find-max: 'p99 < 5' is no objective"),
        ({"find_max": "p99 < 5 ms", "profile": "ramp"}, "goes with no profile"),
        ({"find_max": "p99 < 5 ms", "hosts": ("load-0", "load-1")}, "one load host"),
        ({"generator": "h2load", "profile": "ramp"}, "its rate is constant"),
        ({"http2": True, "generator": "replay"}, "speaks HTTP/1.1"),
        ({"headers": "Accept: x"}, "is no header"),
        ({"url": "/u/{user}"}, "{user} names a column, but there is no table"),
    ],
)
def test_what_cannot_be_sent_is_refused(given, told):
    assert told in refused(**given)


def test_more_hosts_and_clients_can_send_more():
    assert plan(rate=9000, generator="replay", clients=2)["rate"] == 9000
    made = plan(hosts=("load-0", "load-1"))
    assert (made["host"], made["host_index"], made["hosts"]) == ("load-1", 1, 2)


def test_h2load_is_asked_for_only_where_it_sends():
    assert not plan(rate=100)["needs_h2load"]
    assert plan(rate=100, http2=True, url="http://web-0/")["needs_h2load"]
    assert plan(rate=9000)["needs_h2load"] and not plan(rate=9000, clients=9)["needs_h2load"]
    assert not plan(rate=9000, mode="ab")["needs_h2load"]


def test_tables_and_templates_agree(tmp_path):
    table = tmp_path / "users.csv"
    table.write_text("user,age\nann,5\n")
    assert plan(url="/u/{user}", fields=str(table))["fields_file"] == "/var/lib/x/inputs/fields"
    assert "has no column 'name': it has age, user" in refused(url="/u/{name}", fields=str(table))
    table.write_text("user\n")
    assert "has no row" in refused(fields=str(table))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0,10\nx,y\n", "rates.csv:2: 'x,y' is not"),
        ("0,10\n5,20\n5,30\n", "rates.csv:3: seconds must grow"),
        ("5,10\n", "the first line must be of second 0"),
        ("0,0\n", "some rate above 0"),
    ],
)
def test_files_of_rates(tmp_path, text, told):
    file = tmp_path / "rates.csv"
    file.write_text(text)
    assert told in refused(rates=str(file))
    file.write_text("second,rate\n0,10\n5,20\n")
    assert plan(rates=str(file))["points"] == [(0, 10), (5, 20)]


@pytest.fixture
def drive(server, tmp_path):
    """Run the driver's clients as its unit does, against the server on loopback."""

    def go(**changes):
        made = plan(url=server.url, i_may_load="127.0.0.1") | {
            "duration_s": 1,
            "output": str(tmp_path / "out"),
            "start_at": time.time() + 0.3,
        }
        made |= changes
        (tmp_path / "plan.json").write_text(json.dumps(made))
        done = subprocess.run(
            [sys.executable, DRIVER, "clients", tmp_path / "plan.json"], capture_output=True, text=True, check=False
        )
        rows = {}
        for file in sorted((tmp_path / "out").glob("*.csv.gz")):
            with gzip.open(file, "rt") as stream:
                rows[file.name.split(".")[0]] = list(csv.DictReader(stream))
        return done, rows

    return go


@pytest.mark.slow
def test_clients_share_the_rate_and_take_turns(drive, server, tmp_path):
    done, rows = drive(rate=60, clients=2)
    assert done.returncode == 0, done.stderr
    assert [len(one) for one in rows.values()] == [30, 30]
    due = sorted(int(row["due_us"]) for one in rows.values() for row in one)
    gaps = [after - before for before, after in pairwise(due)]
    assert max(gaps) < 25_000, "evenly spaced, though two send"
    known = json.loads((tmp_path / "out/client-1.json").read_text())
    assert (known["offered_rate"], known["loop"], known["requests"]) == (30, "open", 30)


@pytest.mark.slow
def test_rows_take_turns_in_paths_and_bodies(drive, server, tmp_path):
    (tmp_path / "fields").write_text("user,age\nann b,5\nbob,6\n")
    (tmp_path / "body").write_text("age={age}")
    drive(
        rate=4,
        path="/u/{user}",
        method="POST",
        body_file=str(tmp_path / "body"),
        fields_file=str(tmp_path / "fields"),
    )
    asked = [(one.split(b" ")[1], one.rpartition(b"\r\n")[2]) for one in server.requests]
    assert sorted(asked) == [(b"/u/ann%20b", b"age=5")] * 2 + [(b"/u/bob", b"age=6")] * 2


@pytest.mark.slow
def test_the_warm_up_is_marked(drive):
    _, rows = drive(rate=20, warmup_s=0.5)
    assert [row["warmup"] for row in rows["client-1"]].count("1") == 10


@pytest.mark.slow
def test_one_after_another(drive):
    _, rows = drive(mode="sequential", requests=25)
    assert len(rows["client-1"]) == 25


@pytest.mark.slow
def test_a_search_leaves_its_steps(drive, tmp_path):
    drive(mode="find-max", find_max="p90 < 500 ms", rate=50, peak=100, step_s=0.4, duration_s=10)
    *steps, answer = json.loads((tmp_path / "out/steps.json").read_text())
    assert [step["offered_rate"] for step in steps] == [50, 100]
    assert all(step["held"] for step in steps) and answer == {"answer": {"held": 100, "failed": None}}


@pytest.mark.parametrize(
    ("rate", "connections", "apart"),
    [(2.0, 4, ("-r1", "500ms")), (800.0, 16, ("-r1", "1ms")), (20_000.0, 400, ("-r20", "1ms"))],
)
def test_h2loads_connections_are_made_apart(tmp_path, monkeypatch, rate, connections, apart):
    commands = []

    class Program:
        def __init__(self, command, **_):
            commands.append(command)
            log = next(word for word in command if word.startswith("--log-file=")).partition("=")[2]
            (tmp_path / log).write_text("1000000\t200\t500\n")

        def communicate(self, timeout):
            return "", ""

    monkeypatch.setattr(h2load.subprocess, "Popen", Program)
    monkeypatch.setattr(h2load.signal, "signal", lambda *_: None)
    made = plan(rate=rate)
    h2load.send(made, rate, 0, 1, 2.0, 0.0, tmp_path / "client-1.requests.csv.gz")
    assert {apart[0], f"--rate-period={apart[1]}", f"-c{connections}"} <= set(commands[0])


def test_h2loads_log_becomes_ours(tmp_path):
    raw, out = tmp_path / "h2load.log", tmp_path / "out.csv.gz"
    # Three of four were sent, the second late; the third failed.
    raw.write_text("1000000\t200\t500\n1130000\t200\t600\n1200000\t-1\t700\n")
    assert h2load.convert(raw, out, {"warmup_s": 0.05}, 10.0, 4) == 4
    with gzip.open(out, "rt") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["due_us"]) for row in rows] == [1_000_000, 1_100_000, 1_200_000, 1_300_000]
    assert [row["error"] for row in rows] == ["", "", "closed", "unsent"]
    assert [row["sent_us"] for row in rows] == ["1000000", "1130000", "1200000", ""]
    assert [row["warmup"] for row in rows] == ["1", "0", "0", "0"]
