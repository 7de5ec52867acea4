"""What httpd, HAProxy and the recorders wrote on a host (fixtures/web), as tables."""

from __future__ import annotations

import gzip
import shutil
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from labtool.dataset import compressed, parsers, tables
from labtool.errors import DataError
from tests.roles.modules import FIXTURES, ROOT, load

web = load("playbooks/web.py", "web_stack")
SAMPLES = FIXTURES / "web"


@pytest.fixture
def logs(tmp_path):
    """Logs as they are collected from a front and a balancer."""
    apache = tmp_path / "web-0/files/var/log/apache2"
    haproxy = tmp_path / "balancer-0/files/var/log/haproxy"
    for folder in (apache, haproxy):
        folder.mkdir(parents=True)
    compressed.write(apache / "labtool-access.log.zst", (SAMPLES / "httpd-access.log").read_bytes())
    compressed.write(haproxy / "access.log.zst", (SAMPLES / "haproxy-access.log").read_bytes())
    for host, services in (("web-0", ("httpd", "php")), ("balancer-0", ("haproxy",))):
        folder = tmp_path / host / "metrics/var/log/labtool/web"
        folder.mkdir(parents=True)
        for service in services:
            for file in SAMPLES.glob(f"{service}-[0-9]*.csv"):
                shutil.copy(file, folder)
    return tmp_path


def access(logs):
    return tables.checked("access_log", web.parse_logs(logs)["access_log"], "test").to_pylist()


def test_requests_of_both(logs):
    made = parsers.stack(ROOT / "playbooks/web.py", logs)
    assert set(made) == {"access_log", "service_metrics"}
    rows = tables.checked("access_log", made["access_log"], "test").to_pylist()
    assert [row["host"] for row in rows] == ["balancer-0"] * 5 + ["web-0"] * 11
    work = next(row for row in rows if row["path"] == "/work.php?ms=20")
    assert work == {
        "time": datetime(2026, 11, 21, 17, 32, 7, 655574, tzinfo=UTC),
        "host": "web-0",
        "service": "httpd",
        "duration_s": 0.028165,
        "status": 200,
        "bytes": 37,
        "method": "GET",
        "path": "/work.php?ms=20",
        "request_id": "",
        "client": "198.18.32.5",
        "backend": "php",
    }
    static = [row for row in rows if row["path"] == "/index.html?x=1"]
    assert [(row["service"], row["backend"]) for row in static] == [("haproxy", "web-0"), ("httpd", "")]
    assert static[0]["duration_s"] == pytest.approx(0.000899) and static[0]["time"] < static[1]["time"]


def test_one_id_leads_from_the_balancer_to_the_front(logs):
    ids = [row["request_id"] for row in access(logs) if row["path"] == "/decision.php"]
    assert len(ids) == 4 and len(set(ids)) == 2 and all(ids)


def test_the_roles_own_questions_are_left_out(logs):
    assert (SAMPLES / "httpd-access.log").read_text().count("labtool-check") == 3
    assert not [row for row in access(logs) if row["request_id"] == web.CHECK_ID]


def test_a_request_that_could_not_be_read(logs):
    unread = [row for row in access(logs) if row["status"] == 400 and row["service"] == "haproxy"]
    assert [(row["method"], row["path"], row["backend"], row["duration_s"]) for row in unread] == [("", "", "", None)]
    assert unread[0]["time"] == datetime(2026, 11, 21, 17, 32, 7, 790000, tzinfo=UTC)


LINE = "1795282327655574\t28165\t200\t37\tGET\t/x\t-\t198.18.32.5\t-\n"


def httpd_log(tmp_path, content: bytes, name: str = "labtool-access.log"):
    file = tmp_path / "web-0/files/var/log/apache2" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return tmp_path


def test_a_cut_last_line_is_left_out(tmp_path):
    logs = httpd_log(tmp_path, (LINE * 2 + LINE[:-3]).encode())
    made = web.parse_logs(logs)
    assert made["access_log"].num_rows == 2 and "service_metrics" not in made


@pytest.mark.parametrize(
    "broken", ["1795282327655574\t28165\n", LINE.replace("200", "2OO"), "\0\0\0\n", LINE[:30] + LINE]
)
def test_broken_lines_are_counted(tmp_path, broken):
    made = web.parse_logs(httpd_log(tmp_path, (LINE + broken + LINE).encode()))
    assert made["access_log"].num_rows == 2
    if not broken.startswith("\0"):  # with no tab in it, it may be a server's own message
        (row,) = made["service_metrics"].to_pylist()
        assert (row["service"], row["metric"], row["value"]) == ("httpd", "BrokenLogLines", 1.0)


def test_bytes_that_are_no_text_lose_no_line(tmp_path):
    logs = httpd_log(tmp_path, LINE.encode() + LINE.replace("/x", "/\xff").encode("latin-1") + LINE.encode())
    assert [row["path"] for row in access(logs)] == ["/x", "/\ufffd", "/x"]


def test_a_log_of_something_else_is_named(tmp_path):
    logs = httpd_log(tmp_path, b'127.0.0.1 - - [x] "GET /\tHTTP/1.1" 200 5\n' * 3)
    with pytest.raises(DataError, match=r"labtool-access\.log:1: 2 fields between tabs, expected 9"):
        web.parse_logs(logs)


def test_rotated_logs_and_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "PIECE", 100)  # lines lie across pieces
    httpd_log(tmp_path, (LINE * 7).encode())
    logs = httpd_log(tmp_path, gzip.compress((LINE * 5).encode()), "labtool-access.log.2.gz")
    assert web.parse_logs(logs)["access_log"].num_rows == 12


def values(logs, service, metric):
    rows = web.parse_logs(logs)["service_metrics"].to_pylist()
    return [row["value"] for row in rows if (row["service"], row["metric"]) == (service, metric)]


def test_numbers_over_time(logs):
    assert values(logs, "httpd", "MaxWorkers") == [512.0] * 5
    assert values(logs, "httpd", "Requests.Rate") == pytest.approx([1.0] * 4, abs=0.3)
    assert values(logs, "php", "ListenQueue") == [0.0] * 5
    assert values(logs, "haproxy", "fronts.web-0.Up")[0] == 1.0
    units = {row["metric"]: row["unit"] for row in web.parse_logs(logs)["service_metrics"].to_pylist()}
    assert units["Bytes"] == "bytes" and units["Bytes.Rate"] == "bytes/s" and units["Requests.Rate"] == "operations/s"
    checked = tables.checked("service_metrics", web.parse_logs(logs)["service_metrics"], "test")
    assert isinstance(checked, pa.Table) and checked["time"].null_count == 0


def numbers(tmp_path, text: str):
    file = tmp_path / "web-0/metrics/var/log/labtool/web/php-1.csv"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return tmp_path


def test_a_service_that_was_started_again_gives_no_rate(tmp_path):
    logs = numbers(tmp_path, "time,Requests\n1000,100\n2000,5\n4000,25\n")
    assert values(logs, "php", "Requests.Rate") == [10.0]


def test_a_cut_row_is_left_out_and_another_is_named(tmp_path):
    assert values(numbers(tmp_path / "cut", "time,Requests\n1000,100\n2000,1"), "php", "Requests") == [100.0]
    with pytest.raises(DataError, match=r"php-1\.csv: .*#3.*"):
        web.parse_logs(numbers(tmp_path / "broken", "time,Requests\n1000,100\n2000\n3000,1\n"))
    with pytest.raises(DataError, match="expected time"):
        web.parse_logs(numbers(tmp_path / "other", "a,b\n1,2\n"))


def test_hosts_without_a_web_service(tmp_path):
    (tmp_path / "load-0/files").mkdir(parents=True)
    assert web.parse_logs(tmp_path) == {}
