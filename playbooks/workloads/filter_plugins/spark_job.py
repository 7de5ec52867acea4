"""What `spark-job` submits, from its variables; what cannot be submitted is refused before anything starts."""

from __future__ import annotations

import hashlib
import shlex
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

OURS = ("wordcount", "sort", "pi", "kmeans")


def application(given: Mapping[str, Any]) -> tuple[str, str]:
    """Return the file that is submitted and, of a job of ours, its name ('' of any other)."""
    named = {key: given.get(f"spark_job_{key}") or "" for key in ("job", "jar", "file")}
    chosen = [key for key in ("jar", "file") if named[key]]
    if len(chosen) == 2 or (chosen and named["job"]):
        words = " and ".join(f"--{key}" for key in ("job", "jar", "file") if named[key])
        raise AnsibleFilterError(f"spark-job got {words}: it submits one of them")
    if chosen:
        path = Path(named[chosen[0]])
        if not path.is_file():
            raise AnsibleFilterError(f"--{chosen[0]}: {path} is no file")
        if chosen == ["jar"] and not zipfile.is_zipfile(path):
            raise AnsibleFilterError(f"--jar: {path} is no jar: it is no zip archive")
        return str(path), ""
    job = named["job"] or OURS[0]
    if job not in OURS:
        raise AnsibleFilterError(f"--job: there is no job {job!r} of labtool's own; there are {', '.join(OURS)}")
    return f"{given['playbook_dir']}/files/spark/{job}.py", job


def words_of(text: str, option: str) -> list[str]:
    """Split a command line as a shell does."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise AnsibleFilterError(f"{option} {text!r}: {error}") from None


def settings_of(text: str) -> dict[str, str]:
    """Read `spark.a=b "spark.c=d e"`."""
    found = {}
    for word in words_of(text, "--conf"):
        key, equals, value = word.partition("=")
        if not equals or not key.startswith("spark."):
            raise AnsibleFilterError(f'--conf: {word!r} is no setting; they are typed as "spark.a=b spark.c=d"')
        found[key] = value
    return found


def coordinates_of(text: str) -> list[str]:
    """Read `group:artifact:version`, several of them behind commas or blanks."""
    found = text.replace(",", " ").split()
    for word in found:
        if word.count(":") != 2 or not all(word.split(":")):
            raise AnsibleFilterError(f"--packages: {word!r} is not group:artifact:version")
    return found


def conf_of(given: Mapping[str, Any], job: str) -> dict[str, str]:
    """Return Spark's settings: those typed win over those that follow from other options."""
    conf = {}
    if job:
        # The plan is as it is written: an explanation of a run is of the same stages as the next one's.
        conf = {"spark.sql.adaptive.enabled": "false", "spark.sql.shuffle.partitions": "{partitions}"}
        if partitions := int(given.get("spark_job_partitions") or 0):
            conf["spark.sql.shuffle.partitions"] = str(partitions)
    for option, key, form in (
        ("executor_memory_mb", "spark.executor.memory", "{}m"),
        ("executor_cores", "spark.executor.cores", "{}"),
        ("cores", "spark.cores.max", "{}"),
    ):
        if value := given.get(f"spark_job_{option}"):
            conf[key] = form.format(int(value))
    return conf | settings_of(given.get("spark_job_conf") or "")


def arguments_of(given: Mapping[str, Any], job: str) -> list[str]:
    """Return the application's arguments; those typed come last, and so win."""
    typed = words_of(given.get("spark_job_args") or "", "--args")
    if not job:
        return typed
    made = ["--partitions", str(int(given.get("spark_job_partitions") or 0) or "{partitions}")]
    for option in ("size", "skew", "seed", "iterations", "input"):
        if (value := given.get(f"spark_job_{option}")) not in (None, ""):
            made += [f"--{option}", str(value)]
    return made + typed


def spark_job_plan(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the driver's plan; it is checked here, so that nothing starts which cannot be submitted."""
    path, job = application(given)
    name = given.get("spark_job_class") or Path(path).stem
    if given.get("spark_job_class") and path.endswith(".py"):
        raise AnsibleFilterError("--class is of a jar, and what is submitted is a Python file")
    packages = coordinates_of(given.get("spark_job_packages") or "")
    return {
        "submit": "/usr/local/bin/spark-submit",
        "home": "/opt/spark/current",
        "user": given.get("spark_user") or "spark",
        "name": f"labtool-{job}" if job else name,
        "job": job,
        "class": given.get("spark_job_class") or "",
        "application": f"{given['drive_home']}/inputs/{Path(path).name}",
        "arguments": arguments_of(given, job),
        "conf": conf_of(given, job),
        "jar_folders": [f"/opt/spark-packages/{spark_job_hash(packages)}/libs"] if packages else [],
        "deadline_s": float(given["spark_job_seconds"]),
    }


def spark_job_inputs(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the files that go to the host that submits, by their names there."""
    path, job = application(given)
    files = {Path(path).name: path}
    return files | ({"generated.py": f"{given['playbook_dir']}/files/spark/generated.py"} if job else {})


def spark_job_packages(text: str) -> list[str]:
    """Return the coordinates of `--packages`."""
    return coordinates_of(text or "")


def spark_job_hash(packages: list[str]) -> str:
    """Return a short name of a set of packages."""
    return hashlib.sha256(" ".join(sorted(packages)).encode()).hexdigest()[:12]


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "spark_job_plan": spark_job_plan,
            "spark_job_inputs": spark_job_inputs,
            "spark_job_packages": spark_job_packages,
            "spark_job_hash": spark_job_hash,
        }
