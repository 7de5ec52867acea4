"""The wheel carries the playbooks and roles, and works from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_wheel_works_from_any_folder(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    install = ["pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run([sys.executable, "-m", *install], check=True, capture_output=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [site / "bin" / "labtool", "deploy", "--help"],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "kafka-cluster" in done.stdout
    where = subprocess.run(
        [sys.executable, "-c", "from labtool import content; print(content.root())"],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    root = Path(where)
    assert root.is_relative_to(site)
    for path in (
        "playbooks/kafka-cluster.yml",
        "playbooks/roles/kafka/tasks/main.yml",
        "playbooks/group_vars/all.yml",
        "playbooks/workloads/kafka-throughput.py",
        "playbooks/files/web/index.html",
        "playbooks/files/front/group-manager/pom.xml",
        "roles/collector/meta/argument_specs.yml",
        "inventory/labtool.aws_ec2.yml",
        "inventory/labtool.py",
        "group_vars/all.yml",
        "ansible.cfg",
    ):
        assert (root / path).is_file(), path
    assert list((site / "labtool" / "report").rglob("*.css")), "the report's templates"
    assert list((site / "labtool" / "localcloud" / "hostimage").iterdir()), "the host image's recipe"
