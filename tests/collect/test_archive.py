"""labtool-collect's tar, written here by the program the hosts get, unpacked by the controller's half."""

from __future__ import annotations

import gzip
import io
import os
import random
import tarfile
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labtool.collect import archive
from labtool.dataset import compressed
from labtool.errors import CollectError, DataError

NOW = 1_795_248_468.0


class Machine:
    """A host's folders under tmp_path, and what labtool-collect makes of them."""

    def __init__(self, folder, collector):
        self.folder = folder
        self.collector = collector
        self.declarations = folder / "logs.d"
        self.sysstat = folder / "sysstat"
        self.logs = folder / "var"
        for path in (self.declarations, self.sysstat, self.logs):
            path.mkdir()

    def declare(self, text, service="app"):
        (self.declarations / f"{service}.conf").write_text(text)

    def write(self, name, content, modified=NOW):
        path = self.logs / name
        path.write_bytes(content)
        os.utime(path, (modified, modified))
        return path

    def send(self, since=NOW - 60, until=NOW + 60, limit=0):
        stream = io.BytesIO()
        self.collector.collect(stream, since, until, 1, limit, str(self.declarations), str(self.sysstat))
        return stream.getvalue()


@pytest.fixture
def machine(tmp_path, collector):
    folder = tmp_path / "machine"
    folder.mkdir()
    return Machine(folder, collector)


def unpacked(sent, folder):
    folder.mkdir()
    return archive.unpack(io.BytesIO(sent), folder)


def received(folder, path):
    return compressed.read(folder / "files" / f"{str(path)[1:]}.zst")


def test_what_a_service_declares_arrives(machine, tmp_path):
    log = machine.write("server.log", b"one\ntwo\n")
    old = machine.write("server.log.1", b"before the window\n", modified=NOW - 600)
    packed = machine.write("server.log.2.gz", gzip.compress(b"zipped\n"))
    numbers = machine.write("jmx.csv", b"time,value\n1,2\n")
    empty = machine.write("empty.log", b"")
    (machine.logs / "link.log").symlink_to(log)
    (machine.sysstat / "sa-20261121T080000Z").write_bytes(b"samples")
    (machine.sysstat / "sa-20261121T090000Z").write_bytes(b"later")
    os.utime(machine.sysstat / "sa-20261121T080000Z", (NOW, NOW))
    machine.declare(f"# logs\nfile {machine.logs}/*.log*\nmetrics jmx {machine.logs}/*.csv  # every 10 s\n")
    manifest, problems = unpacked(machine.send(), tmp_path / "out")
    out = tmp_path / "out"
    assert problems == []
    assert manifest.problems == []
    assert received(out, log) == b"one\ntwo\n"
    assert not (out / "files" / f"{str(old)[1:]}.zst").exists()
    assert gzip.decompress((out / "files" / str(packed)[1:]).read_bytes()) == b"zipped\n"
    assert (out / "metrics" / str(numbers)[1:]).read_bytes() == b"time,value\n1,2\n"
    assert [path.name for path in (out / "sysstat").iterdir()] == ["sa-20261121T080000Z"]
    assert (out / "sysstat" / "sa-20261121T080000Z").read_bytes() == b"samples"
    sizes = {file.source: file.bytes for file in manifest.files if file.kind != "journal"}
    assert sizes[str(log)] == 8
    assert sizes[str(empty)] == 0
    assert str(machine.logs / "link.log") not in sizes  # the same file, once
    assert {file.service for file in manifest.files if file.kind == "file"} == {"app"}
    assert manifest.vcpus == os.cpu_count()


def test_a_wrong_declaration_is_said_and_the_others_count(machine, tmp_path):
    log = machine.write("a.log", b"x\n")
    machine.declare(f"fiel /nowhere\nmetrics /no/kind\nfile {log}\n")
    manifest, _ = unpacked(machine.send(), tmp_path / "out")
    wrong = [problem for problem in manifest.problems if "app.conf" in problem.what]
    assert [problem.what[-6:] for problem in wrong] == ["line 1", "line 2"]
    assert received(tmp_path / "out", log) == b"x\n"


def test_no_sample_in_the_window_is_said(machine, tmp_path):
    manifest, _ = unpacked(machine.send(), tmp_path / "out")
    assert "no sadc file covers the window" in manifest.problems[0].why


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 150, 10_000])
def test_a_log_over_the_limit_gives_whole_lines_of_its_end(machine, tmp_path, size):
    content = b"".join(b"%09d\n" % n for n in range(20))
    log = machine.write("a.log", content)
    machine.declare(f"file {log}\n")
    manifest, _ = unpacked(machine.send(limit=size), tmp_path / "out")
    (file,) = (one for one in manifest.files if one.kind == "file")
    kept = received(tmp_path / "out", log) if file.sent_bytes else b""
    assert content.endswith(kept)
    assert file.skipped_bytes == len(content) - len(kept)
    assert len(kept) % 10 == 0
    if size:
        assert size - 10 < len(kept) <= max(size, 10) or len(kept) == len(content)
    else:
        assert kept == content


def test_a_large_file_comes_in_parts_and_is_one_again(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(machine.collector, "MEMBER_LIMIT", 1 << 12)
    content = random.Random(1).randbytes(30_000)
    log = machine.write("a.log", content)
    numbers = machine.write("a.csv", content)
    machine.declare(f"file {log}\nmetrics csv {numbers}\n")
    sent = machine.send()
    with tarfile.open(fileobj=io.BytesIO(sent)) as tar:
        names = [name for name in tar.getnames() if "a.log" in name]
    assert len(names) == 8
    unpacked(sent, tmp_path / "out")
    assert received(tmp_path / "out", log) == content
    assert (tmp_path / "out" / "metrics" / str(numbers)[1:]).read_bytes() == content


def test_a_line_that_is_being_written_is_waited_for(machine, tmp_path, monkeypatch):
    log = machine.write("a.log", b"one\nhalf", modified=time.time())
    machine.declare(f"file {log}\n")

    def finish(_):
        with log.open("ab") as file:
            file.write(b" and half\nthe next")

    monkeypatch.setattr(machine.collector.time, "sleep", finish)
    sent = machine.send(since=time.time() - 60, until=time.time())
    unpacked(sent, tmp_path / "out")
    assert received(tmp_path / "out", log) == b"one\nhalf and half\n"


def test_a_last_line_without_an_end_is_kept(machine, tmp_path):
    log = machine.write("a.log", b"one\nlast words")
    machine.declare(f"file {log}\n")
    unpacked(machine.send(), tmp_path / "out")
    assert received(tmp_path / "out", log) == b"one\nlast words"


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text("abcé .-", min_size=1, max_size=9).filter(lambda n: n.strip(". ")), st.binary()))
def test_any_bytes_under_any_name_survive(tmp_path_factory, collector, files):
    folder = tmp_path_factory.mktemp("any")
    machine = Machine(folder, collector)
    written = {machine.write(name + ".log", content): content for name, content in files.items()}
    machine.declare(f"file {machine.logs}/*.log\nfile {machine.logs}/.*.log\n")
    unpacked(machine.send(), folder / "out")
    for path, content in written.items():
        if content:
            assert received(folder / "out", path) == content


def test_a_stream_cut_anywhere_keeps_what_came_whole(machine, tmp_path):
    contents = {"a.log": b"first\n", "b.log": random.Random(1).randbytes(30_000), "c.log": b"third\n"}
    for name, content in contents.items():
        machine.write(name, content)
    machine.declare(f"file {machine.logs}/*.log\n")
    sent = machine.send()
    counts = set()
    # The last 2 blocks and the filling after the manifest are nothing that could be missed.
    with tarfile.open(fileobj=io.BytesIO(sent)) as tar:
        end = tar.getmember("manifest.json").offset_data
    for number, size in enumerate([*range(0, end, 1777), end]):
        folder = tmp_path / str(number)
        with pytest.raises(archive.CutError):
            unpacked(sent[:size], folder)
        found = [path for path in folder.rglob("*.zst") if path.is_file()]
        for path in found:
            assert compressed.read(path) == contents[path.name.removesuffix(".zst")]
        counts.add(len(found))
    assert counts == {0, 1, 2, 3}


def tar_of(*members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as file:
        for member in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            file.addfile(info)
    return stream.getvalue()


@pytest.mark.parametrize("name", ["/etc/passwd", "files/../../x", "other/x", "files", "../x", "files/.."])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(CollectError, match="refused"):
        unpacked(tar_of(name), tmp_path / "out")
    assert list((tmp_path / "out").rglob("*")) == []


def test_a_link_is_refused(tmp_path):
    link = tarfile.TarInfo("files/x")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with pytest.raises(CollectError, match="no regular file"):
        unpacked(tar_of(link), tmp_path / "out")


def test_what_is_no_tar_is_cut(tmp_path):
    with pytest.raises(archive.CutError):
        unpacked(b"bash: labtool-collect: command not found\n" * 40, tmp_path / "out")


def test_a_strange_manifest_names_its_key(tmp_path):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as file:
        info = tarfile.TarInfo("manifest.json")
        info.size = 13
        file.addfile(info, io.BytesIO(b'{"format": 2}'))
    with pytest.raises(DataError, match="format"):
        unpacked(stream.getvalue(), tmp_path / "out")


def test_the_cost_is_read_from_the_slices_processes(collector, monkeypatch):
    monkeypatch.setattr(collector, "members_of_slice", lambda: [os.getpid()])
    monkeypatch.setattr(collector, "slice_counter", lambda pids: None)
    before = collector.cost()
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    after = collector.cost()
    assert 0.15 <= after["cpu_s"] - before["cpu_s"] <= 0.4
    assert after["since"] == pytest.approx(before["since"], abs=0.2)
    assert after["since"] < after["time"]
