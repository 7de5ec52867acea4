"""The local cloud by hand: what its commands print for programs."""

from __future__ import annotations

import json

import pytest

from labtool import localcloud, lock


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.setenv("LABTOOL_LOCAL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("LABTOOL_LOCAL_NAME", "byhand")
    monkeypatch.setenv("LABTOOL_LOCAL_PORT", "4697")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def test_start_tells_a_program_how_to_reach_it(told, monkeypatch):
    endpoint = localcloud.Endpoint(
        "http://127.0.0.1:4697", "us-east-1", "key", "secret", "debian-12", "http://198.18.0.1:4697"
    )
    monkeypatch.setattr(localcloud, "start", lambda settings, progress: endpoint)
    code, out, _ = told("cloud", "start", "--json")
    assert code == 0
    assert json.loads(out) == {
        "url": "http://127.0.0.1:4697",
        "region": "us-east-1",
        "access_key": "key",
        "secret_key": "secret",
        "default_image": "debian-12",
        "hosts_url": "http://198.18.0.1:4697",
    }
    assert "export AWS_ENDPOINT_URL=http://127.0.0.1:4697" in told("cloud", "start")[1]


@pytest.mark.parametrize("existed", [True, False])
def test_stop_tells_a_program_whether_there_was_one(told, monkeypatch, tmp_path, existed):
    if existed:
        (tmp_path / "state" / "byhand").mkdir(parents=True)
    stopped = []
    monkeypatch.setattr(localcloud, "stop", lambda settings, progress, *, purge: stopped.append(purge))
    code, out, _ = told("cloud", "stop", "--purge", "--json")
    assert (code, stopped) == (0, [True])
    assert json.loads(out) == {"name": "byhand", "existed": existed, "purged": True}


@pytest.mark.parametrize("what", [lock.CHANGE, lock.MEASURE])
def test_stop_leaves_a_lab_alone_that_another_labtool_works_with(told, monkeypatch, tmp_path, what):
    monkeypatch.setenv("LABTOOL_HOME", str(tmp_path))
    stopped = []
    monkeypatch.setattr(localcloud, "stop", lambda *_, **__: stopped.append("all"))
    lab = tmp_path / "labs/local-byhand-us-east-1/one"
    lab.mkdir(parents=True)
    with lock.hold(lab, "one", what):
        code, _, err = told("cloud", "stop")
    assert (code, stopped) == (1, []) and "lab one is in use by" in err
    assert told("cloud", "stop")[0] == 0 and stopped == ["all"]


def test_down_without_a_cloud_is_no_error(told):
    assert told("down", "--json")[:2] == (0, "[]\n")
    assert told("down")[:2] == (0, "nothing to end: the local cloud does not run and holds no hosts\n")


def test_doctor_asks_what_the_chosen_cloud_needs(told, monkeypatch):
    need = localcloud.Check("engine", False, "no podman", "apt-get install podman")
    monkeypatch.setattr(localcloud, "checks", lambda settings: [need])
    code, out, _ = told("doctor", "--json")
    assert code == 1
    assert {key: json.loads(out)[-1][key] for key in ("name", "ok")} == {"name": "engine", "ok": False}


@pytest.mark.usefixtures("aws")
def test_doctor_asks_aws_who_this_is(told):
    _, out, _ = told("doctor", "--json")
    found = {check["name"]: check["ok"] for check in json.loads(out)}
    assert found["AWS credentials"] and found["AWS permissions"]
