"""One option of a stack or a workload: its type, what it may be, and text → value."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from labtool.errors import UsageError

Value = int | float | str | bool
OptionType = Literal["int", "float", "str", "bool", "path"]
"""A path is of a file or folder that must be there; its value is absolute, since a playbook has a folder of its own."""

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True)
class Option:
    """One option of a stack or a workload."""

    name: str
    type: OptionType
    default: Value | None = None  # None: it may be left out, and then its variable is not set
    help: str = ""
    unit: str = ""
    min: float | None = None
    max: float | None = None
    choices: tuple[Value, ...] = ()
    var: str | None = None  # the extra variable that carries it to the playbook
    pattern: str | None = None  # of a text, the whole of it; `like` says it in words
    like: str = ""
    within: str | None = None  # the default is no more than the running hosts of this group

    @property
    def flag(self) -> str:
        """How it is typed: --record-size for record_size."""
        return "--" + self.name.replace("_", "-")

    def typed(self, value: Value) -> str:
        """Return it with a value as it is typed: --brokers=3, --balancer, --no-balancer."""
        if self.type == "bool":
            return self.flag if value else "--no-" + self.flag.removeprefix("--")
        return f"{self.flag}={shlex.quote(str(value))}"

    @property
    def allowed(self) -> str:
        """What it may be, in words."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        kind = (
            self.like
            or {
                "int": "a whole number",
                "float": "a number",
                "str": "text",
                "bool": "true or false",
                "path": "a file or folder that is there",
            }[self.type]
        )
        low, high = self.min, self.max
        if low is not None and high is not None:
            kind += f" from {number(low)} to {number(high)}"
        elif low is not None:
            kind += f", {number(low)} or more"
        elif high is not None:
            kind += f", {number(high)} or less"
        return kind + (f" ({self.unit})" if self.unit else "")

    def value(self, given: Any) -> Value:
        """Return `given` (text as typed, or a value from a file) as the option's type; `UsageError` if it is not."""
        try:
            value = self._converted(given)
        except ValueError:
            raise self._refused(given) from None
        if self.choices and value not in self.choices:
            raise self._refused(given)
        if isinstance(value, int | float) and not isinstance(value, bool):
            low, high = self.min, self.max
            # Not a number is neither less nor more: ask for what must hold.
            if (low is not None and not value >= low) or (high is not None and not value <= high):
                raise self._refused(given)
        return value

    def _converted(self, given: Any) -> Value:
        match self.type:
            case "str" if isinstance(given, str) and (self.pattern is None or re.fullmatch(self.pattern, given)):
                return given
            case "path" if isinstance(given, str) and (path := Path(given).expanduser()).exists():
                return str(path.absolute())
            case "bool" if isinstance(given, bool):
                return given
            case "bool" if str(given).lower() in (*_TRUE, *_FALSE):
                return str(given).lower() in _TRUE
            case "int" if isinstance(given, str) or (isinstance(given, int) and not isinstance(given, bool)):
                return int(given)
            case "float" if isinstance(given, str | int | float) and not isinstance(given, bool):
                if math.isfinite(value := float(given)):
                    return value
        raise ValueError

    def _refused(self, given: Any) -> UsageError:
        return UsageError(f"{self.flag}: {given!r} is not {self.allowed}", self.help or None)


def number(value: float) -> str:
    """Write a number as people type it: 1048576, 0.5."""
    return str(int(value)) if float(value).is_integer() else str(value)
