"""The sender: what it sends and when, and what it notes of every way in which a request can end."""

from __future__ import annotations

import csv
import gzip
import os
import signal
import threading
import time

import pytest

from tests.roles.modules import load

replayer = load("playbooks/workloads/files/http_replay.py", "http_replay")


@pytest.fixture
def send(server, tmp_path):
    def go(requests, *, ahead=0.05, until=None, targets=None, **settings):
        log = replayer.Log(tmp_path / "log.csv.gz")
        parsed = tuple(replayer.Target.parse(url) for url in targets or [server.url])
        told = replayer.replay(requests, replayer.Settings("t", parsed, **settings), log, time.time() + ahead, until)
        log.close()
        with gzip.open(tmp_path / "log.csv.gz", "rt") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == told["requests"]
        return told, rows

    return go


def get(path, due=0.0, **more):
    return replayer.Request(due, "GET", path, path, **more)


def ms(row, since, until="done_us"):
    return (int(row[until]) - int(row[since])) / 1000


def test_every_request_is_sent_when_it_is_due(send, server):
    told, rows = send(get(f"/{k}", k * 0.01) for k in range(50))
    assert told["errors"] == {} and len(server.requests) == 50
    due = [int(row["due_us"]) for row in rows]
    assert sorted(due) == list(range(min(due), min(due) + 500_000, 10_000))
    assert all(ms(row, "due_us", "sent_us") >= 0 for row in rows)
    assert {(row["status"], row["bytes"], row["error"]) for row in rows} == {("200", "5", "")}


def test_a_slow_server_does_not_slow_the_sender(send, server):
    told, rows = send(get("/slow/0.4", k * 0.01) for k in range(20))
    assert told["connections_most"] == 20, "each waits on a connection of its own"
    assert max(ms(row, "due_us", "sent_us") for row in rows) < 200
    assert all(ms(row, "sent_us") >= 400 for row in rows)


def test_waiting_for_a_connection_counts_as_latency(send):
    told, rows = send((get("/slow/0.1") for _ in range(4)), connections=1)
    assert told["waited_for_connection"] == 3
    assert sorted(round(ms(row, "due_us") / 100) for row in rows)[-1] >= 4
    assert min(ms(row, "sent_us") for row in rows) >= 100, "the service time is the server's alone"


def test_connections_are_kept_unless_told_not_to(send, server):
    told, _ = send([get("/a", k * 0.02) for k in range(5)])
    assert server.connections == told["connections_most"], "no more of them than were needed at one time"
    before = server.connections
    send([get("/a", k * 0.02) for k in range(5)], keep_alive=False)
    assert server.connections == before + 5


@pytest.mark.parametrize(
    ("path", "size", "error", "status"),
    [
        ("/chunked/1", 12, "", "200"),
        ("/chunked/7", 12, "", "200"),
        ("/chunked/500", 12, "", "200"),
        ("/until-close", 5, "", "200"),
        ("/interim", 5, "", "200"),
        ("/status/503", 5, "status", "503"),
        ("/drop", 0, "closed", ""),
        ("/garbage", 0, "protocol", ""),
        ("/hang", 0, "timeout", ""),
    ],
)
def test_how_a_request_ends(send, path, size, error, status):
    _, (row,) = send([get(path)], timeout_s=0.3)
    assert (row["bytes"], row["error"], row["status"]) == (str(size), error, status)
    if error == "timeout":
        assert ms(row, "sent_us") >= 300


def test_nobody_listens(send):
    _, (row,) = send([get("/")], targets=["http://127.0.0.1:1"])
    assert (row["error"], row["status"]) == ("refused", "")


def test_what_never_got_a_connection_was_never_sent(send):
    _, rows = send([get("/hang"), get("/later", 0.01)], connections=1, timeout_s=0.3)
    assert {row["error"] for row in rows} <= {"timeout", "unsent", ""} and rows[0]["error"] == "timeout"


def test_a_connection_that_closed_while_idle_is_not_the_servers_failure(send, server):
    told, rows = send([get("/once"), get("/once", 0.1)])
    assert told["retried"] == 1 and [row["error"] for row in rows] == ["", ""]
    post = replayer.Request(0.1, "POST", "/once", "x", body=b"a=1")
    told, rows = send([get("/once"), post])
    assert told["retried"] == 0 and rows[1]["error"] == "closed", "what changes something is not sent twice"


def test_headers_bodies_and_ids(send, server):
    request = replayer.Request(0, "POST", "/p?q=1", "update", (("X-A", "b"),), b"payload=1", None)
    _, (row,) = send([request])
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /p?q=1 HTTP/1.1" and body == b"payload=1"
    assert {b"X-A: b", b"Content-Length: 9", f"X-Request-Id: {row['id']}".encode()} <= set(lines)


def test_ids_are_not_those_of_an_earlier_run(send):
    first = {row["id"] for row in send([get("/a", k * 0.001) for k in range(5)])[1]}
    again = {row["id"] for row in send([get("/a", k * 0.001) for k in range(5)])[1]}
    assert len(first | again) == 10


def test_a_follow_up_comes_after_its_answer(send, server):
    follow = replayer.Request(0.2, "GET", "/update", "update")
    told, rows = send([get("/slow/0.1", follow=follow), get("/other", 0.05), get("/last", 0.5)])
    by = {told["endpoints"][int(row["endpoint"])]: row for row in rows}
    assert set(by) == {"/slow/0.1", "update", "/other", "/last"}
    assert 199 <= (int(by["update"]["due_us"]) - int(by["/slow/0.1"]["done_us"])) / 1000 <= 201
    assert ms(by["update"], "due_us", "sent_us") < 100


def test_nothing_follows_a_failure(send):
    _, rows = send([get("/status/500", follow=get("/never", 0.01))])
    assert len(rows) == 1


def test_several_servers_take_turns(send, server):
    with_prefix = [server.url + "/one", server.url + "/two"]
    send([get("/x", k * 0.01) for k in range(4)], targets=with_prefix)
    assert sorted(request.split(b" ")[1] for request in server.requests) == [b"/one/x"] * 2 + [b"/two/x"] * 2


def test_the_end_of_the_time_ends_the_sending(send):
    told, rows = send((get("/", k * 0.01) for k in range(10**9)), until=0.2)
    assert told["cut"] and len(rows) == 20


@pytest.mark.slow
def test_sigterm_ends_it_and_keeps_what_was_done(send):
    threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGTERM)).start()
    began = time.monotonic()
    told, rows = send(get("/hang" if k == 5 else "/", k * 0.02) for k in range(10**6))
    assert told["cut"] and time.monotonic() - began < 3
    assert sum(1 for row in rows if row["error"] == "stopped") == 1 and len(rows) > 5


@pytest.mark.slow
def test_a_stall_is_in_the_latencies_of_all_that_were_due_in_it(send, server):
    def requests():
        for k in range(100):
            if k == 25:
                server.stalled_until = time.monotonic() + 0.5
            yield get("/", k * 0.01)

    _, rows = send(requests())
    slow = sorted(ms(row, "due_us") for row in rows)[-40:]
    # Those due in the stall waited from 0.5 s down to nothing.
    assert slow[-1] > 400 and slow[20] > 150


def test_one_after_another(server, tmp_path):
    log = replayer.Log(tmp_path / "log.csv.gz")
    settings = replayer.Settings("t", (replayer.Target.parse(server.url),))
    told = replayer.one_after_another([get("/slow/0.02") for _ in range(10)], settings, log)
    log.close()
    assert told["requests"] == 10 and server.connections == 1
    with gzip.open(tmp_path / "log.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    ends = [int(row["done_us"]) for row in rows]
    assert all(int(row["due_us"]) >= end for row, end in zip(rows[1:], ends, strict=False))


@pytest.mark.parametrize("url", ["ftp://x", "http://", "nonsense"])
def test_what_is_no_url(url):
    with pytest.raises(ValueError, match="is no http:// or https:// URL"):
        replayer.Target.parse(url)


def test_ipv6_and_ports():
    target = replayer.Target.parse("https://[::1]:8443/base/")
    assert (target.host, target.port, target.tls, target.prefix, target.authority) == (
        "::1", 8443, True, "/base", "[::1]:8443",
    )  # fmt: skip
