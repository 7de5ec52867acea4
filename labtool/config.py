"""Settings: labtool.toml < environment < flags, checked once.

`labtool.toml` is looked for in the working folder and its parents, then in `~/.config/labtool/`. An environment
variable is `LABTOOL_` and the key in capitals, a section's key after its section: `LABTOOL_LAB`,
`LABTOOL_LOCAL_SUBNET`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from labtool import checked
from labtool.checked import RefusedError, matching
from labtool.errors import ConfigError, LabtoolError
from labtool.files import make_folder
from labtool.topology import LAB_NAME

BENCHMARK_NETWORK = ipaddress.IPv4Network("198.18.0.0/15")
"""Reserved for benchmarks by RFC 2544: no host of the world is there."""

LOCAL_NAME = re.compile(r"[a-z][a-z0-9]{0,9}")

_HOP = r"(ssh://)?[A-Za-z0-9_\[][A-Za-z0-9_.@:%\[\]-]*"
PROXY_JUMP = re.compile(f"{_HOP}(,{_HOP})*")
"""Nothing in it that ssh would read as an option or a shell as more than a word."""


class LocalSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The local cloud."""

    name: Annotated[str, matching(LOCAL_NAME, "up to 10 lower-case letters and digits, a letter first")] = "labtool"
    """Names its bridge, network, containers and state: two local clouds can stand side by side."""
    state: Path = Path("/var/lib/labtool")
    subnet: str = "198.18.0.0/16"
    port: Annotated[int, Meta(ge=1024, le=65535)] = 4600
    image_packages: tuple[str, ...] = ("default-jre-headless",)
    """Debian packages that the host image has besides the base."""

    @property
    def gateway_cidr(self) -> str:
        """The bridge's own address as a network: where this machine's SSH comes from."""
        return f"{ipaddress.ip_network(self.subnet)[1]}/32"

    def __post_init__(self) -> None:
        try:
            network = ipaddress.ip_network(self.subnet)
        except ValueError as error:
            raise RefusedError(f"{error}", "subnet") from None
        if not isinstance(network, ipaddress.IPv4Network) or not network.subnet_of(BENCHMARK_NETWORK):
            raise RefusedError(f"must lie within {BENCHMARK_NETWORK} (it is {self.subnet!r})", "subnet")


class AwsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How hosts are launched on AWS; the local cloud has but what is typed on the command line."""

    root_gib: Annotated[int, Meta(ge=8, le=16384)] = 20
    """Size of the root volume, gp3, in GiB."""
    placement: Literal["cluster", "spread", "partition"] | None = None
    """A placement group: near each other, or on different hardware within each group of hosts."""
    zones: tuple[str, ...] = ()
    """Availability zones in the order in which they are tried; none: all of the VPC, the lab's own first."""
    spot: bool = False
    instance_profile: str | None = None
    """Name or ARN; none unless it is asked for."""
    vpc: str | None = None
    subnet: str | None = None
    """Ids or Name tags; None: the default VPC, and its subnet in the zone."""
    private: bool = False
    """No public address: SSH comes from within the network."""
    ssm: bool = False
    """No public address either: Session Manager carries SSH."""
    max_price_per_hour: Annotated[float, Meta(gt=0)] | None = None
    """US dollars: a lab that would cost more is not launched."""
    max_cost: Annotated[float, Meta(gt=0)] | None = None
    """US dollars that hosts cost until they end themselves: they live no longer than that."""


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """All settings."""

    cloud: Literal["local", "aws"] = "local"
    lab: Annotated[str, matching(LAB_NAME, "up to 31 lower-case letters, digits and hyphens, a letter first")] = "lab"
    region: str = "us-east-1"
    image: str | None = None
    """debian-12, ubuntu-24.04, amazon-linux-2023 or an AMI id; None is the cloud's default."""
    instance_type: str = "t3.small"
    ttl: str = "4h"
    proxy_jump: Annotated[str, matching(PROXY_JUMP, "[user@]host[:port], several behind commas, or none")] | None = None
    """The host that SSH goes through to reach the lab's, as ssh's -J takes it; `none` for straight."""
    runs: Path = Path("runs")
    strategy: Literal["mitogen", "linear"] = "mitogen"
    local: LocalSettings = LocalSettings()
    aws: AwsSettings = AwsSettings()


SECTIONS: dict[str, type[Struct]] = {"local": LocalSettings, "aws": AwsSettings}
LISTS = {"zones", "image_packages"}
"""Settings of several words: a text is taken apart at commas and blanks."""
SWITCHES = {"spot", "private", "ssm"}
YES_OR_NO = {"yes": "true", "on": "true", "no": "false", "off": "false"}


def load(flags: Mapping[str, Any] | None = None, start: Path | None = None) -> Settings:
    """Read the settings; an unknown key or a wrong value is a `ConfigError` that names its source.

    `flags` are values typed on the command line; None among them means "not given".
    """
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}
    try:
        here = start or Path.cwd()
    except FileNotFoundError:
        raise LabtoolError("the folder that this command was started in is gone", "`cd` to one that is there") from None
    file = find_file(here)
    if file is not None:
        import tomllib

        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} cannot be read: {error}") from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{file}: {error}", "see https://toml.io for its syntax") from None
        _merge(merged, content, sources, str(file))
    _merge(merged, _environment(), sources, "environment")
    _merge(merged, {k: v for k, v in (flags or {}).items() if v is not None}, sources, "command line")
    try:
        return checked.convert(merged, Settings, lax=True)
    except RefusedError as error:
        source = sources.get(".".join(error.path), sources.get(error.path[0], "settings"))
        raise ConfigError(*error.sentence(source, "setting")) from None


def find_file(start: Path) -> Path | None:
    """Return the labtool.toml that applies in `start`, if there is one."""
    folders = [start, *start.parents, Path.home() / ".config" / "labtool"]
    return next((f / "labtool.toml" for f in folders if (f / "labtool.toml").is_file()), None)


def _environment() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in Settings.__struct_fields__:
        if key not in SECTIONS and (value := os.environ.get(f"LABTOOL_{key.upper()}")):
            found[key] = value
    for section, model in SECTIONS.items():
        names = {key: f"LABTOOL_{section.upper()}_{key.upper()}" for key in model.__struct_fields__}
        if own := {key: value for key, name in names.items() if (value := os.environ.get(name))}:
            found[section] = own
    return found


def _merge(
    into: dict[str, Any], new: Mapping[str, Any], sources: dict[str, str], source: str, within: str = ""
) -> None:
    for key, value in new.items():
        path = f"{within}{key}"
        if isinstance(value, Mapping):
            if not isinstance(into.get(key, {}), dict):
                raise ConfigError(f"{sources[path]}: {path} is a section, not a value", f"[{path}]")
            _merge(into.setdefault(key, {}), value, sources, source, f"{path}.")
        else:
            into[key] = _plain(key, value) if isinstance(value, str) else value
        sources[path] = source


def _plain(key: str, text: str) -> str | list[str]:
    """Return what a text stands for where people write more than one form of it."""
    if key in LISTS:
        return text.replace(",", " ").split()
    return YES_OR_NO.get(text.lower(), text) if key in SWITCHES else text


def home() -> Path:
    """Return the folder of what this user's labtool keeps: lab keys, locks, error logs (mode 0700)."""
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return make_folder(Path(os.environ.get("LABTOOL_HOME") or base / "labtool"), "LABTOOL_HOME", 0o700)


def cache() -> Path:
    """Return the folder of what can be fetched again: artifacts, SSH control sockets."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return make_folder(base / "labtool", "XDG_CACHE_HOME", 0o700)
