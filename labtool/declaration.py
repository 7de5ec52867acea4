"""The files in which stacks and workloads are declared: every key, checked strictly.

    description: Apache Kafka in KRaft mode
    provides: [kafka-cluster]           # stacks only: others that it deploys too; their workloads drive it
    stack: kafka-cluster                # workloads only, to `latency`: what it drives
    whole: true                         # `labtool run` launches its lab, deploys the stack, and ends the lab after it
    seconds: "{from}"                   # how long it takes, from its options; 5 minutes without
    operations: numbers                 # what the report calls what it does; records or requests without
    latency: intended                   # it counts from when an operation was due; left out: not known
    options:                            # become --brokers, --version: underscores become hyphens
      brokers: {type: int, default: 3, min: 1, max: 99, help: Brokers.}
      version: {type: str, default: "4.3.0", var: kafka_version, help: Which release.}
    groups:                             # count and type may name options; a count that is a bool is 1 or 0; a group
                                        # has no host where the bool option of its `unless` is true; its hosts are
                                        # in the inventory's groups of its `also` too
      kafka:
        count: "{brokers}"
        type: t3.medium
        vars:                           # made once at launch, kept in the hosts' tags
          kafka_node_id: {make: index, base: 1}
          kafka_cluster_id: {make: uuid, scope: lab}
    endpoints:                          # {address}, {private_address}, {name}, {instance_id} and options
      - {name: bootstrap servers, group: kafka, value: "{address}:9092"}

An option has `type` (int, float, str, bool, path), `default` (without one it may be left out), `help`, `unit`, `min`,
`max`, `choices`, and `var`: the variable that carries it to the playbook; without `var` it shapes the groups alone. A
`str` may have a `pattern` (a regular expression for all of it), and in `like` the words that say what it may be.
Of a workload, an `int` with a default may have `within: kafka`: by default it is no more than the hosts of that group
that run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, TypeVar

import yaml
from msgspec import Struct, field

from labtool import checked
from labtool.checked import RefusedError, matching
from labtool.errors import ConfigError, UsageError, unknown
from labtool.option import Option, OptionType, Value
from labtool.topology import NAME, RESERVED

OPTION_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
FILE_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OPERATIONS = re.compile(r"([a-z][a-z -]*)?")
GROUP_NAME = f"lower-case letters, digits and _, and none of {', '.join(RESERVED)}"
HOST_FIELDS = ("address", "private_address", "name", "instance_id")


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class OptionFile(_File, frozen=True):
    """One option."""

    type: OptionType
    default: Value | None = None
    help: str = ""
    unit: str = ""
    min: int | float | None = None
    max: int | float | None = None
    choices: list[Value] = field(default_factory=list)
    var: Annotated[str, matching(VARIABLE, "a variable's name: letters, digits and _")] | None = None
    pattern: str | None = None
    like: str = ""
    within: Annotated[str, matching(NAME, f"a group's name: {GROUP_NAME}")] | None = None

    def option(self, name: str) -> Option:
        """Return it as the option `name`."""
        default = float(self.default) if self.type == "float" and self.default is not None else self.default
        return Option(
            name,
            self.type,
            default,
            self.help,
            self.unit,
            self.min,
            self.max,
            tuple(self.choices),
            self.var,
            self.pattern,
            self.like,
            self.within,
        )

    def __post_init__(self) -> None:
        if self.type == "path" and (self.default is not None or self.choices):
            raise RefusedError("a path has neither default nor choices")
        if self.type in {"str", "bool", "path"} and (self.min is not None or self.max is not None):
            raise RefusedError(f"min and max are for numbers, and this is {self.type}")
        if (self.pattern is None) != (not self.like) or (self.pattern is not None and self.type != "str"):
            raise RefusedError("pattern and like go together, and are for text")
        if self.within is not None and (self.type != "int" or self.default is None):
            raise RefusedError("within is for a whole number with a default")
        kinds = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "path": (str,)}[self.type]
        whole = Option("it", self.type, min=self.min, max=self.max, pattern=self.pattern, like=self.like)
        for what, value, probe in (
            *(("choice", choice, whole) for choice in self.choices),
            ("default", self.default, replace(whole, choices=tuple(self.choices))),
        ):
            if value is None:
                continue
            # YAML reads 4.3 as a number: a version must be quoted, and the file says so, not a later playbook.
            if self.type == "str" and not isinstance(value, str):
                raise RefusedError(f"the {what} {value!r} is not text: put it in quotes")
            try:
                probe.value(value)
            except UsageError:
                raise RefusedError(f"the {what} {value!r} is not {probe.allowed}") from None
            if not isinstance(value, kinds):
                raise RefusedError(f"the {what} {value!r} is text, not {probe.allowed}: without quotes")


class VarFile(_File, frozen=True):
    """A variable that is made at launch; see `topology.VarSpec`."""

    make: Literal["uuid", "index"]
    scope: Literal["lab", "host"] = "host"
    base: int = 0


class GroupFile(_File, frozen=True):
    """A group of hosts."""

    count: int | str
    type: str
    unless: str | None = None
    also: list[str] = field(default_factory=list)
    vars: dict[str, VarFile] = field(default_factory=dict)


class EndpointFile(_File, frozen=True):
    """Where the stack is reached."""

    name: str
    group: str
    value: str


class StackFile(_File, frozen=True, kw_only=True):
    """`<stack>.stack.yml`."""

    description: str
    provides: list[str] = field(default_factory=list)
    options: dict[str, OptionFile] = field(default_factory=dict)
    groups: dict[str, GroupFile]
    endpoints: list[EndpointFile] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, option in self.options.items():
            if not OPTION_NAME.fullmatch(name) or name in HOST_FIELDS:
                raise RefusedError(
                    f"{name!r} is no name for an option: lower-case letters, digits and _, not a host's field",
                    "options",
                )
            if option.within is not None and not isinstance(self, WorkloadFile):
                raise RefusedError("within is for workloads: a stack's hosts follow from its options", "options", name)
        for name, group in self.groups.items():
            if not NAME.fullmatch(name):
                raise RefusedError(f"{name!r} is no name for a group: {GROUP_NAME}", "groups")
            for key, text in (("count", str(group.count)), ("type", group.type)):
                _check_fields(text, self.options, "groups", name, key)
            if group.unless is not None and getattr(self.options.get(group.unless), "type", None) != "bool":
                raise RefusedError(f"{group.unless!r} is no option of type bool", "groups", name, "unless")
            if wrong := next((other for other in group.also if not NAME.fullmatch(other)), None):
                raise RefusedError(f"{wrong!r} is no name for a group: {GROUP_NAME}", "groups", name, "also")
        for endpoint in self.endpoints:
            where = f"endpoint {endpoint.name!r}"
            if endpoint.group not in self.groups:
                raise RefusedError(f"there is no group {endpoint.group}", where)
            _check_fields(endpoint.value, [*self.options, *HOST_FIELDS], where)


class WorkloadFile(StackFile, frozen=True, kw_only=True):
    """`workloads/<workload>.workload.yml`."""

    stack: str
    groups: dict[str, GroupFile] = field(default_factory=dict)
    whole: bool = False
    seconds: int | float | str | None = None
    operations: Annotated[str, matching(OPERATIONS, "lower-case letters, blanks and hyphens")] = ""
    latency: Literal["intended"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_fields(str(self.seconds or ""), self.options, "seconds")


F = TypeVar("F", bound=StackFile)


def read(file: Path, name: str, model: type[F]) -> F:
    """Read the declaration of `name`; `ConfigError` names the file, the key and what was expected."""
    if not FILE_NAME.fullmatch(name):
        raise ConfigError(f"{file}: the name {name!r} is not lower-case letters, digits and hyphens")
    content = _load(file)
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: it holds no keys; the first one is `description:`")
    try:
        return checked.convert(content, model)
    except RefusedError as error:
        raise ConfigError(*error.sentence(str(file))) from None


class _UniqueKeys(yaml.SafeLoader):
    """YAML's reader takes the last of two equal keys without a word; a declaration must not."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _load(file: Path) -> Any:
    try:
        return yaml.load(file.read_text(encoding="utf-8"), _UniqueKeys)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        raise ConfigError(f"{where}: {getattr(error, 'problem', None) or error}") from None


def _check_fields(text: str, known: Iterable[str], *path: str) -> None:
    names = list(known)
    try:
        used = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise RefusedError(f"{text!r}: {error}", *path) from None
    for name in used:
        if name not in names:
            told = unknown("option", name, names)
            raise RefusedError(f"{text!r}: {told.message}" + (f" ({told.hint})" if told.hint else ""), *path)
