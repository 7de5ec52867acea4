from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from labtool.localcloud import packages
from labtool.localcloud.packages import PackageCache, seed_line

DEB = bytes(range(256)) * 4096  # 1 MiB


class Mirror:
    """A package source that counts its requests."""

    def __init__(self):
        mirror = self
        self.requests: list[str] = []
        self.release = threading.Event()
        self.release.set()
        self.cut = False
        self.headers = {}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                mirror.requests.append(self.path)
                mirror.headers = dict(self.headers)
                if self.path.endswith("missing.deb"):
                    self.send_error(404)
                    return
                if self.path == "/away":
                    self.send_response(302)
                    self.send_header("Location", "http://127.0.0.1:1/metadata")
                    self.end_headers()
                    return
                if self.headers.get("If-Modified-Since"):
                    self.send_response(304)
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(DEB)))
                self.end_headers()
                self.wfile.write(DEB[:1000])
                self.wfile.flush()
                mirror.release.wait(10)
                if not mirror.cut:
                    self.wfile.write(DEB[1000:])

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def mirror():
    made = Mirror()
    yield made
    made.release.set()
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def cache(tmp_path, mirror, monkeypatch):
    monkeypatch.setattr(packages, "PORT", 0)
    made = PackageCache(tmp_path / "packages", "127.0.0.1", (mirror.host,))
    made.start()
    yield made
    made.stop()


def fetch(cache, url, **headers):
    proxy = f"http://127.0.0.1:{cache._server.server_port}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy}))
    with opener.open(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return answer.read()


def test_a_package_is_fetched_once(cache, mirror):
    url = f"http://{mirror.host}/pool/a_1%3a1.0_amd64.deb"
    assert fetch(cache, url) == DEB
    assert fetch(cache, url) == DEB
    assert mirror.requests == ["/pool/a_1%3a1.0_amd64.deb"]
    assert (cache.folder / mirror.host / "pool" / "a_1:1.0_amd64.deb").read_bytes() == DEB


def test_hosts_that_ask_at_the_same_time_share_one_download(cache, mirror):
    mirror.release.clear()
    got = []
    threads = [
        threading.Thread(target=lambda: got.append(fetch(cache, f"http://{mirror.host}/b.deb"))) for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 5
    while not mirror.requests and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)  # all ten have asked
    mirror.release.set()
    for thread in threads:
        thread.join(10)
    assert got == [DEB] * 10
    assert mirror.requests == ["/b.deb"]


def test_a_cut_download_is_not_kept(cache, mirror):
    mirror.cut = True
    with pytest.raises((OSError, urllib.error.URLError, Exception)):
        fetch(cache, f"http://{mirror.host}/c.deb")
    mirror.cut = False
    assert fetch(cache, f"http://{mirror.host}/c.deb") == DEB
    assert len(mirror.requests) == 2
    deadline = time.monotonic() + 5
    while list(cache.folder.rglob("*.partial")):  # the last byte may be here before the file has its name
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_lists_are_passed_through_with_their_conditions(cache, mirror):
    fetch(cache, f"http://{mirror.host}/dists/InRelease")
    fetch(cache, f"http://{mirror.host}/dists/InRelease")
    assert len(mirror.requests) == 2
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetch(cache, f"http://{mirror.host}/dists/InRelease", **{"If-Modified-Since": "yesterday"})
    assert caught.value.code == 304
    assert not list(cache.folder.rglob("InRelease"))


def test_what_is_missing_is_missing(cache, mirror):
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetch(cache, f"http://{mirror.host}/missing.deb")
    assert caught.value.code == 404


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest/meta-data/", "http://other.example/x.deb"])
def test_other_hosts_are_refused(cache, url):
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetch(cache, url)
    assert caught.value.code == 403


def test_a_redirect_to_the_machine_itself_is_refused(cache, mirror):
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetch(cache, f"http://{mirror.host}/away")
    assert caught.value.code == 403


@pytest.mark.parametrize("path", ["/../../etc/x.deb", "/%2e%2e/%2e%2e/%2e%2e/x.deb", "/x.deb?version=2"])
def test_no_name_leads_out_of_the_cache(cache, mirror, path):
    file = cache.file_for(f"http://{mirror.host}{path}")
    assert file is None or file.is_relative_to(cache.folder)


def test_the_oldest_packages_go_when_there_are_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "PORT", 0)
    monkeypatch.setattr(packages, "_KEPT_BYTES", 250)
    import os

    for age, name in enumerate(("new", "old", "oldest")):
        (tmp_path / f"{name}.deb").write_bytes(b"x" * 100)
        os.utime(tmp_path / f"{name}.deb", (1e9 - age, 1e9 - age))
    cache = PackageCache(tmp_path, "127.0.0.1", ())
    cache._server.server_close()
    assert sorted(file.stem for file in tmp_path.glob("*.deb")) == ["new", "old"]


def test_hosts_are_told_only_of_a_cache_that_serves_something():
    assert seed_line("198.18.0.1", ("deb.example", "b:8080")) == "198.18.0.1 3142 deb.example b:8080"
    assert seed_line("198.18.0.1", ()) == ""
