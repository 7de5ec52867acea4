"""Sizes, sites and what is packed of them, the module that lets nothing bad through, and the program that asks."""

from __future__ import annotations

import http.server
import io
import json
import socket
import struct
import subprocess
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from tests.roles.modules import FIXTURES, load

httpd = load("roles/httpd/filter_plugins/httpd.py", "httpd_filters")
php = load("roles/php/filter_plugins/php.py", "php_filters")
haproxy = load("roles/haproxy/filter_plugins/haproxy.py", "haproxy_filters")
packing = load("roles/httpd/library/site_pack.py")
service = load("roles/web_service/library/web_service.py")
survey = load("roles/web_service/library/host_survey.py")
program = load("roles/web_service/files/labtool_web.py")


# --- sizes ------------------------------------------------------------------------------------------------------------


@given(st.integers(256, 1 << 21), st.integers(1, 128), st.integers(1, 256))
def test_workers_fit_the_memory_and_make_whole_processes(memory_mb, processors, threads):
    size = httpd.httpd_size(memory_mb, processors, 0.25, 1, threads)
    assert size["workers"] == size["threads"] * size["processes"]
    assert size["workers"] <= max(64, memory_mb * 0.25) and size["workers"] <= 4096
    assert 1 <= size["start"] <= size["processes"]


@given(st.integers(1, 20000))
def test_workers_that_were_asked_for_are_there(workers):
    size = httpd.httpd_size(2048, 2, 0.25, 1, 64, workers)
    assert size["workers"] == workers == size["threads"] * size["processes"] and size["threads"] <= 64


@given(st.integers(1, 20000), st.integers(1, 64))
def test_other_workers_need_no_restart_while_there_is_room(workers, processes):
    """Apache takes over its tables' sizes, and nothing else of these, at a start only."""
    asked = httpd.httpd_size(2048, 2, 0.25, 1, 64, workers)
    assert asked["processes"] <= asked["room"] <= 20000 and asked["threads"] <= asked["most_threads"]
    usual = httpd.httpd_size(2048, 2, 0.25, 1, 64)
    more = httpd.httpd_size(2048, 2, 0.25, 1, 64, 64 * processes)
    assert (more["room"], more["most_threads"]) == (usual["room"], usual["most_threads"])


def test_sizes_as_the_readmes_say():
    assert httpd.httpd_size(2048, 2, 0.25, 1, 64) == {
        "workers": 512, "threads": 64, "processes": 8, "start": 2, "room": 128, "most_threads": 64
    }  # fmt: skip
    assert php.php_children(2048, 0.5, 32) == 32
    assert (php.php_children(128, 0.5, 64), php.php_children(1 << 20, 0.5, 32), php.php_children(64, 0.5, 32, 7)) == (
        2,
        512,
        7,
    )


@pytest.mark.parametrize("wrong", [{"share": 0}, {"share": 1.5}, {"worker_mb": 0}, {"threads": 0}, {"workers": -1}])
def test_sizes_that_make_no_sense_are_named(wrong):
    with pytest.raises(AnsibleFilterError, match="httpd_"):
        httpd.httpd_size(**{"memory_mb": 2048, "processors": 2, "share": 0.25, "worker_mb": 1, "threads": 64} | wrong)


def test_memory_and_missing_programs(tmp_path):
    assert survey.memory_mb("MemFree: 1 kB\nMemTotal:        2097152 kB\n") == 2048
    assert survey.missing(["sh", "no-such-program", str(tmp_path), str(tmp_path / "no")]) == [
        "no-such-program",
        str(tmp_path / "no"),
    ]


# --- sites ------------------------------------------------------------------------------------------------------------


def sites(*made):
    return httpd.httpd_sites(made, "/var/www", 80, True, "/etc/apache2")


def test_sites_get_their_folders():
    shop, own = sites(
        {"name": "shop", "git": "x", "tls_certificate": "c", "tls_key": "k", "port": 443, "server_name": "shop.org"},
        {"name": "own", "root": "/srv/own", "php": False},
    )
    assert (shop["document_root"], shop["php"], shop["key"]) == (
        "/var/www/shop/current",
        True,
        "/etc/apache2/labtool-shop.key",
    )
    assert (own["document_root"], own["php"], own["port"], own["certificate"]) == ("/srv/own", False, 80, "")
    assert httpd.httpd_pages([shop, own], "/health") == [
        {"url": "https://127.0.0.1:443/health", "host": "shop.org"},
        {"url": "http://127.0.0.1:80/health", "host": ""},
    ]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([], "httpd_sites is empty"),
        ([{"name": "a"}], "site a of httpd_sites has no content: give it one of root, folder, archive, git"),
        ([{"name": "a", "root": "/a", "git": "b"}], "site a of httpd_sites has root and git"),
        ([{"name": "a", "root": "/a"}] * 2, "two sites named a"),
        ([{"name": "a", "root": "/a", "tls_key": "k"}], "needs tls_certificate and tls_key, or neither"),
    ],
)
def test_a_wrong_site_is_named(made, message):
    with pytest.raises(AnsibleFilterError, match=message):
        sites(*made)


def test_a_fronts_address_is_the_labs_own():
    known = {
        "a": {"labtool_private_address": "10.0.0.1", "ansible_host": "1.2.3.4"},
        "b": {"ansible_host": "1.2.3.5"},
        "c": {},
    }
    assert haproxy.haproxy_servers(list(known), known, 80) == {"a": "10.0.0.1:80", "b": "1.2.3.5:80", "c": "c:80"}


@pytest.fixture
def folder(tmp_path):
    site = tmp_path / "site"
    (site / "css").mkdir(parents=True)
    (site / "index.html").write_text("hello")
    (site / "css/a.css").write_text("a {}")
    (site / "run.sh").write_text("#!")
    (site / "run.sh").chmod(0o755)
    return site


def names(archive: str) -> dict[str, int]:
    with tarfile.open(archive) as tar:
        return {one.name: one.mode for one in tar}


def packed(tmp_path, check_mode=False, **wanted):
    return packing.site({"name": "s", **wanted}, tmp_path / "cache", check_mode)


def test_a_folder_is_packed_once(folder, tmp_path):
    (folder / ".git").mkdir()
    (folder / ".git/config").write_text("secret")
    before = packed(tmp_path, folder=str(folder), check_mode=True)
    assert not (tmp_path / "cache").exists()
    made = packed(tmp_path, folder=str(folder))
    assert made == before == packed(tmp_path, folder=str(folder))
    assert names(made["path"]) == {"site/index.html": 0o644, "site/css/a.css": 0o644, "site/run.sh": 0o755}
    (folder / "index.html").write_text("hello again")
    assert packed(tmp_path, folder=str(folder))["version"] != made["version"]


def test_links_are_taken_within_the_folder_and_refused_out_of_it(folder, tmp_path):
    (folder / "home.html").symlink_to("index.html")
    assert "site/home.html" in names(packed(tmp_path, folder=str(folder))["path"])
    (folder / "secret").symlink_to("/etc/passwd")
    with pytest.raises(packing.PackError, match="secret links to /etc/passwd, outside of"):
        packed(tmp_path, folder=str(folder))
    (folder / "secret").unlink()
    (folder / "css/up").symlink_to("..")
    with pytest.raises(packing.PackError, match="css/up links to a folder that holds it"):
        packed(tmp_path, folder=str(folder))


def test_archives_with_and_without_a_top_folder(folder, tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(folder, "release-1.0")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(folder / "index.html", "index.html")
        archive.write(folder / "css/a.css", "css/a.css")
    assert "site/css/a.css" in names(packed(tmp_path, archive=str(tmp_path / "a.tar.gz"))["path"])
    assert set(names(packed(tmp_path, archive=str(tmp_path / "a.zip"))["path"])) == {
        "site/index.html",
        "site/css/a.css",
    }


def test_an_archive_that_is_cut_or_unsafe_is_refused(tmp_path):
    (tmp_path / "cut.tar.gz").write_bytes(b"\x1f\x8b\x08\0\0\0\0\0\0\3abc")
    with pytest.raises(packing.PackError, match=r"cut\.tar\.gz is no tar or zip archive, or was cut"):
        packed(tmp_path, archive=str(tmp_path / "cut.tar.gz"))
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("../up"), io.BytesIO())
    with pytest.raises(packing.PackError, match=r"unsafe path \.\./up"):
        packed(tmp_path, archive=str(tmp_path / "bad.tar"))
    with pytest.raises(packing.PackError, match="is no file of this machine"):
        packed(tmp_path, archive=str(tmp_path / "none.tar"))


def git(folder: Path, *words: str) -> None:
    user = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *user, "-C", str(folder), *words], check=True, capture_output=True)


def test_a_git_commit_is_what_it_was(folder, tmp_path):
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    git(folder, "tag", "v1")
    url = str(folder)
    first = packed(tmp_path, git=url, commit="v1")
    (folder / "index.html").write_text("two")
    git(folder, "commit", "-qam", "two")
    assert packed(tmp_path, git=url, commit="v1") == first
    assert packed(tmp_path, git=url, commit="main")["version"] != first["version"]
    with pytest.raises(packing.PackError, match="has no commit, tag or branch v9"):
        packed(tmp_path, git=url, commit="v9")


@pytest.mark.parametrize(("url", "commit"), [("--upload-pack=x", "v1"), ("x", "-v"), ("x", "a..b"), ("x", "a b")])
def test_what_git_would_take_for_an_option_is_refused(tmp_path, url, commit):
    with pytest.raises(packing.PackError, match="no commit, tag or branch"):
        packed(tmp_path, git=url, commit=commit)


def test_an_empty_folder_is_no_site(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(packing.PackError, match="holds no files"):
        packed(tmp_path, folder=str(tmp_path / "empty"))


# --- the module -------------------------------------------------------------------------------------------------------


class Host:
    """systemctl and the service's test, as the module calls them."""

    def __init__(self, monkeypatch, tmp_path) -> None:
        self.active, self.accepts, self.prepared = True, True, 0
        self.calls: list[str] = []
        monkeypatch.setattr(service, "OWED", tmp_path / "owed")
        monkeypatch.setattr(service, "run", self.run)
        monkeypatch.setattr(service, "POLL_S", 0)

    def run(self, command, timeout=0):
        code, out = 0, ""
        if command[:2] == ["systemctl", "show"]:
            out = f"ActiveState={'active' if self.active else 'failed'}\nUnitFileState=enabled\nNeedDaemonReload=no\n"
        elif command == ["test"]:
            code, out = (0, "") if self.accepts else (1, "Syntax error on line 3")
        elif command == ["prepare"]:
            self.calls.append("prepare")
            code = self.prepared
        elif command[0] == "systemctl":
            self.calls.append(command[1])
        return subprocess.CompletedProcess(command, code, out, "")


@pytest.fixture
def host(monkeypatch, tmp_path):
    return Host(monkeypatch, tmp_path)


def configure(path, content, then="reload", check_mode=False, **more):
    file = {"path": str(path), "content": content, "mode": "0644", "then": then, "keep": False, "live": ""} | more
    arguments = {"unit": "x.service", "directories": [], "files": [file], "secrets": [], "absent": [], "test": ["test"]}
    arguments |= {"prepare": ["prepare"], "ready": ["ready"], "timeout": 1, "companions": []}
    return service.configure(arguments, check_mode)


def test_only_what_changed_reaches_the_unit(host, tmp_path):
    path = tmp_path / "x.conf"
    assert configure(path, "a", check_mode=True)["changed"] and not path.exists()
    assert configure(path, "a")["action"] == "reload"
    assert configure(path, "a") == {"changed": False, "changed_paths": [], "action": "", "diff": []}
    assert configure(path, "b", then="restart")["action"] == "restart"
    assert not configure(path, "b", then="restart")["changed"]
    assert host.calls == ["prepare", "reload", "prepare", "restart"]


def test_what_is_refused_is_put_back(host, tmp_path):
    path = tmp_path / "x.conf"
    configure(path, "good")
    host.accepts, host.calls = False, []
    with pytest.raises(service.ServiceError, match=r"(?s)refused.*x\.service was not touched.*Syntax error on line 3"):
        configure(path, "bad")
    assert path.read_text() == "good\n" and host.calls == []
    with pytest.raises(service.ServiceError):
        configure(tmp_path / "new.conf", "bad")
    assert not (tmp_path / "new.conf").exists()
    host.accepts = True
    assert not configure(path, "good")["changed"]


def test_what_an_interrupted_run_owed_is_done(host, tmp_path, monkeypatch):
    path = tmp_path / "x.conf"

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(service.Unit, "do", killed)
        with pytest.raises(KeyboardInterrupt):
            configure(path, "a", then="restart")
    assert path.read_text() == "a\n"
    assert configure(path, "a", then="restart")["action"] == "restart"
    assert not configure(path, "a", then="restart")["changed"]


def test_lines_that_are_live_need_no_reload_unless_the_service_says_so(host, tmp_path):
    path = tmp_path / "x.conf"
    live = {"live": "^  server "}
    configure(path, "mode http\n  server a", **live)
    host.calls = []
    assert configure(path, "mode http\n  server a\n  server b", **live)["changed"] and host.calls == ["prepare"]
    host.prepared = service.NEEDS_RELOAD
    assert configure(path, "mode http\n  server b", **live)["action"] == "reload"
    host.prepared = 1
    with pytest.raises(service.ServiceError, match="was not touched"):
        configure(path, "mode http\n  server c", **live)
    assert "server b" in path.read_text()


def test_what_was_there_before_is_kept_once_and_secrets_are_not_shown(host, tmp_path):
    path = tmp_path / "x.conf"
    path.write_text("the distribution's\n")
    configure(path, "ours", keep=True)
    configure(path, "ours again", keep=True)
    assert (tmp_path / "x.conf.before-labtool").read_text() == "the distribution's\n"
    assert service.Files([{"path": path, "content": "k", "mode": "0600", "secret": True}], []).differences() == []


def test_links_and_files_that_must_go_come_back_where_the_test_fails(tmp_path):
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "file").write_text("x")
    files = service.Files([], [str(tmp_path / name) for name in ("link", "file", "none")])
    files.write()
    assert list(tmp_path.iterdir()) == []
    files.restore()
    assert str((tmp_path / "link").readlink()) == "target" and (tmp_path / "file").read_text() == "x"


# --- the program ------------------------------------------------------------------------------------------------------


class Page(http.server.BaseHTTPRequestHandler):
    """Answers what `answers` says of its path."""

    answers: dict[str, str]

    def do_GET(self):
        path, _, query = self.path.partition("?")
        body = self.answers.get(path)
        self.send_response(200 if body is not None else 503)
        self.end_headers()
        self.wfile.write((body or "").replace("ECHO", query).encode())

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server():
    status = (FIXTURES / "web/server-status.txt").read_text()
    Page.answers = {"/server-status": status, "/echo": "ECHO", "/deaf": "hello"}
    made = http.server.HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


def test_mod_status(server):
    numbers = program.httpd_numbers({"status": f"{server}/server-status?auto", "workers": 512})
    assert numbers["BusyWorkers"] == 1 and numbers["IdleWorkers"] == 191 and numbers["MaxWorkers"] == 512
    assert numbers["Requests"] == 38935 and numbers["Bytes"] == 24063 * 1024


def test_a_page_must_have_the_nonce(server):
    program.page(f"{server}/echo")
    with pytest.raises(program.NoAnswerError, match="without the nonce"):
        program.page(f"{server}/deaf")
    with pytest.raises(program.NoAnswerError, match="answers 503"):
        program.page(f"{server}/none")
    with pytest.raises(program.NoAnswerError, match="is no page of mod_status"):
        program.httpd_numbers({"status": f"{server}/deaf", "workers": 1})


def haproxy_socket(tmp_path, answer):
    """A HAProxy that answers each command by `answer(command)`."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "s"))
    listening.listen()

    def serve():
        while True:
            try:
                stream, _ = listening.accept()
            except OSError:
                return
            with stream:
                stream.sendall(answer(stream.recv(4096).decode().strip()).encode())

    threading.Thread(target=serve, daemon=True).start()
    return listening


STAT = (FIXTURES / "web/show-stat.csv").read_text()


def test_haproxys_numbers(tmp_path):
    with haproxy_socket(tmp_path, lambda command: STAT if command == "show stat" else "Nbthread: 1\nDroppedLogs: 3\n"):
        numbers = program.haproxy_numbers({"socket": str(tmp_path / "s")})
    assert numbers["web.Requests"] == 11403, "a frontend's requests, not its connections"
    assert numbers["fronts.web-0.Up"] == 1 and numbers["fronts.web-0.Requests"] == 9467
    assert numbers["fronts.Requests"] == 11403 and numbers["DroppedLogs"] == 3


def test_fronts_come_and_go_while_haproxy_runs(tmp_path, server):
    commands: list[str] = []

    def answer(command):
        commands.append(command)
        return STAT if command == "show stat" else "New server registered." if "add" in command else "Server deleted."

    address = server.removeprefix("http://")
    watched = {
        "socket": str(tmp_path / "s"), "backend": "fronts", "fronts": {"web-1": address}, "server_options": "check",
        "health_path": "/echo", "health_host": "h", "wait_s": 0, "drain_s": 5,
    }  # fmt: skip
    with haproxy_socket(tmp_path, lambda c: answer(c) if "enable" not in c else (commands.append(c) or "")):
        program.balance(watched)
    assert [command for command in commands if command != "show stat"] == [
        f"add server fronts/web-1 {address} check",
        "enable health fronts/web-1",
        "enable server fronts/web-1",
        "set server fronts/web-0 state drain",
        "set server fronts/web-0 state maint",
        "del server fronts/web-0",
    ]


def test_a_front_that_does_not_answer_is_named_and_nothing_is_done(tmp_path, server):
    commands: list[str] = []
    watched = {
        "socket": str(tmp_path / "s"), "backend": "fronts", "fronts": {"web-7": server.removeprefix("http://")},
        "server_options": "check", "health_path": "/none", "health_host": "h", "wait_s": 0, "drain_s": 5,
    }  # fmt: skip
    with (
        haproxy_socket(tmp_path, lambda command: commands.append(command) or STAT),
        pytest.raises(program.NoAnswerError, match=r"do not answer their health check: web-7 .*503"),
    ):
        program.balance(watched)
    assert commands == ["show stat"]


def test_a_haproxy_that_is_too_old_is_reloaded(tmp_path, server):
    watched = {
        "kind": "haproxy", "socket": str(tmp_path / "s"), "backend": "fronts",
        "fronts": {"web-0": "198.18.32.4:80", "web-1": server.removeprefix("http://")}, "server_options": "check",
        "health_path": "/echo", "health_host": "h", "wait_s": 0, "drain_s": 5,
    }  # fmt: skip
    (tmp_path / "haproxy.json").write_text(json.dumps(watched))
    with haproxy_socket(tmp_path, lambda command: STAT if command == "show stat" else "Unknown command"):
        assert program.main(["balance", str(tmp_path / "haproxy.json")]) == service.NEEDS_RELOAD


def test_requests_that_wait_at_a_unix_socket(tmp_path):
    path = str(tmp_path / "listening")
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.bind(path)
        listening.listen(5)
        assert program.waiting(path) == 0
        client.connect(path)
        assert program.waiting(path) == 1
    with pytest.raises(program.NoAnswerError, match="nobody listens there"):
        program.waiting(path)


def test_fastcgi(tmp_path):
    asked: list[bytes] = []

    def answer(stream):
        asked.append(stream.recv(4096))
        body = b"Content-type: text/plain\r\n\r\npong"
        stream.sendall(struct.pack("!BBHHBx", 1, 6, 1, len(body), 3) + body + b"\0" * 3)
        stream.sendall(struct.pack("!BBHHBx", 1, 3, 1, 8, 0) + b"\0" * 8)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "fpm"))
        listening.listen()
        thread = threading.Thread(target=lambda: answer(listening.accept()[0]))
        thread.start()
        assert program.fastcgi(str(tmp_path / "fpm"), "/labtool-ping") == "pong"
        thread.join()
    assert b"SCRIPT_NAME/labtool-ping" in asked[0]


def test_columns_that_change_begin_a_new_file(tmp_path):
    recorder = program.Recorder(tmp_path, "haproxy")
    recorder.row(1000.0, {"b": 2, "a": 1.5})
    recorder.row(1001.0, {"b": 12345678, "a": 0.25})
    recorder.row(1002.0, {"a": 1, "b": 2, "c": 3})
    recorder.row(1002.0 + 3600, {"a": 1, "b": 2, "c": 3})
    assert (tmp_path / "haproxy-1000000.csv").read_text() == "time,a,b\n1000000,1.5,2\n1001000,0.25,12345678\n"
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "haproxy-1000000.csv",
        "haproxy-1002000.csv",
        "haproxy-4602000.csv",
    ]
