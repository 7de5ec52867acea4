#!/usr/bin/python
"""Keep a Python program's unit as it shall be, and see that the program is well."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.python_app_unit import Unit, UnitError, instant, run

DOCUMENTATION = r"""
module: python_app_service
short_description: A Python program's unit and its health
description:
  - Writes the unit, starts or stops it, and restarts it where it was started before the unit or the program changed.
  - A program that goes on counts as started when its health check has succeeded; without one, when it still runs a
    second after it was started. One that ends (C(oneshot)) when it has ended well.
  - Every failure ends with the last lines of the unit's journal.
options:
  unit: {description: The systemd unit, required: true, type: str}
  content: {description: The unit's file, required: true, type: str}
  logs_name: {description: Name of the file that tells the collector its logs, required: true, type: str}
  logs: {description: That file, required: true, type: str}
  link: {description: The link whose change means a new program, required: true, type: path}
  type: {description: exec or oneshot, required: true, type: str}
  state: {description: started or stopped, required: true, type: str}
  enabled: {description: Whether it starts at boot, required: true, type: bool}
  health_url: {description: Healthy when it answers with a status below 400, type: str, default: ''}
  health_port: {description: Healthy when it takes connections; 0 is none, type: int, default: 0}
  health_command: {description: Healthy when it ends with 0, type: list, elements: str, default: []}
  user: {description: Who runs that command, required: true, type: str}
  timeout: {description: Seconds until it must be healthy, type: float, default: 30}
"""

UNITS = Path("/etc/systemd/system")
DECLARATIONS = Path("/etc/labtool/logs.d")
POLL_S = 0.2
STEADY_S = 1.0
ATTEMPT_S = 5.0  # the longest that one question may take


def write(path: Path, content: str, check_mode: bool) -> dict | None:
    """Write a file where it differs; return the difference, None where there was none."""
    try:
        before = path.read_text()
    except FileNotFoundError:
        before = ""
    if before == content:
        return None
    if not check_mode:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(content)
        temporary.chmod(0o644)
        temporary.replace(path)
    return {"before_header": str(path), "after_header": str(path), "before": before, "after": content}


def is_stale(started: float, *paths: Path) -> bool:
    """Return True if one of the files was written after the unit was started: it runs what is there no more."""
    return any(path.lstat().st_mtime > started for path in paths if path.is_symlink() or path.exists())


def bring_about(unit: Unit, arguments: dict, changed: bool, check_mode: bool) -> str:
    """Start, restart or stop the unit as is needed; return what was done, '' for nothing."""
    state = unit.show()
    active = state.get("ActiveState") in ("active", "activating", "reloading")
    enabled = state.get("UnitFileState") == "enabled"
    done = []
    if arguments["enabled"] != enabled:
        done.append("enable" if arguments["enabled"] else "disable")
    if arguments["state"] == "stopped":
        done += ["stop"] if active else []
    elif not active:
        done.append("start")
    elif changed or is_stale(
        instant(state.get("ExecMainStartTimestamp", "")), UNITS / unit.name, Path(arguments["link"])
    ):
        done.append("restart")
    if not check_mode:
        if state.get("NeedDaemonReload") == "yes" or changed:
            run("systemctl", "daemon-reload")
        for verb in done:
            unit.do(verb)
    return ", ".join(done)


def problem(arguments: dict, left: float) -> str:
    """Ask the program once how it is; return what is wrong, '' where nothing is."""
    patience = max(0.1, min(ATTEMPT_S, left))
    if arguments["health_url"]:
        # Straight to it: a proxy of this host's is for the outside.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(arguments["health_url"], timeout=patience):
                pass
        except urllib.error.HTTPError as error:
            return f"{arguments['health_url']} answers {error.code}"
        except (OSError, ValueError) as error:
            return f"{arguments['health_url']} does not answer: {getattr(error, 'reason', None) or error}"
    if arguments["health_port"]:
        try:
            socket.create_connection(("localhost", arguments["health_port"]), patience).close()
        except OSError as error:
            return f"port {arguments['health_port']} takes no connection: {error.strerror or error}"
    if arguments["health_command"]:
        words = arguments["health_command"]
        try:
            done = subprocess.run(
                words,
                capture_output=True,
                text=True,
                timeout=patience,
                check=False,
                cwd=Path(arguments["link"]) / "app",
                user=arguments["user"],
            )
        except subprocess.TimeoutExpired:
            return f"`{' '.join(words)}` has not ended after {patience:.0f} s"
        except OSError as error:
            return f"`{' '.join(words)}` cannot be run: {error.strerror}"
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip().splitlines()[-1:]
            return f"`{' '.join(words)}` ended with {done.returncode}{': ' + said[0] if said else ''}"
    return ""


def wait_healthy(unit: Unit, arguments: dict) -> float:
    """Wait until the program is well; return how long that took, in s."""
    begun = time.monotonic()
    asked = bool(arguments["health_url"] or arguments["health_port"] or arguments["health_command"])
    first = unit.show().get("MainPID")
    while True:
        state = unit.show()
        waited = time.monotonic() - begun
        if state.get("ActiveState") not in ("active", "activating", "reloading"):
            ended = state.get("Result") == "success"
            raise unit.explain(
                "the program has ended: one that is meant to is of python_app_type oneshot"
                if ended
                else "the program has stopped"
            )
        if not asked and waited >= STEADY_S:
            if state.get("ActiveState") == "active" and state.get("MainPID") == first:
                return waited
            wrong = "it does not stay up"
        else:
            wrong = problem(arguments, arguments["timeout"] - waited) if asked else "it has only just begun"
            if not wrong and unit.show().get("ActiveState") == "active":
                return time.monotonic() - begun
        if time.monotonic() - begun >= arguments["timeout"]:
            raise unit.explain(f"the program is not well after {arguments['timeout']:.0f} s: {wrong or 'it restarts'}")
        time.sleep(POLL_S)


def main() -> None:
    """Run as an Ansible module."""
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "unit": text,
            "content": text,
            "logs_name": text,
            "logs": text,
            "link": {"type": "path", "required": True},
            "type": {**text, "choices": ["exec", "oneshot"]},
            "state": {**text, "choices": ["started", "stopped"]},
            "enabled": {"type": "bool", "required": True},
            "health_url": {"type": "str", "default": ""},
            "health_port": {"type": "int", "default": 0},
            "health_command": {"type": "list", "elements": "str", "default": []},
            "user": text,
            "timeout": {"type": "float", "default": 30.0},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # folders that others must pass, whatever the login says
    arguments, unit = module.params, Unit(module.params["unit"])
    if arguments["health_url"] and not arguments["health_url"].startswith(("http://", "https://")):
        module.fail_json(msg=f"python_app_health_url {arguments['health_url']!r} is neither http:// nor https://")
    try:
        pwd.getpwnam(arguments["user"])
    except KeyError:
        if not module.check_mode:
            module.fail_json(msg=f"this host has no user {arguments['user']}: python_app_user must be there already")
    wanted = {
        UNITS / unit.name: arguments["content"],
        DECLARATIONS / f"{arguments['logs_name']}.conf": arguments["logs"],
    }
    took = None
    try:
        differences = {path: write(path, content, module.check_mode) for path, content in wanted.items()}
        done = bring_about(unit, arguments, differences[UNITS / unit.name] is not None, module.check_mode)
        if not module.check_mode and arguments["state"] == "started" and arguments["type"] == "exec":
            took = wait_healthy(unit, arguments)
    except (UnitError, OSError) as error:
        module.fail_json(msg=str(error))
    found = [difference for difference in differences.values() if difference]
    module.exit_json(changed=bool(found or done), done=done, healthy_after_s=took, diff=found)


if __name__ == "__main__":
    main()
