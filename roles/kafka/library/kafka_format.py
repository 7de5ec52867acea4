#!/usr/bin/python
"""Format a Kafka node's data directories, once, and never over another node's data."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_meta import of_another, read_meta

DOCUMENTATION = r"""
module: kafka_format
short_description: Format a Kafka node's storage
description:
  - Without C(meta.properties), formats. With one that says the same ids, does nothing. With other ids, fails and
    shows both.
options:
  java: {description: The java program, required: true, type: path}
  libs: {description: Folder of Kafka's jars, required: true, type: path}
  properties: {description: The node's server.properties, required: true, type: path}
  data_directories: {description: Its log.dirs, required: true, type: list, elements: path}
  cluster_id: {description: 22 characters of base64url, required: true, type: str}
  node_id: {description: The node's id, required: true, type: int}
  initial_controllers: {description: 'id@host:port:directory, by comma; empty for a node that is none of them',
                        type: str, default: ''}
  user: {description: Owner of the data, required: true, type: str}
"""


def make(directory: str, owner: pwd.struct_passwd) -> None:
    """Make a data directory for its owner, and whatever is above it."""
    path = Path(directory)
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    os.chown(path, owner.pw_uid, owner.pw_gid)
    path.chmod(0o750)


def command(arguments: dict, partly: bool) -> list[str]:
    """Return Kafka's storage tool's command line; `partly` if some directories are formatted, and rightly so."""
    quorum = (
        ["--initial-controllers", arguments["initial_controllers"]]
        if arguments["initial_controllers"]
        else ["--no-initial-controllers"]
    )
    # One pass of a short program: the quick compiler and the simple collector cost least.
    java = [arguments["java"], "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    tool = ["-cp", arguments["libs"] + "/*", "kafka.tools.StorageTool", "format"]
    given = ["--cluster-id", arguments["cluster_id"], "--config", arguments["properties"]]
    return java + tool + given + quorum + (["--ignore-formatted"] if partly else [])


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "java": {"type": "path", "required": True},
            "libs": {"type": "path", "required": True},
            "properties": {"type": "path", "required": True},
            "data_directories": {"type": "list", "elements": "path", "required": True},
            "cluster_id": {"type": "str", "required": True},
            "node_id": {"type": "int", "required": True},
            "initial_controllers": {"type": "str", "default": ""},
            "user": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # folders that others must pass, whatever the login says
    arguments = module.params
    directories = arguments["data_directories"]
    new = [path for path in directories if not read_meta(Path(path) / "meta.properties")]
    formatted = [path for path in directories if path not in new]
    if problem := of_another(formatted, arguments["cluster_id"], arguments["node_id"]):
        module.fail_json(msg=problem)
    if not new or module.check_mode:
        module.exit_json(changed=bool(new), formatted=new)
    try:
        owner = pwd.getpwnam(arguments["user"])
        for path in directories:
            make(path, owner)
    except (OSError, KeyError) as error:
        module.fail_json(msg=f"the data directories cannot be made: {error}")
    done = subprocess.run(
        command(arguments, bool(formatted)),
        capture_output=True,
        text=True,
        check=False,
        user=owner.pw_uid,
        group=owner.pw_gid,
        extra_groups=[],
        cwd="/",
    )
    if done.returncode != 0:
        last = "\n".join((done.stderr + done.stdout).strip().splitlines()[-12:])
        module.fail_json(msg=f"Kafka's storage tool could not format {', '.join(new)}:\n{last}", rc=done.returncode)
    module.exit_json(changed=True, formatted=new)


if __name__ == "__main__":
    main()
