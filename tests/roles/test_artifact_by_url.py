"""A host that fetches the archive itself: broken connections, refusals, other archives, and SSH as the way out."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.roles.modules import ROOT, load

installing = load("roles/artifact/library/artifact_install.py", "artifact_install_by_url")
BIN = Path(sys.executable).parent


class Shop:
    """A server of one archive that can break off, refuse or ignore ranges; `asked` are the ranges asked for."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.cuts: list[int] = []  # bytes after which an answer breaks off, one a request
        self.refuse: list[int] = []
        self.ranges = True
        self.asked: list[str | None] = []
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                shop.asked.append(self.headers.get("Range"))
                if shop.refuse:
                    self.send_error(shop.refuse.pop(0))
                    return
                first = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if shop.ranges else 0
                if first >= len(shop.content):
                    self.send_error(416)
                    return
                rest = shop.content[first:]
                self.send_response(206 if first else 200)
                self.send_header("Content-Length", str(len(rest)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(rest[: shop.cuts.pop(0)] if shop.cuts else rest)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/a.tar?X-Amz-Signature=s3cret"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@pytest.fixture
def shop():
    made = Shop(bytes(range(256)) * 1000)
    yield made
    made.server.shutdown()
    made.server.server_close()


def sha512(content: bytes) -> str:
    return hashlib.sha512(content).hexdigest()


def test_a_broken_connection_is_taken_up_where_it_broke(shop, tmp_path):
    shop.cuts = [100_000, 50_000]
    installing.fetch(shop.url, tmp_path / "a", sha512(shop.content), pause_s=0)
    assert (tmp_path / "a").read_bytes() == shop.content
    assert shop.asked == [None, "bytes=100000-", "bytes=150000-"]


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 300), max_size=4), ranges=st.booleans(), size=st.integers(1, 300))
def test_whatever_breaks_the_archive_is_whole(tmp_path_factory, cuts, ranges, size):
    content = os.urandom(size)
    made = Shop(content)
    made.cuts, made.ranges = list(cuts), ranges
    try:
        into = tmp_path_factory.mktemp("into") / "a"
        installing.fetch(made.url, into, sha512(content), pause_s=0)
        assert into.read_bytes() == content
    finally:
        made.server.shutdown()
        made.server.server_close()


def test_a_server_in_trouble_is_asked_again_and_a_refusal_is_final(shop, tmp_path):
    shop.refuse = [503, 500]
    installing.fetch(shop.url, tmp_path / "a", sha512(shop.content), pause_s=0)
    shop.refuse, shop.asked = [403, 403], []
    with pytest.raises(installing.UnavailableError, match=r"^HTTP 403$"):
        installing.fetch(shop.url, tmp_path / "a", sha512(shop.content), pause_s=0)
    assert len(shop.asked) == 1


def test_without_progress_it_ends(shop, tmp_path):
    shop.cuts = [0] * 10
    with pytest.raises(installing.UnavailableError, match="5 times"):
        installing.fetch(shop.url, tmp_path / "a", sha512(shop.content), pause_s=0)
    assert len(shop.asked) == 5


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://127.0.0.1:9/s3cret", "ftp://x/s3cret"])
def test_what_it_says_never_names_the_url(url, tmp_path):
    with pytest.raises(installing.UnavailableError) as said:
        installing.fetch(url, tmp_path / "a", "0" * 128, attempts=1)
    assert "s3cret" not in str(said.value) and "passwd" not in str(said.value)


def test_another_archive_is_not_used(shop, tmp_path):
    with pytest.raises(installing.UnavailableError, match="another archive"):
        installing.fetch(shop.url, tmp_path / "a", "0" * 128)


@pytest.fixture
def role(tmp_path, shop):
    """Run the role on this machine by a local connection; returns Ansible's output and the folder installed to."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("thing-1/bin/run")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"hello"))
    shop.content = packed.getvalue()
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "thing-1.tar.gz").write_bytes(shop.content)
    (tmp_path / "play.yml").write_text("- hosts: all\n  gather_facts: false\n  roles: [artifact]\n")

    def play(folder="opt", **more):
        values = {
            "artifact_name": "thing",
            "artifact_version": "1",
            "artifact_sha512": sha512(shop.content),
            "artifact_cache": str(cache),
            "artifact_directory": str(tmp_path / folder),
            "ansible_become": False,
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            **more,
        }
        done = subprocess.run(
            [BIN / "ansible-playbook", "-v", "-i", "one,", "-e", json.dumps(values), "play.yml"],
            cwd=tmp_path,
            env={**os.environ, "ANSIBLE_ROLES_PATH": str(ROOT / "roles"), "ANSIBLE_STRATEGY": "linear"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert (tmp_path / folder / "current/bin/run").read_text() == "hello"
        return done.stdout + done.stderr

    return play


@pytest.mark.slow
def test_the_host_fetches_what_was_published_and_nobody_sees_where(role, shop, tmp_path):
    program = tmp_path / "publish"
    program.write_text(f"#!/bin/sh\necho \"$@\" >>{tmp_path}/published\necho '{shop.url}'\n")
    program.chmod(0o755)
    said = role(artifact_publish=[str(program), "--now"])
    assert shop.asked == [None]
    assert "s3cret" not in said and "sent over SSH" not in said
    archive = tmp_path / "cache/thing-1.tar.gz"
    assert (tmp_path / "published").read_text() == f"--now {archive} {sha512(shop.content)}\n"
    assert "changed=0" in role(artifact_publish=[str(program), "--now"])
    assert len((tmp_path / "published").read_text().splitlines()) == 1
    assert shop.asked == [None]


@pytest.mark.slow
def test_where_it_cannot_be_had_it_comes_over_ssh_and_is_said(role, shop):
    shop.refuse = [403]
    said = role(artifact_url=shop.url)
    assert "could not fetch thing-1.tar.gz (HTTP 403): sent over SSH" in " ".join(said.split())
    said = role("second", artifact_publish=["sh", "-c", "echo no bucket today >&2; exit 1"])
    assert "(no bucket today): sent over SSH" in " ".join(said.split())
    said = role("third", artifact_publish=["true"])
    assert "(nobody said where): sent over SSH" in " ".join(said.split())
