"""What is about to be run, as a value: it can be printed (`--dry-run`) and tested without Ansible."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from labtool import content
from labtool.ansible import inventory as inventories
from labtool.ansible.inventory import Inventory
from labtool.errors import AnsibleError

Strategy = Literal["mitogen", "linear"]

MOST_FORKS = 50
_SECRET = re.compile(
    r"(^|_)pass(_|$)|password|passphrase|passwd|secret|token|private_key|access_key|credential|artifact_url",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class PlayCommand:
    """One call of ansible-playbook."""

    playbook: Path
    inventory: Inventory
    extra_vars: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)  # what is set besides the caller's environment
    forks: int = 5
    tags: tuple[str, ...] = ()
    limit: str | None = None
    check: bool = False
    then: tuple[Path, ...] = ()  # playbooks that follow, over the same connections; none after one that failed

    @property
    def playbooks(self) -> tuple[Path, ...]:
        """All playbooks, in their order."""
        return (self.playbook, *self.then)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of the inventory's hosts."""
        return inventories.hosts(self.inventory)

    @property
    def options(self) -> tuple[str, ...]:
        """The options given to ansible-playbook besides inventory, variables and playbook."""
        return (
            "--forks",
            str(self.forks),
            *(("--limit", self.limit) if self.limit else ()),
            *(("--tags", ",".join(self.tags)) if self.tags else ()),
            *(("--check",) if self.check else ()),
        )

    def shell(self, inventory: str = "inventory.yml") -> str:
        """Return the command as text for a shell, one part a line; values of secret variables are hidden."""
        shown = {k: "(hidden)" if _SECRET.search(k) else _plain(v) for k, v in self.extra_vars.items()}
        lines = [f"{key}={shlex.quote(value)}" for key, value in sorted(self.env.items()) if key not in _OWN]
        lines += ["ansible-playbook", f"-i {shlex.quote(inventory)}", shlex.join(self.options)]
        lines += [f"-e {shlex.quote(_assignment(key, value))}" for key, value in shown.items()]
        lines += [shlex.quote(str(playbook)) for playbook in self.playbooks]
        return " \\\n  ".join(lines)


# Set to undo what another program left in the environment; of no use to someone who types the command.
_OWN = ("PATH", "JOB_ID", "AD_HOC_COMMAND_ID", "PROJECT_UPDATE_ID", "RUNNER_OMIT_EVENTS", "RUNNER_ONLY_FAILED_EVENTS")


def build(
    playbook: Path,
    inventory: Inventory,
    *,
    extra_vars: Mapping[str, Any] | None = None,
    strategy: Strategy = "mitogen",
    forks: int | None = None,
    tags: Sequence[str] = (),
    limit: str | None = None,
    check: bool = False,
    then: Sequence[Path] = (),
    environ: Mapping[str, str] | None = None,
) -> PlayCommand:
    """Return the call that runs `playbook` on the hosts of `inventory`.

    `environ` is the caller's environment (this process's by default): its ANSIBLE_* settings hold, but for those
    that would make the hosts' keys unchecked or the events unreadable. `AnsibleError` where the playbook or
    mitogen is missing.
    """
    environ = os.environ if environ is None else environ
    playbook, *following = (each.resolve() for each in (playbook, *then))
    for each in (playbook, *following):
        if not each.is_file():
            raise AnsibleError(f"there is no playbook {each}")
    return PlayCommand(
        playbook=playbook,
        inventory=_for_mitogen(inventory) if strategy == "mitogen" else inventory,
        extra_vars={key: _plain(value) for key, value in (extra_vars or {}).items()},
        env=environment(strategy, environ),
        forks=forks or _forks_asked(environ) or forks_for(len(inventories.hosts(inventory))),
        tags=tuple(tags),
        limit=limit,
        check=check,
        then=tuple(following),
    )


def _for_mitogen(inventory: Inventory) -> Inventory:
    """Give mitogen's connections what `labtool.ssh.options` says; its own options stand first on ssh's command line.

    Left to itself it waits 5 minutes for a host that has gone silently, and compresses.
    """
    options = {
        "mitogen_ssh_keepalive_interval": 5,
        "mitogen_ssh_keepalive_count": 6,
        "mitogen_ssh_compression": False,
    }
    everyone = inventory.get("all", {})
    return {**inventory, "all": {**everyone, "vars": {**options, **everyone.get("vars", {})}}}


def forks_for(hosts: int, cores: int | None = None) -> int:
    """Return how many hosts to work on at once: min(hosts, 10 × cores, 50); a task costs a core about 0.07 s a host."""
    cores = cores or len(os.sched_getaffinity(0))
    return max(1, min(hosts, 10 * cores, MOST_FORKS))


def environment(strategy: Strategy, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to set for ansible-playbook besides `environ`."""
    defaults = {
        "ANSIBLE_CONFIG": str(content.root() / "ansible.cfg"),
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_TIMEOUT": "15",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        # Our own options of a connection are host variables; without this Ansible adds compression to them.
        "ANSIBLE_SSH_ARGS": "-o Compression=no",
    }
    env = {key: environ.get(key) or value for key, value in defaults.items()}
    env |= {
        "PATH": _joined(sysconfig.get_path("scripts"), environ.get("PATH", os.defpath)),
        "ANSIBLE_ROLES_PATH": _joined(environ.get("ANSIBLE_ROLES_PATH"), str(content.root() / "roles")),
        # ansible-runner turns this off unless it is set.
        "ANSIBLE_HOST_KEY_CHECKING": "1",
        "ANSIBLE_STDOUT_CALLBACK": "default",
        # The log must hold what was skipped and well, whatever the user likes to see on a terminal.
        "ANSIBLE_DISPLAY_OK_HOSTS": "1",
        "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "1",
        "ANSIBLE_RETRY_FILES_ENABLED": "0",
        "ANSIBLE_NOCOWS": "1",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        # Facts of a host that has since been replaced are worse than none.
        "ANSIBLE_CACHE_PLUGIN": "memory",
        # ansible-runner and its callback change their ways if a scheduler or an older run left one of these.
        "JOB_ID": "",
        "AD_HOC_COMMAND_ID": "",
        "PROJECT_UPDATE_ID": "",
        "RUNNER_OMIT_EVENTS": "False",
        "RUNNER_ONLY_FAILED_EVENTS": "False",
    }
    if strategy == "mitogen":
        env["ANSIBLE_STRATEGY"] = "mitogen_linear"
        env["ANSIBLE_STRATEGY_PLUGINS"] = _joined(str(mitogen_plugins()), environ.get("ANSIBLE_STRATEGY_PLUGINS"))
    else:
        env["ANSIBLE_STRATEGY"] = "linear"
    return env


def mitogen_plugins() -> Path:
    """Return the folder of the strategy plugin that runs mitogen's; `AnsibleError` if mitogen is not installed."""
    if importlib.util.find_spec("ansible_mitogen") is None:
        raise AnsibleError("mitogen is not installed", "pip install mitogen, or choose --strategy linear")
    return Path(__file__).parent / "strategy"


def _forks_asked(environ: Mapping[str, str]) -> int | None:
    text = environ.get("ANSIBLE_FORKS", "")
    return int(text) if text.isdecimal() and int(text) else None


def _joined(*paths: str | None) -> str:
    return os.pathsep.join(path for path in paths if path)


def _plain(value: Any) -> Any:
    """Turn paths, tuples and the like into what JSON holds."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(part) for part in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _assignment(key: str, value: Any) -> str:
    # `-e key=value` makes a string of everything.
    return f"{key}={shlex.quote(value)}" if isinstance(value, str) else json.dumps({key: value})
