"""The web stack by labtool's own commands: load, another front in its middle, and what client and servers counted."""

from __future__ import annotations

import json
import time

import pytest

from labtool.dataset import query
from labtool.dataset.run import RunDirectory

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(600)]
LAB = ("--lab", "web")
STACK = ("deploy", "web", "--balancer", *LAB)


@pytest.fixture(scope="module")
def deployed(labtool):
    made = labtool.json(*STACK, "--fronts", "1")
    yield made
    labtool.run("down", *LAB)


def rows(run, sql):
    return query.connect(RunDirectory(run)).sql(sql).fetchall()


def findings(run):
    found = json.loads((run / "summary.json").read_text())["findings"]
    return {one["id"]: one for one in found}


def test_a_front_joins_while_load_goes_on_and_no_request_fails(labtool, deployed):
    assert deployed["changed"] > 0
    load = labtool.start("run", "http-load", *LAB, "--minutes", "1.2", "--rate", "50", "--warmup", "5")
    until = time.monotonic() + 120  # the clocks are measured just before the load
    while not any((labtool.folder / "runs/web").glob("*/raw/clock.jsonl")) and time.monotonic() < until:
        time.sleep(0.5)
    told = labtool.run("down", *LAB, code=1).stderr
    assert "run http-load" in told and str(load.pid) in told, "what is measured is not ended"
    assert labtool.json(*STACK, "--fronts", "2")["changed"] > 0
    assert load.wait(240) == 0
    run = labtool.folder / "runs/web/latest"
    ((sent, failed),) = rows(run, "select count(*), count(*) filter (error <> '') from requests")
    assert (sent, failed) == (3600, 0)
    # Equal to a request, matched by its id; and the client saw no shorter times than the servers.
    ((balanced, served),) = rows(
        run,
        """
        select count(*) filter (l.service = 'haproxy'), count(*) filter (l.service = 'httpd')
        from requests r join access_log l on l.request_id = r.id
        """,
    )
    assert balanced == 3600 and 0 < served <= 3600
    # Not request by request: httpd ends its clock when it logs, which on a busy machine can be after the client's end.
    ((client, server),) = rows(
        run,
        """
        select quantile_disc(r.latency_s, [0.5, 0.9, 0.99]), quantile_disc(l.duration_s, [0.5, 0.9, 0.99])
        from requests r join access_log l on l.request_id = r.id where l.service = 'httpd'
        """,
    )
    assert all(seen >= served for seen, served in zip(client, server, strict=True)), (client, server)
    said = findings(run)
    assert said["server.counts"]["severity"] == "ok" and said["load.errors"]["severity"] == "ok"
    assert (run / "report.html").stat().st_size > 50_000
    record = json.loads((run / "run.json").read_text())
    assert {"what": "what it did", "host": "web-1", "why": "it joined the lab in the window"} in record["missing"]


def test_again_changes_nothing(labtool, deployed):
    assert labtool.json(*STACK)["changed"] == 0


def test_what_cannot_be_sent_is_refused_with_the_way_out(labtool, deployed):
    foreign = labtool.run("run", "http-load", *LAB, "--minutes", "0.2", "--url", "http://www.example/", code=1)
    assert "type --i-may-load www.example" in foreign.stderr
    missing = labtool.run("run", "http-load", *LAB, "--body", "nowhere.txt", code=2)
    assert "--body: 'nowhere.txt' is not a file or folder that is there" in missing.stderr
