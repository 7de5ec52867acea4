from __future__ import annotations

import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from labtool.collect import gather, observer, remote
from labtool.dataset import compressed
from labtool.dataset.run import RunDirectory

END = datetime.now(UTC)
START = END - timedelta(minutes=5)

# labtool-collect on a host whose folders are machines/<address>/.
PROGRAM = """#!{python}
import importlib.machinery, importlib.util, os, sys
loader = importlib.machinery.SourceFileLoader("program", "{collect}")
program = importlib.util.module_from_spec(importlib.util.spec_from_loader("program", loader))
sys.dont_write_bytecode = True
loader.exec_module(program)
machine = "{machines}/" + os.environ["HOST_ADDRESS"]
if sys.argv[1] == "--cost":
    import json
    print(json.dumps(program.cost()))
    sys.exit()
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
open(machine + "/asked", "w").write(" ".join(sys.argv[1:]))
program.collect(sys.stdout.buffer, float(given["--since"]), float(given["--until"]), 1, int(given["--limit"]),
                machine + "/logs.d", machine + "/sysstat")
"""


@pytest.fixture
def run(tmp_path):
    return RunDirectory.create(tmp_path / "runs", "lab", "test", END)


@pytest.fixture
def machine(tmp_path, monkeypatch, hooks, program, collector_file):
    machines = tmp_path / "machines"
    installed = tmp_path / "labtool-collect"
    program(installed, PROGRAM.format(python=sys.executable, collect=collector_file, machines=machines))
    monkeypatch.setattr(remote, "COLLECT", str(installed))

    def make(name, log="one\n"):
        folder = machines / name
        (folder / "logs.d").mkdir(parents=True)
        (folder / "sysstat").mkdir()
        (folder / "sysstat" / START.strftime("sa-%Y%m%dT%H%M%SZ")).write_bytes(b"samples of " + name.encode())
        (folder / "app.log").write_text(log)
        (folder / "logs.d" / "app.conf").write_text(f"file {folder}/app.log\n")
        return folder

    return make


def log_of(run, folder):
    return compressed.read(run.logs / folder.name / "files" / f"{str(folder)[1:]}" / "app.log.zst")


def test_every_host_comes_to_its_place(run, access, host, machine):
    folders = [machine(f"kafka-{n}", f"log of {n}\n") for n in range(3)]
    told = []
    got = gather.gather(
        access, [host(f.name) for f in folders], run, START, END, progress=lambda *word: told.append(word)
    )
    assert got.missing == []
    for number, folder in enumerate(folders):
        assert log_of(run, folder) == b"log of %d\n" % number
        (sysstat,) = (run.raw / "sysstat" / folder.name).iterdir()
        assert sysstat.read_bytes() == b"samples of " + folder.name.encode()
        manifest = got.hosts[folder.name].manifest
        assert manifest is not None
        assert manifest.gather.bytes == got.hosts[folder.name].bytes > 0
        assert (folder.name, "done", got.hosts[folder.name].bytes) in told
    assert not list(run.logs.glob(".*"))


def test_the_window_is_asked_for_in_each_hosts_clock(run, access, host, machine):
    folder = machine("kafka-0")
    gather.gather(access, [host("kafka-0")], run, START, END, offsets={"kafka-0": 2.5}, file_limit_bytes=77)
    words = (folder / "asked").read_text().split()
    assert float(words[1]) == pytest.approx(START.timestamp() + 2.5, abs=0.001)
    assert float(words[3]) == pytest.approx(END.timestamp() + 2.5, abs=0.001)
    assert words[5] == "77"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'ssh: connect to host h port 22: No route to host' >&2; exit 255", "SSH failed: ssh: connect to host"),
        ("exit 255", "SSH failed: the connection was lost"),
        (
            "echo 'bash: /usr/local/bin/labtool-collect: No such file or directory' >&2; exit 127",
            "playbooks/collector.yml",
        ),
        ("echo 'sudo: a password is required' >&2; exit 1", "sudo: a password is required"),
        ("echo Welcome; exit 0", "the stream was cut"),
    ],
)
def test_a_host_that_fails_is_missing_and_the_others_are_not(run, access, host, machine, hooks, script, why):
    folder = machine("kafka-0")
    hooks("kafka-1", script)
    got = gather.gather(access, [host("kafka-0"), host("kafka-1"), host("kafka-2", state="stopped")], run, START, END)
    assert [(one.what, one.host) for one in got.missing] == [(gather.WHAT, "kafka-1"), (gather.WHAT, "kafka-2")]
    assert why in got.missing[0].why
    assert got.missing[1].why == "the host is stopped"
    assert log_of(run, folder) == b"one\n"
    assert sorted(path.name for path in run.logs.iterdir()) == ["kafka-0"]


def test_a_stream_that_is_cut_keeps_what_came(run, access, host, machine, hooks):
    folder = machine("kafka-0")
    hooks("kafka-0", 'sh -c "$1" | head -c 2000; echo "Connection to kafka-0 closed by remote host." >&2; exit 255')
    got = gather.gather(access, [host("kafka-0")], run, START, END)
    (missing,) = got.missing
    assert "closed by remote host" in missing.why
    assert "kept what came before" in missing.why
    assert (run.raw / "sysstat" / folder.name).is_dir()
    assert got.hosts["kafka-0"].manifest is None


@pytest.mark.slow
def test_a_host_that_hangs_is_given_up(run, access, host, machine, hooks):
    machine("kafka-0")
    hooks("kafka-1", "exec sleep 60")
    start = time.monotonic()
    got = gather.gather(access, [host("kafka-0"), host("kafka-1")], run, START, END, timeout_s=1.0)
    assert time.monotonic() - start < 10
    assert [(one.host, one.why) for one in got.missing] == [("kafka-1", "it took more than 1 s")]


def test_cancelling_ends_it_and_keeps_what_came(run, access, host, machine, hooks):
    machine("kafka-0")
    hooks("kafka-1", "exec sleep 60")
    cancel = threading.Event()

    def cancel_when_one_is_done(host, state, _bytes):
        if (host, state) == ("kafka-0", "done"):
            cancel.set()

    start = time.monotonic()
    got = gather.gather(
        access,
        [host("kafka-0"), host("kafka-1")],
        run,
        START,
        END,
        cancel=cancel,
        progress=cancel_when_one_is_done,
    )
    assert time.monotonic() - start < 10
    assert [(one.host, one.why) for one in got.missing] == [("kafka-1", "interrupted")]
    assert (run.logs / "kafka-0").is_dir()


def test_gathering_again_replaces_and_a_failure_does_not(run, access, host, machine, hooks):
    folder = machine("kafka-0", "first\n")
    hosts = [host("kafka-0")]
    gather.gather(access, hosts, run, START, END)
    (folder / "app.log").write_text("second\n")
    gather.gather(access, hosts, run, START, END)
    assert log_of(run, folder) == b"second\n"
    hooks("kafka-0", "exit 255")
    gather.gather(access, hosts, run, START, END)
    assert log_of(run, folder) == b"second\n"


def test_a_file_over_the_limit_is_told(run, access, host, machine):
    machine("kafka-0", "0123456\n" * 10)
    got = gather.gather(access, [host("kafka-0")], run, START, END, file_limit_bytes=20)
    (missing,) = got.missing
    assert missing.what.startswith("the first 64 bytes of")


def test_no_hosts_is_no_work(run, access):
    assert gather.gather(access, [], run, START, END).missing == []


@pytest.mark.slow
def test_the_cost_at_the_start_is_kept(run, access, host, machine, hooks):
    machine("kafka-0")
    hooks("kafka-1", "echo '{\"cpu_s\": 1}'")
    hooks("kafka-2", "exit 255")
    hooks("kafka-3", "exec sleep 60")
    missing = observer.observe(access, [host(f"kafka-{n}") for n in range(4)], run, timeout_s=2.0)
    assert [path.name for path in (run.raw / "observer").iterdir()] == ["kafka-0.json"]
    assert [(one.host, one.why.split(":")[0]) for one in missing] == [
        ("kafka-1", "labtool-collect --cost"),
        ("kafka-2", "SSH failed"),
        ("kafka-3", "no answer within 2 s"),
    ]
