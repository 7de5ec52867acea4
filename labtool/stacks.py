"""Stacks and workloads as they are declared beside their playbooks.

`playbooks/<stack>.stack.yml` and `playbooks/workloads/<workload>.workload.yml` say which options there are, which
groups of hosts they need and where the result is reached (`labtool.declaration` has every key). Adding one adds
files and changes none of these modules.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from labtool import content, declaration
from labtool.errors import ConfigError, UsageError, unknown
from labtool.option import Option, Value
from labtool.topology import GroupSpec, Lab, VarSpec


@dataclass(frozen=True)
class Endpoint:
    """Where a deployed stack is reached: one value for each host of a group."""

    name: str
    values: Mapping[str, str]  # host → value

    @property
    def text(self) -> str:
        """All values, as most clients take them: joined by commas."""
        return ",".join(self.values.values())


@dataclass(frozen=True)
class _Group:
    name: str
    count: str
    type: str
    vars: tuple[VarSpec, ...]
    unless: str | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class _EndpointSpec:
    name: str
    group: str
    value: str


@dataclass(frozen=True)
class Declared:
    """What stacks and workloads have in common."""

    name: str
    description: str
    file: Path
    playbook: Path
    options: Mapping[str, Option] = field(default_factory=dict)
    _groups: tuple[_Group, ...] = ()
    _endpoints: tuple[_EndpointSpec, ...] = ()

    @property
    def parser(self) -> Path | None:
        """The Python file beside the playbook that parses what it leaves, if there is one."""
        path = self.playbook.with_suffix(".py")
        return path if path.is_file() else None

    @property
    def group_names(self) -> tuple[str, ...]:
        """The groups it may need hosts in, whatever the options are."""
        return tuple(group.name for group in self._groups)

    def values(self, given: Mapping[str, Any] | None = None) -> dict[str, Value | None]:
        """Return the value of every option: those given (text or values; None: not given), else the defaults.

        `UsageError` says which option, what it got and what is allowed; an unknown one gets the nearest names.
        """
        typed = {name.replace("-", "_"): value for name, value in (given or {}).items() if value is not None}
        for name in typed:
            if name not in self.options:
                flags = (option.flag for option in self.options.values())
                raise unknown(f"option of {self.name}", "--" + name.replace("_", "-"), flags)
        return {
            name: option.value(typed[name]) if name in typed else option.default
            for name, option in self.options.items()
        }

    def parse(self, arguments: Iterable[str]) -> dict[str, str]:
        """Read `--rate 20000 --acks=all` into {option name: text}; for commands whose options depend on a value."""
        given: dict[str, str] = {}
        words = iter(arguments)
        for word in words:
            flag, equals, text = word.partition("=")
            name = flag.removeprefix("--").replace("-", "_")
            if not flag.startswith("--") or not name:
                raise UsageError(f"{self.name} takes no argument {word!r}", self._flags())
            option = self.options.get(name)
            if option is None and name.startswith("no_") and self._is_bool(name[3:]) and not equals:
                given[name[3:]] = "false"
                continue
            if option is None:
                raise unknown(f"option of {self.name}", flag, (o.flag for o in self.options.values()))
            if not equals:
                if option.type == "bool":
                    text = "true"
                else:
                    following = next(words, None)
                    if following is None:
                        raise UsageError(f"{flag} of {self.name} has no value", f"it is {option.allowed}")
                    text = following
            given[name] = text
        return given

    def groups(self, values: Mapping[str, Any]) -> tuple[GroupSpec, ...]:
        """Return the groups of hosts that `values` ask for; those of no host are left out, and true is one host."""
        counts = {name: int(value) if isinstance(value, bool) else value for name, value in values.items()}
        specs = (
            GroupSpec(
                name=group.name,
                count=_number(group.count.format_map(counts), f"{self.file}: groups.{group.name}.count"),
                instance_type=group.type.format_map(values),
                vars=group.vars,
                also=group.also,
            )
            for group in self._groups
            if not (group.unless and values[group.unless])
        )
        return tuple(spec for spec in specs if spec.count)

    def counted_by(self) -> dict[str, str]:
        """Return the groups of which one option alone says how many hosts they have, and that option's name."""
        named = {group.name: group.count.removeprefix("{").removesuffix("}") for group in self._groups}
        return {name: option for name, option in named.items() if option in self.options}

    def extra_vars(self, values: Mapping[str, Any]) -> dict[str, Value]:
        """Return the variables that carry `values` to the playbook, typed; what has no value sets none."""
        return {
            option.var: values[name]
            for name, option in self.options.items()
            if option.var is not None and values.get(name) is not None
        }

    def endpoints(self, lab: Lab, values: Mapping[str, Any] | None = None) -> tuple[Endpoint, ...]:
        """Return where the stack is reached on the running hosts of `lab`; `values` where an endpoint names options."""
        chosen = dict(values) if values is not None else self.values()
        found = []
        for spec in self._endpoints:
            hosts = [host for host in lab.groups.get(spec.group, ()) if host.running]
            texts = {
                h.name: spec.value.format_map(chosen | {f: getattr(h, f) for f in declaration.HOST_FIELDS})
                for h in hosts
            }
            if texts:
                found.append(Endpoint(spec.name, texts))
        return tuple(found)

    def _is_bool(self, name: str) -> bool:
        return name in self.options and self.options[name].type == "bool"

    def _flags(self) -> str:
        return "its options: " + (", ".join(option.flag for option in self.options.values()) or "none")


@dataclass(frozen=True)
class Stack(Declared):
    """Something deployable: a playbook and what it declares."""

    provides: tuple[str, ...] = ()  # other stacks that it deploys too


@dataclass(frozen=True)
class Workload(Declared):
    """Something that drives a stack: a playbook, typed parameters, a parser for what it prints."""

    stack: str = ""
    whole: bool = False  # it is run with a lab of its own, from launch to end
    operations: str = ""  # what the report calls what it does
    latency: Literal["intended"] | None = None  # what it counts from; None where that is not known
    _seconds: str | None = None

    def seconds(self, values: Mapping[str, Any]) -> float | None:
        """Return how long it takes with these options; None where they do not say."""
        if self._seconds is None:
            return None
        text = self._seconds.format_map(values)
        try:
            found = float(text)
        except ValueError:
            found = 0.0
        if not 0 < found < math.inf:
            raise ConfigError(f"{self.file}: seconds: {text!r} is no number above 0")
        return found


def stacks(folder: Path | None = None) -> dict[str, Stack]:
    """Return the stacks declared in `folder` (labtool's playbooks by default), by name.

    `ConfigError` names the file and the key that is wrong.
    """
    return {name: _stack(file, name) for name, file in _files(folder, "stack")}


def workloads(folder: Path | None = None) -> dict[str, Workload]:
    """Return the workloads declared in `folder`/workloads, by name; `ConfigError` as in `stacks`."""
    return {name: _workload(file, name) for name, file in _files(folder, "workload")}


def stack(name: str, folder: Path | None = None) -> Stack:
    """Return one stack; `UsageError` with the nearest names if there is none. Reads no other declaration."""
    return _stack(_file(folder, "stack", name), name)


def workload(name: str, folder: Path | None = None) -> Workload:
    """Return one workload; `UsageError` with the nearest names if there is none. Reads no other declaration."""
    return _workload(_file(folder, "workload", name), name)


def driven(workload: Workload, deployed: Iterable[str], folder: Path | None = None) -> str | None:
    """Return which of the stacks `deployed` the workload drives: its own, else one that provides it; None if none."""
    there = list(deployed)
    if workload.stack in there:
        return workload.stack
    known = stacks(folder)
    return next((name for name in there if name in known and workload.stack in known[name].provides), None)


def names(kind: Literal["stack", "workload"], folder: Path | None = None) -> tuple[str, ...]:
    """Return the names of all stacks or workloads without reading their declarations."""
    return tuple(name for name, _ in _files(folder, kind))


def _files(folder: Path | None, kind: Literal["stack", "workload"]) -> list[tuple[str, Path]]:
    folder = folder or content.playbooks()
    ending = f".{kind}.yml"
    found = (folder if kind == "stack" else folder / "workloads").glob(f"*{ending}")
    return [(file.name.removesuffix(ending), file) for file in sorted(found)]


def _file(folder: Path | None, kind: Literal["stack", "workload"], name: str) -> Path:
    found = dict(_files(folder, kind))
    if name not in found:
        raise unknown(kind, name, found)
    return found[name]


def _stack(file: Path, name: str) -> Stack:
    read = declaration.read(file, name, declaration.StackFile)
    if wrong := next((other for other in read.provides if other not in names("stack", file.parent)), None):
        raise ConfigError(f"{file}: provides: there is no stack {wrong}")
    return Stack(**_declared(file, name, read), provides=tuple(read.provides))


def _workload(file: Path, name: str) -> Workload:
    read = declaration.read(file, name, declaration.WorkloadFile)
    return Workload(
        **_declared(file, name, read),
        stack=read.stack,
        whole=read.whole,
        operations=read.operations,
        latency=read.latency,
        _seconds=None if read.seconds is None else str(read.seconds),
    )


def _declared(file: Path, name: str, read: declaration.StackFile) -> dict[str, Any]:
    playbook = file.with_name(f"{name}.yml")
    if not playbook.is_file():
        raise ConfigError(f"{file}: its playbook {playbook.name} is missing beside it")
    return {
        "name": name,
        "description": read.description,
        "file": file,
        "playbook": playbook,
        "options": {key: each.option(key) for key, each in read.options.items()},
        "_groups": tuple(_group(key, each) for key, each in read.groups.items()),
        "_endpoints": tuple(_EndpointSpec(each.name, each.group, each.value) for each in read.endpoints),
    }


def _group(name: str, read: declaration.GroupFile) -> _Group:
    made = tuple(VarSpec(key, each.make, each.scope, each.base) for key, each in read.vars.items())
    return _Group(name, str(read.count), read.type, made, read.unless, tuple(read.also))


def _number(text: str, where: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{where}: {text!r} is no whole number") from None
