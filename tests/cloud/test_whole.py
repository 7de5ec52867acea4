"""A workload that is run whole, on the fake of AWS: asked before it costs anything, and nothing is left after it."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

import pytest

from labtool.ansible.result import PlayResult
from labtool.cli import measure
from labtool.dataset.run import RunDirectory, RunRecord
from labtool.errors import AnsibleError, StoppedError
from labtool.experiment import deploy
from labtool.experiment import profile as profiling

pytestmark = pytest.mark.slow

PRICE = "1 host costs $0.026 per hour (list prices of us-east-1"


@pytest.fixture
def steps(labtool, aws, monkeypatch, tmp_path):
    """What is done with the hosts, without hosts; a step that `steps` has an error for raises it."""
    done: dict = {"steps": []}

    def step(name, *said):
        done["steps"].append((name, *said))
        if error := done.get(name):
            raise error

    def play(playbook, hosts, **options):
        step("deploy", playbook.name, sorted(hosts["_meta"]["hostvars"]))
        return PlayResult(playbook, "ok", {}, (), 0, 0.0, tmp_path / "log")

    def profile(session, lab, asked, *, runs, **options):
        aws.pass_time(200)
        step("profile", asked.workload.name, asked.seconds, [host.name for host in lab])
        directory = RunDirectory.create(runs, lab.name, asked.name, datetime.now(UTC))
        directory.write(RunRecord(name="x", lab=lab.name, cloud="aws", region="r", started=datetime.now(UTC)))
        return profiling.Measured(directory, done.get("failure"))

    def draw(directory, display):
        step("report", aws.ec2.left())
        (directory.path / "summary.json").write_text('{"verdict": {"sentence": "It counted."}}')

    monkeypatch.setattr(deploy, "run_playbook", play)
    monkeypatch.setattr(profiling, "profile", profile)
    monkeypatch.setattr(measure, "draw", draw)
    return done


def test_one_command_from_nothing_to_nothing(labtool, aws, steps):
    out, said = labtool("run", "countdown", "--from", "30", "--yes")
    assert steps["steps"] == [
        ("deploy", "countdown.yml", ["countdown-0"]),
        ("profile", "countdown", 30.0, ["countdown-0"]),
        ("report", []),
    ]
    assert aws.ec2.left() == []
    assert said.index(PRICE) < said.index("deploy countdown")
    assert "$0.01 in the 31m they live at most" in said
    assert out.startswith("It counted.\nreport: ")
    # The launch and 200 s of a t3.micro with its disk, address and monitoring
    assert "lab countdown cost $0.00" in out and "1 host for 3 min, $0.026 per hour" in out
    assert "nothing is left of it" in out
    (request,) = [call.parameters for call in aws.calls if call.action == "RunInstances"]
    assert request["InstanceType"] == "t3.micro"


def test_the_price_is_asked_about_before_anything_is_made(labtool, aws, steps):
    _, said = labtool("run", "countdown", code=1)
    assert PRICE in said and "--yes" in said
    assert not any(call.action in ("RunInstances", "CreateSecurityGroup", "ImportKeyPair") for call in aws.calls)
    assert steps["steps"] == []


def test_the_price_is_asked_on_a_terminal(labtool, aws, steps, monkeypatch):
    asked = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda question, err: asked.append(question) or True)
    labtool("run", "countdown")
    assert [question.startswith(PRICE) for question in asked] == [True]
    assert aws.ec2.left() == []


@pytest.mark.parametrize(
    ("step", "error", "code"),
    [
        ("deploy", AnsibleError("countdown-0: Create the user: no"), 1),
        ("deploy", KeyboardInterrupt(), 130),
        ("profile", StoppedError("interrupted; kept"), 130),
        ("profile", KeyboardInterrupt(), 130),
    ],
)
def test_whatever_ends_it_ends_the_hosts(labtool, aws, steps, step, error, code):
    steps[step] = error
    _, said = labtool("run", "countdown", "--yes", code=code)
    assert aws.ec2.left() == []
    assert "lab countdown cost $0.00" in said
    if isinstance(error, AnsibleError):
        assert "deploy countdown: failed" in said and error.message in said


def test_a_load_that_failed_is_reported_and_told(labtool, aws, steps):
    steps["failure"] = AnsibleError("countdown-0 failed")
    out, said = labtool("run", "countdown", "--yes", code=1)
    assert "report: " in out and "countdown-0 failed" in said
    assert aws.ec2.left() == []


def test_kept_hosts_stay_and_a_later_run_goes_on_with_them(labtool, aws, steps):
    out, _ = labtool("run", "countdown", "--yes", "--keep", "--json")
    assert json.loads(out)["kept"] is True and json.loads(out)["usd"] > 0
    (lab,) = json.loads(labtool("status", "--lab", "countdown", "--json")[0])
    first = [host["instance_id"] for host in lab["hosts"]]
    assert "its hosts go on for 3 h " in labtool("run", "countdown", "--yes", "--keep")[0]
    _, said = labtool("run", "countdown", "--yes")
    assert "going on with it" in said
    assert len([call for call in aws.calls if call.action == "RunInstances"]) == len(first) == 1
    assert aws.ec2.left() == []


def test_a_lab_with_something_else_is_left_alone(labtool, aws, steps):
    labtool("up", "web=1", "--lab", "mine", "--yes")
    _, said = labtool("run", "countdown", "--lab", "mine", "--yes", code=2)
    assert "web-0" in said and "--lab NAME" in said
    labtool("up", "countdown=2", "--lab", "two", "--yes")
    assert "countdown-1" in labtool("run", "countdown", "--lab", "two", "--yes", code=2)[1]
    assert len(json.loads(labtool("status", "--all", "--json")[0])) == 2


def test_minutes_win_over_what_the_options_say(labtool, steps):
    labtool("run", "countdown", "--yes", "--minutes", "0.5")
    assert steps["steps"][1][2] == 30.0


def test_a_dry_run_says_both_plays_and_makes_nothing(labtool, aws, steps):
    out, _ = labtool("run", "countdown", "--dry-run", "--from", "7", "--type", "t3.small")
    assert "would launch countdown-0 (t3.small)" in out and "31m" in out
    assert out.index("playbooks/countdown.yml") < out.index("workloads/countdown.yml") < out.index("then end them")
    assert '"countdown_from": 7' in out
    assert aws.ec2.left() == [] and steps["steps"] == []
