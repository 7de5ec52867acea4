"""What a workload is to do: the options that were typed, and those that follow from a file that one of them names.

A workload's file may have `settle(typed: dict, minutes: float | None)`, which returns a value with the fields of
`Found`, and it may have `check(values: dict)`, which refuses options that do not go together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, cast

from labtool.dataset import parsers
from labtool.errors import UsageError
from labtool.option import Value
from labtool.stacks import Workload
from labtool.topology import Lab


class Found(Protocol):
    """What a file says."""

    values: Mapping[str, Any]  # of options that were not typed
    whence: Mapping[str, str]  # option → where its value stands
    seconds: float | None  # that are measured, after the warm-up; None where it does not say
    warmup_s: float | None
    notes: tuple[str, ...]  # what is done in another way than it says
    latency: Literal["intended"] | None  # from when it counts; None as the workload declares


@dataclass(frozen=True)
class Settled:
    """A workload's options with all values, and the rest as in `Found`."""

    values: dict[str, Value | None]
    seconds: float | None = None
    warmup_s: float | None = None
    notes: tuple[str, ...] = ()
    latency: Literal["intended"] | None = None
    within: Mapping[str, str] = field(default_factory=dict)  # option at its default → the group that bounds it

    def on(self, lab: Lab) -> Settled:
        """Return it for the hosts of `lab` that run: no default is more than the group has that bounds it."""
        hosts = Counter(group for host in lab.running for group in (host.group, *host.also))
        fewer = {
            name: hosts[group]
            for name, group in self.within.items()
            if isinstance(most := self.values[name], int) and 0 < hosts[group] < most
        }
        return replace(self, values=self.values | fewer)


def settled(workload: Workload, typed: Mapping[str, Any], minutes: float | None = None) -> Settled:
    """Return what the workload is to do; `UsageError` and `ConfigError` say what is wrong, where, and the way out."""
    values, file = workload.values(typed), workload.parser
    if file is None or not parsers.has(file, "settle"):
        if file is not None and parsers.has(file, "check"):
            parsers.call(file, "check", values)
        return Settled(values, latency=workload.latency, within=_within(workload, typed))
    given = {name: values[name] for name in workload.options if typed.get(name) is not None}
    found = cast(Found, parsers.call(file, "settle", given, minutes))
    for name, value in found.values.items():
        option = workload.options[name]
        try:
            values[name] = option.value(value)
        except UsageError:
            raise UsageError(f"{found.whence[name]}: {value!r} is not {option.allowed}") from None
    parsers.call(file, "check", values)
    latency = found.latency or workload.latency
    return Settled(
        values, found.seconds, found.warmup_s, found.notes, latency, _within(workload, given | dict(found.values))
    )


def check_settings(flag: str, text: str, example: str, options: Mapping[str, str], ours: Collection[str]) -> None:
    """Refuse words of `text` that are no `name=value`, and names that an option (its flag) or the program sets."""
    for word in text.split():
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise UsageError(f"{flag}: {word!r} is no setting", f'they are typed as {flag} "{example}"')
        if name == "acks" and value == "-1":
            value = "all"
        if name in options:
            raise UsageError(f"{flag} {word}: another option is for it", f"{options[name]} {value}")
        if name in ours:
            raise UsageError(f"{flag} {word}: the clients set {name} themselves", "leave it out")


def _within(workload: Workload, given: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: option.within
        for name, option in workload.options.items()
        if option.within is not None and given.get(name) is None
    }
