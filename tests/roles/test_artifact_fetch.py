"""The artifact is fetched once, from the first source that has it, and only ever as what it should be."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import tarfile
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tests.roles.modules import load

fetching = load("roles/artifact/library/artifact_fetch.py")
CONTENT = b"an archive" * 1000
SHA512 = hashlib.sha512(CONTENT).hexdigest()


class Site:
    """A web server that remembers what it was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.asked: list[str] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                site.asked.append(self.path)
                content = site.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if self.path in site.cut else content)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, folder: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{folder}"


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = Site()
    yield served
    served.server.shutdown()
    served.server.server_close()


def arguments(tmp_path, **changes):
    return {
        "name": "thing",
        "version": "1.0",
        "filename": "thing-1.0.tgz",
        "cache": str(tmp_path / "cache"),
        "mirror": "",
        "sites": [],
        "sha512": "",
        "maven": [],
        "maven_alone": False,
        "maven_sha512": "",
        "pip": "",
        "pip_members": [],
        "pip_sha512": "",
        "connect_timeout": 2,
    } | changes


def run(tmp_path, check_mode=False, **changes):
    return fetching.Fetch(arguments(tmp_path, **changes)).run(check_mode)


def test_site_with_its_checksum(site, tmp_path):
    site.files = {"/now/thing-1.0.tgz": CONTENT, "/now/thing-1.0.tgz.sha512": f"{SHA512}  thing-1.0.tgz\n".encode()}
    first = run(tmp_path, sites=[site.url("now")])
    assert (first["changed"], first["sha512"], first["source"]) == (True, SHA512, "site")
    record = json.loads((tmp_path / "cache/thing-1.0.tgz.json").read_text())
    assert record["sha512"] == SHA512 and record["size"] == len(CONTENT) and record["origin"].endswith("thing-1.0.tgz")
    asked = len(site.asked)
    second = run(tmp_path, sites=[site.url("now")])
    assert second["changed"] is False and second["path"] == first["path"]
    assert len(site.asked) == asked


def test_order_is_mirror_then_site_then_archive(site, tmp_path):
    site.files = {"/old/thing-1.0.tgz": CONTENT}
    folders = {"mirror": site.url("mirror"), "sites": [site.url("now"), site.url("old")], "sha512": SHA512}
    assert run(tmp_path, **folders)["origin"].startswith(site.url("old"))
    assert site.asked == ["/mirror/thing-1.0.tgz", "/now/thing-1.0.tgz", "/old/thing-1.0.tgz"]


def test_mirror_is_never_asked_for_the_checksum(site, tmp_path):
    site.files = {"/mirror/thing-1.0.tgz": CONTENT, "/mirror/thing-1.0.tgz.sha512": SHA512.encode()}
    with pytest.raises(fetching.SourceError, match="no checksum to verify it with"):
        run(tmp_path, mirror=site.url("mirror"))
    assert not any(path.endswith(".sha512") for path in site.asked)


def test_mirror_is_taken_with_the_sites_checksum(site, tmp_path):
    site.files = {"/mirror/thing-1.0.tgz": CONTENT, "/now/thing-1.0.tgz.sha512": SHA512.encode()}
    assert run(tmp_path, mirror=site.url("mirror"), sites=[site.url("now")])["source"] == "mirror"


@pytest.mark.parametrize("what", ["cut", "altered"])
def test_bad_download_is_refused_and_the_next_source_asked(site, tmp_path, what):
    site.files = {"/bad/thing-1.0.tgz": CONTENT, "/good/thing-1.0.tgz": CONTENT}
    if what == "cut":
        site.cut = {"/bad/thing-1.0.tgz"}
    else:
        site.files["/bad/thing-1.0.tgz"] = CONTENT.replace(b"a", b"b")
    result = run(tmp_path, sites=[site.url("bad"), site.url("good")], sha512=SHA512)
    assert result["origin"].startswith(site.url("good"))
    with pytest.raises(fetching.SourceError, match="cut short" if what == "cut" else "SHA-512"):
        run(tmp_path / "other", sites=[site.url("bad")], sha512=SHA512)
    assert [path.name for path in (tmp_path / "other/cache").iterdir() if not path.name.endswith(".lock")] == []


@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b"x" + b[1:], lambda _: b""])
def test_damaged_cache_is_fetched_again(site, tmp_path, damage):
    site.files = {"/now/thing-1.0.tgz": CONTENT}
    first = run(tmp_path, sites=[site.url("now")], sha512=SHA512)
    archive = tmp_path / "cache/thing-1.0.tgz"
    archive.write_bytes(damage(CONTENT))
    again = run(tmp_path, sites=[site.url("now")], sha512=SHA512)
    assert again["changed"] and again["sha512"] == first["sha512"]
    assert archive.read_bytes() == CONTENT


def test_file_put_by_hand_needs_a_checksum(tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "thing-1.0.tgz").write_bytes(CONTENT)
    with pytest.raises(fetching.SourceError):
        run(tmp_path)
    assert (cache / "thing-1.0.tgz").exists(), "what somebody put there is theirs"
    (cache / "thing-1.0.tgz.sha512").write_text(f"{SHA512}  thing-1.0.tgz\n")
    assert run(tmp_path)["source"] == "cache"


def test_unreachable_site_is_given_up_soon(tmp_path):
    began = time.monotonic()
    with pytest.raises(fetching.SourceError, match=r"no-such-host\.invalid"):
        run(tmp_path, sites=["http://no-such-host.invalid/now"], sha512=SHA512)
    assert time.monotonic() - began < 10


def test_concurrent_calls_fetch_once(site, tmp_path):
    site.files = {"/now/thing-1.0.tgz": CONTENT}
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: run(tmp_path, sites=[site.url("now")], sha512=SHA512), range(4)))
    assert sum(result["changed"] for result in results) == 1
    assert site.asked == ["/now/thing-1.0.tgz"]


def test_check_mode_fetches_nothing(site, tmp_path):
    result = run(tmp_path, check_mode=True, sites=[site.url("now")])
    assert result["changed"] and site.asked == []


GNUPG = "thing.tgz:\n" + "\n".join(
    " ".join(SHA512[at : at + 8].upper() for at in range(row, row + 64, 8)) for row in (0, 64)
)


@pytest.mark.parametrize("text", [SHA512, f"{SHA512}  a.tgz\n", f"{SHA512} *a.tgz\n", f"a.tgz: {SHA512}\n", GNUPG])
def test_checksum_files_of_both_kinds(text):
    assert fetching.parse_sha512(text) == SHA512


@pytest.mark.parametrize("text", ["", "thing.tgz", "<html>not found</html>", SHA512[:-1]])
def test_what_is_no_checksum_file(text):
    with pytest.raises(fetching.SourceError):
        fetching.parse_sha512(text)


def test_assembled_archive_is_the_same_every_time(tmp_path):
    digests = set()
    for turn, names in enumerate((["b.jar", "a.jar"], ["a.jar", "b.jar"])):
        libs = tmp_path / str(turn)
        libs.mkdir()
        for name in names:
            (libs / name).write_bytes(name.encode())
            (libs / name).chmod(0o600 if turn else 0o664)
        archive = tmp_path / f"{turn}.tar"
        fetching.deterministic_tar(libs, "thing-1.0", archive)
        digests.add(fetching.file_sha512(archive))
        with tarfile.open(archive) as tar:
            assert tar.getnames() == ["thing-1.0/libs/a.jar", "thing-1.0/libs/b.jar"]
    assert len(digests) == 1


def test_maven_is_the_last_source(site, tmp_path, monkeypatch):
    libs = tmp_path / "libs"
    libs.mkdir()
    (libs / "a.jar").write_bytes(b"jar")
    monkeypatch.setattr(
        fetching, "assemble", lambda _coordinates, prefix, into, **_: fetching.deterministic_tar(libs, prefix, into)
    )
    result = run(tmp_path, sites=[site.url("now")], maven=["g:a:1"])
    assert result["source"] == "maven" and result["path"].endswith("thing-1.0-maven.tar")
    assert run(tmp_path, sites=[site.url("now")], maven=["g:a:1"])["changed"] is False
    with pytest.raises(fetching.SourceError, match="refused"):
        run(tmp_path / "pinned", maven=["g:a:1"], maven_sha512="0" * 128)


def test_jars_that_stand_alone_are_no_dependencies():
    """Maven reads no pom of them then, and asks no repository that one names."""
    project = fetching.pom(["g:a:1", "g:b:2"], alone=True)
    assert project.count("<artifactItem><groupId>g</groupId>") == 2 and "<dependency>" not in project
    assert fetching.pom(["g:a:1"]).count("<dependency><groupId>g</groupId>") == 1


def test_what_maven_says_is_told_without_its_colours(tmp_path, monkeypatch):
    program = tmp_path / "mvn"
    program.write_text("#!/bin/sh\nprintf '\\033[0m\\033[0m[ERROR] no such version\\n[ERROR] \\n'; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(fetching.SourceError) as told:
        fetching.assemble(["org.example:it:9"], "it-9", tmp_path / "it-9.tar")
    assert str(told.value) == "mvn failed: [ERROR] no such version"


def test_without_maven_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching.shutil, "which", lambda _name: None)
    with pytest.raises(fetching.SourceError, match="apt-get install maven"):
        run(tmp_path, maven=["g:a:1"])


@pytest.fixture
def pip(tmp_path, monkeypatch):
    """A pip that has one wheel: with a program, a library, and what nobody asked for."""
    wheel = tmp_path / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        for name, mode in (("thing/jars/b.jar", 0o644), ("thing/bin/run", 0o755), ("thing/jars/a.jar", 0o644)):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            made.writestr(entry, name)
        made.writestr("thing/__init__.py", "")
    program = tmp_path / "bin/pip3"
    program.parent.mkdir()
    # Its arguments end with: --wheel-dir FOLDER thing==1.0
    program.write_text(
        '#!/bin/sh\nwhile [ $# -gt 1 ]; do last=$1; shift; done\n[ "$1" = thing==1.0 ] || '
        "{ echo 'note'; echo \"ERROR: no $1\"; exit 1; } >&2\n"
        f'mkdir "$last" && cp {wheel} "$last"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_pip_comes_after_the_sites(site, pip, tmp_path):
    wanted = {"sites": [site.url("now")], "pip": "thing==1.0", "pip_members": ["thing/bin", "thing/jars"]}
    first = run(tmp_path, **wanted)
    assert first["source"] == "pip" and first["path"].endswith("thing-1.0-pip.tar")
    with tarfile.open(first["path"]) as tar:
        modes = {member.name: member.mode for member in tar.getmembers()}
    assert modes == {"thing-1.0/bin/run": 0o755, "thing-1.0/jars/a.jar": 0o644, "thing-1.0/jars/b.jar": 0o644}
    again = run(tmp_path, **wanted)
    assert again["changed"] is False and again["sha512"] == first["sha512"]
    assert run(tmp_path / "other", **wanted, pip_sha512=first["sha512"])["sha512"] == first["sha512"]
    with pytest.raises(fetching.SourceError, match="pip: refused"):
        run(tmp_path / "pinned", **wanted, pip_sha512="0" * 128)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"pip": "thing==2.0", "pip_members": ["thing/bin"]}, "pip: pip failed: ERROR: no thing==2.0"),
        ({"pip": "thing==1.0", "pip_members": ["thing/lib"]}, "pip: its wheel has no folder thing/lib"),
    ],
)
def test_what_pip_has_not_is_told(pip, tmp_path, wanted, told):
    with pytest.raises(fetching.SourceError, match=told):
        run(tmp_path, **wanted)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".thing-1.0.lock"]


def test_what_ansible_is_told(site, tmp_path):
    site.files = {"/now/thing-1.0.tgz": CONTENT}
    wanted = arguments(tmp_path, sites=[site.url("now")], sha512=SHA512)
    told = fetching.fetched(wanted, check_mode=False)
    assert told["changed"] and told["artifact"]["sha512"] == SHA512
    assert told["ansible_facts"] == {"artifact_thing": told["artifact"]}
    assert fetching.fetched(wanted, check_mode=False) == {**told, "changed": False}
    refused = fetching.fetched(wanted | {"filename": "other.tgz"}, check_mode=False)
    assert refused["failed"] and "thing 1.0 could not be fetched" in refused["msg"] and "Way out" in refused["msg"]
    (tmp_path / "file").write_text("")
    refused = fetching.fetched(wanted | {"cache": str(tmp_path / "file")}, check_mode=False)
    assert "cannot be used" in refused["msg"]


def test_every_option_is_described():
    assert set(yaml.safe_load(fetching.DOCUMENTATION)["options"]) == set(fetching.OPTIONS) == set(arguments(Path()))
