#!/usr/bin/python
"""Write a service's files, have its own program test them, and let the unit take them over: all, or nothing."""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: web_service
short_description: Configure a systemd unit so that a bad configuration never reaches it
description:
  - Writes O(files) and runs O(test). Where it fails every file is put back as it was, and the unit is not touched.
  - The unit is reloaded where only files with V(reload) changed, restarted where one with V(restart) did, started where
    it does not run, and left alone otherwise. What an interrupted run still owed is done by the next one.
  - Waits until O(ready) succeeds. A failure ends with the last lines of the unit's journal.
options:
  unit: {description: The systemd unit, required: true, type: str}
  directories: {description: 'Folders to make (path, mode, owner)', type: list, elements: dict, default: []}
  files:
    description: >-
      Files (path, content, mode). C(then) is what a change of it needs, V(reload), V(restart), nothing or the name of
      one of O(companions). C(live) is a pattern of
      lines whose change O(prepare) brings about by itself, or asks for C(then) by ending with 3. C(keep) keeps what was
      there before the first change, as C(path).before-labtool.
    type: list
    elements: dict
    default: []
  secrets: {description: Like O(files), never shown, type: list, elements: dict, default: []}
  absent: {description: Paths of files and links that must not be there, type: list, elements: path, default: []}
  test: {description: Command that tests what was written, type: list, elements: str, default: []}
  prepare: {description: Command to run before the unit takes anything over, type: list, elements: str, default: []}
  ready: {description: Command that succeeds when the service answers, type: list, elements: str, default: []}
  timeout: {description: Seconds for which readiness is awaited, type: float, default: 60}
  companions: {description: Units that run beside it, type: list, elements: str, default: []}
"""

OWED = Path("/run/labtool")
POLL_S = 0.1
NEEDS_RELOAD = 3  # how a command ends that could not bring a change about by itself


class ServiceError(Exception):
    """What went wrong, in words for whoever runs the playbook."""


def run(command: list[str], timeout: float = 300) -> subprocess.CompletedProcess:
    """Run a command and return what it said; `ServiceError` where it cannot be run, or does not end."""
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=timeout
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceError(f"{command[0]}: {error}") from None


def said(done: subprocess.CompletedProcess) -> str:
    """Return what a command printed, errors first."""
    return "\n".join(text.strip() for text in (done.stderr, done.stdout) if text.strip())


class Unit:
    """A systemd unit."""

    def __init__(self, name: str) -> None:
        self.name = name

    def show(self) -> dict[str, str]:
        """Return the properties that matter here."""
        wanted = "ActiveState,Result,NeedDaemonReload,UnitFileState"
        lines = run(["systemctl", "show", self.name, "-p", wanted]).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def do(self, verb: str) -> None:
        """Start, reload or restart it; `ServiceError` with its journal."""
        done = run(["systemctl", verb, self.name])
        if done.returncode:
            raise self.explain(f"{verb} of {self.name} failed: {said(done)}")

    def explain(self, what: str) -> ServiceError:
        """Return an error that ends with the journal."""
        journal = run(["journalctl", "-u", self.name, "-n", "25", "--no-pager", "-o", "cat"]).stdout.strip()
        return ServiceError(f"{what}\nThe last lines of {self.name}:\n{journal or 'none'}")


class Files:
    """Files as they shall be, what they were, and how to go back."""

    def __init__(self, wanted: list[dict], absent: list[str]) -> None:
        self.wanted = [
            {**one, "path": Path(one["path"]), "content": one["content"].rstrip("\n") + "\n"} for one in wanted
        ]
        self.absent = [Path(path) for path in absent if os.path.lexists(path)]
        self.changed = [one for one in self.wanted if self.state(one["path"]) != (one["content"], one["mode"])]
        self._before: list[tuple[Path, tuple[str, str] | None]] = []
        self._links: list[tuple[Path, str]] = []

    @staticmethod
    def state(path: Path) -> tuple[str, str] | None:
        """Return a file's text and mode; None where there is none."""
        try:
            return path.read_text(errors="surrogateescape"), f"{path.stat().st_mode & 0o7777:04o}"
        except (FileNotFoundError, NotADirectoryError):
            return None

    @property
    def paths(self) -> list[str]:
        """What is to be changed."""
        return [str(one["path"]) for one in self.changed] + [str(path) for path in self.absent]

    def needs(self) -> set[str]:
        """Return what the changes need: reload, restart, names of companions."""
        found = {"live" if self.lives(one) else one["then"] for one in self.changed if one["then"]}
        return found | ({"reload"} if self.absent else set())

    def lives(self, one: dict) -> bool:
        """Return whether a changed file differs only in lines that need no reload."""
        before = self.state(one["path"])
        if not one.get("live") or before is None:
            return False
        pattern = re.compile(one["live"])
        old, new = (
            [line for line in text.splitlines() if not pattern.match(line)] for text in (before[0], one["content"])
        )
        return old == new

    def differences(self) -> list[dict]:
        """Return the changes for `--diff`."""
        shown = []
        for one in self.changed:
            before = self.state(one["path"])
            if not one.get("secret"):
                header = str(one["path"])
                text = before[0] if before else ""
                shown.append({"before_header": header, "after_header": header, "before": text, "after": one["content"]})
        return shown

    def write(self) -> None:
        """Change what is to be changed."""
        for one in self.changed:
            path, before = one["path"], self.state(one["path"])
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = path.with_name(path.name + ".before-labtool")
            if one.get("keep") and before and not kept.exists():
                replace(kept, *before)
            self._before.append((path, before))
            replace(path, one["content"], one["mode"])
        for path in self.absent:
            if path.is_symlink():
                self._links.append((path, str(path.readlink())))
            else:
                self._before.append((path, self.state(path)))
            path.unlink()

    def restore(self) -> None:
        """Put everything back as it was."""
        for path, before in reversed(self._before):
            if before is None:
                path.unlink(missing_ok=True)
            else:
                replace(path, *before)
        for path, target in self._links:
            path.symlink_to(target)


def replace(path: Path, content: str, mode: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.touch(mode=0o600)
    temporary.write_text(content, errors="surrogateescape")
    temporary.chmod(int(mode, 8))
    temporary.replace(path)


def make_directories(wanted: list[dict], check_mode: bool) -> list[str]:
    """Make the folders that are missing or have another mode or owner; return which."""
    made = []
    for one in wanted:
        path, mode = Path(one["path"]), int(one["mode"], 8)
        try:
            owner = pwd.getpwnam(one["owner"])
        except KeyError:
            if not check_mode:
                raise ServiceError(f"{path}: there is no user {one['owner']}") from None
            made.append(str(path))  # its package is not installed yet
            continue
        seen = path.stat() if path.is_dir() else None
        if seen and seen.st_mode & 0o7777 == mode and seen.st_uid == owner.pw_uid:
            continue
        made.append(str(path))
        if not check_mode:
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(mode)
            os.chown(path, owner.pw_uid, owner.pw_gid)
    return made


def owed_file(unit: str) -> Path:
    """Return where it is written down what a unit still needs, from before its files change until it was done."""
    return OWED / f"{unit}.owed"


def owed(unit: str) -> set[str]:
    """Return what an interrupted run did not come to."""
    try:
        return set(json.loads(owed_file(unit).read_text()))
    except (FileNotFoundError, ValueError):
        return set()


def owe(unit: str, needs: set[str]) -> None:
    """Write down what is needed; nothing: all was done."""
    if needs:
        OWED.mkdir(exist_ok=True)
        replace(owed_file(unit), json.dumps(sorted(needs)), "0600")
    else:
        owed_file(unit).unlink(missing_ok=True)


def action(state: dict[str, str], needs: set[str]) -> str:
    """Return what the unit needs: start, restart, reload or nothing ('')."""
    if state.get("ActiveState") not in ("active", "reloading"):
        return "start"
    return "restart" if "restart" in needs else "reload" if "reload" in needs else ""


def await_ready(unit: Unit, command: list[str], timeout: float) -> None:
    """Poll until `command` succeeds; `ServiceError` as soon as the unit has died, or when time is up."""
    deadline = time.monotonic() + timeout
    while True:
        done = run(command)
        if done.returncode == 0:
            return
        state = unit.show()
        if state.get("ActiveState") in ("failed", "inactive"):
            raise unit.explain(f"{unit.name} ended ({state.get('Result')})")
        if time.monotonic() >= deadline:
            raise unit.explain(f"{unit.name} is not ready after {timeout:.0f} s: {said(done)}")
        time.sleep(POLL_S)


def configure(arguments: dict, check_mode: bool) -> dict:
    """Bring the service to what is asked; return the module's result."""
    unit = Unit(arguments["unit"])
    secrets = [{**one, "secret": True} for one in arguments["secrets"]]
    made = make_directories(arguments["directories"], check_mode)
    files = Files(arguments["files"] + secrets, arguments["absent"])
    needs = files.needs() | owed(unit.name)
    units = [unit, *(Unit(name) for name in arguments["companions"])]
    states = {one.name: one.show() for one in units}
    verb = action(states[unit.name], needs)
    disabled = [one.name for one in units if states[one.name].get("UnitFileState") != "enabled"]
    idle = [one.name for one in units[1:] if action(states[one.name], set()) or one.name in needs]
    result = {
        "changed": bool(made or files.paths or needs or verb or disabled or idle),
        "changed_paths": [*made, *files.paths],
        "action": verb,
        "diff": files.differences(),
    }
    if check_mode:
        return result
    owe(unit.name, needs)
    files.write()
    try:
        if arguments["test"] and (files.changed or files.absent or verb):
            tested = run(arguments["test"])
            if tested.returncode:
                raise ServiceError(
                    "the configuration was refused and is as it was before, "
                    f"{unit.name} was not touched:\n{said(tested)}"
                )
        if arguments["prepare"] and (verb or "live" in needs):
            prepared = run(arguments["prepare"])
            if prepared.returncode == NEEDS_RELOAD:
                verb = verb or "reload"
            elif prepared.returncode:
                raise ServiceError(
                    f"the configuration is as it was before, and {unit.name} was not touched: {said(prepared)}"
                )
    except ServiceError:
        files.restore()
        owe(unit.name, set())
        raise
    # systemd does not always see by itself that a drop-in is new.
    if any(path.startswith("/etc/systemd/") for path in files.paths) or any(
        state.get("NeedDaemonReload") == "yes" for state in states.values()
    ):
        run(["systemctl", "daemon-reload"])
    result["action"] = verb
    if disabled:
        run(["systemctl", "enable", *disabled])
    if verb:
        unit.do(verb)
    for name in idle:
        Unit(name).do("restart")
    if arguments["ready"]:
        await_ready(unit, arguments["ready"], arguments["timeout"])
    owe(unit.name, set())
    return result


def main() -> None:
    """Run as an Ansible module."""
    text = {"type": "str", "required": True}
    folder = {"path": text, "mode": {"type": "str", "default": "0755"}, "owner": {"type": "str", "default": "root"}}
    file = {
        "path": {"type": "path", "required": True},
        "content": text,
        "mode": {"type": "str", "default": "0644"},
        "then": {"type": "str", "default": ""},
        "keep": {"type": "bool", "default": False},
        "live": {"type": "str", "default": ""},
    }
    secret = {**text, "no_log": True}
    words = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "unit": text,
            "directories": {"type": "list", "elements": "dict", "default": [], "options": folder},
            "files": {"type": "list", "elements": "dict", "default": [], "options": file},
            "secrets": {"type": "list", "elements": "dict", "default": [], "options": {**file, "content": secret}},
            "absent": {"type": "list", "elements": "path", "default": []},
            "test": words,
            "prepare": words,
            "ready": words,
            "timeout": {"type": "float", "default": 60.0},
            "companions": words,
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # folders that others must pass, whatever the login says
    try:
        module.exit_json(**configure(module.params, module.check_mode))
    except ServiceError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"a file of {module.params['unit']} could not be written: {error}")


if __name__ == "__main__":
    main()
