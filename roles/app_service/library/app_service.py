#!/usr/bin/python
"""Keep the unit of a program, or those of its instances, as they shall be, and see that the program is well."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from ansible.module_utils.app_unit import Unit, UnitError, instant, run
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: app_service
short_description: A program's units and their health
description:
  - Writes the units, starts or stops them, and restarts what was started before its unit or the program changed.
  - Units of the same base that are no longer wanted are ended and removed.
  - A program that goes on counts as started when its health check has succeeded; without one, when it still runs a
    second after it was started. One that ends (C(oneshot)) when it has ended well.
  - Every failure ends with the last lines of the unit's journal.
options:
  role: {description: The role whose arguments are named in what is said, required: true, type: str}
  base: {description: 'The units are base.service, or instances of base@.service', required: true, type: str}
  content: {description: 'The file of base.service, or of base@.service', required: true, type: str}
  units:
    description:
      - Each with C(name), C(own) (the drop-in of an instance), and C(health_url) (well when it answers with a status
        below 400), C(health_port) (when it takes connections; 0 is none), C(health_command) (when it ends with 0).
    required: true
    type: list
    elements: dict
  logs_name: {description: Name of the file that tells the collector its logs, required: true, type: str}
  logs: {description: That file, required: true, type: str}
  link: {description: The link whose change means a new program, required: true, type: path}
  directory: {description: Where health_command is run, required: true, type: path}
  type: {description: exec or oneshot, required: true, type: str}
  state: {description: started or stopped, required: true, type: str}
  enabled: {description: Whether it starts at boot, required: true, type: bool}
  user: {description: Who runs health_command, required: true, type: str}
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


def bring_about(unit: Unit, arguments: dict, changed: bool, files: list[Path], check_mode: bool) -> list[str]:
    """Start, restart or stop the unit as is needed; return what was done."""
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
    elif changed or is_stale(instant(state.get("ExecMainStartTimestamp", "")), *files, Path(arguments["link"])):
        done.append("restart")
    if not check_mode:
        if state.get("NeedDaemonReload") == "yes" or changed:
            run("systemctl", "daemon-reload")
        for verb in done:
            unit.do(verb)
    return done


def drop_in_of(name: str) -> Path:
    """Return where what is an instance's own stands."""
    return UNITS / f"{name}.d" / "instance.conf"


def template_of(base: str, units: list[dict]) -> Path:
    """Return the file of the unit, or of the template of its instances."""
    return UNITS / (f"{base}@.service" if any(unit["own"] for unit in units) else f"{base}.service")


def unwanted(base: str, units: list[dict]) -> list[Path]:
    """Return the files of units of this base that there are and shall not be."""
    template = template_of(base, units)
    wanted = {template, *(drop_in_of(unit["name"]) for unit in units)}
    there = [*UNITS.glob(f"{base}@*.service.d/instance.conf"), UNITS / f"{base}@.service", UNITS / f"{base}.service"]
    return [path for path in there if path.exists() and path not in wanted]


def remove(files: list[Path]) -> list[str]:
    """End the units of these files and remove them; return what was done."""
    done = []
    for path in files:
        name = path.parent.name.removesuffix(".d") if path.name == "instance.conf" else path.name
        if not name.endswith("@.service"):
            run("systemctl", "disable", "--now", name)
            done.append(f"remove {name}")
        path.unlink()
        if path.parent != UNITS:
            path.parent.rmdir()
    if files:
        run("systemctl", "daemon-reload")
    return done


def problem(asked: dict, arguments: dict, left: float) -> str:
    """Ask the program once how it is; return what is wrong, '' where nothing is."""
    patience = max(0.1, min(ATTEMPT_S, left))
    if asked["health_url"]:
        # Straight to it: a proxy of this host's is for the outside.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(asked["health_url"], timeout=patience):
                pass
        except urllib.error.HTTPError as error:
            return f"{asked['health_url']} answers {error.code}"
        except (OSError, ValueError) as error:
            return f"{asked['health_url']} does not answer: {getattr(error, 'reason', None) or error}"
    if asked["health_port"]:
        try:
            socket.create_connection(("localhost", asked["health_port"]), patience).close()
        except OSError as error:
            return f"port {asked['health_port']} takes no connection: {error.strerror or error}"
    if asked["health_command"]:
        words = asked["health_command"]
        try:
            done = subprocess.run(
                words,
                capture_output=True,
                text=True,
                timeout=patience,
                check=False,
                cwd=arguments["directory"],
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


def wait_healthy(unit: Unit, health: dict, arguments: dict) -> float:
    """Wait until the program is well; return how long that took, in s."""
    begun = time.monotonic()
    asked = bool(health["health_url"] or health["health_port"] or health["health_command"])
    first = unit.show().get("MainPID")
    while True:
        state = unit.show()
        waited = time.monotonic() - begun
        if state.get("ActiveState") not in ("active", "activating", "reloading"):
            ended = state.get("Result") == "success"
            raise unit.explain(
                f"the program has ended: one that is meant to is of {arguments['role']}_type oneshot"
                if ended
                else "the program has stopped"
            )
        if not asked and waited >= STEADY_S:
            if state.get("ActiveState") == "active" and state.get("MainPID") == first:
                return waited
            wrong = "it does not stay up"
        else:
            wrong = problem(health, arguments, arguments["timeout"] - waited) if asked else "it has only just begun"
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
            "role": text,
            "base": text,
            "content": text,
            "units": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": text,
                    "own": {"type": "str", "default": ""},
                    "health_url": {"type": "str", "default": ""},
                    "health_port": {"type": "int", "default": 0},
                    "health_command": {"type": "list", "elements": "str", "default": []},
                },
            },
            "logs_name": text,
            "logs": text,
            "link": {"type": "path", "required": True},
            "directory": {"type": "path", "required": True},
            "type": {**text, "choices": ["exec", "oneshot"]},
            "state": {**text, "choices": ["started", "stopped"]},
            "enabled": {"type": "bool", "required": True},
            "user": text,
            "timeout": {"type": "float", "default": 30.0},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # folders that others must pass, whatever the login says
    arguments, wanted, check_mode = module.params, module.params["units"], module.check_mode
    for unit in wanted:
        if unit["health_url"] and not unit["health_url"].startswith(("http://", "https://")):
            module.fail_json(
                msg=f"{arguments['role']}_health_url {unit['health_url']!r} is neither http:// nor https://"
            )
    try:
        pwd.getpwnam(arguments["user"])
    except KeyError:
        if not check_mode:
            module.fail_json(
                msg=f"this host has no user {arguments['user']}: {arguments['role']}_user must be there already"
            )
    template = template_of(arguments["base"], wanted)
    contents = {template: arguments["content"]}
    contents |= {drop_in_of(unit["name"]): unit["own"] for unit in wanted if unit["own"]}
    contents[DECLARATIONS / f"{arguments['logs_name']}.conf"] = arguments["logs"]
    gone = unwanted(arguments["base"], wanted)
    done, took = [f"remove {path}" for path in gone], {}
    try:
        if not check_mode:
            done = remove(gone)
        differences = {path: write(path, content, check_mode) for path, content in contents.items()}
        for one in wanted:
            files = [template, drop_in_of(one["name"])]
            changed = any(differences.get(path) is not None for path in files)
            done += [
                f"{verb} {one['name']}"
                for verb in bring_about(Unit(one["name"]), arguments, changed, files, check_mode)
            ]
        if not check_mode and arguments["state"] == "started" and arguments["type"] == "exec":
            took = {one["name"]: round(wait_healthy(Unit(one["name"]), one, arguments), 3) for one in wanted}
    except (UnitError, OSError) as error:
        module.fail_json(msg=str(error))
    found = [difference for difference in differences.values() if difference]
    module.exit_json(changed=bool(found or done), done=done, healthy_after_s=took, diff=found)


if __name__ == "__main__":
    main()
