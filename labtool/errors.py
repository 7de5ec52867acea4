"""Every error labtool expects: one sentence, a way out, an exit code.

`LabtoolError` and its children are what a user may see as one line. Anything else that reaches the
top is a bug of ours and exits with 3 (see `labtool.__main__`).
"""

from __future__ import annotations

from collections.abc import Iterable


class LabtoolError(Exception):
    """Something failed in a way we foresaw.

    `message` names the thing; `hint` is what to do next, a command where there is one.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(LabtoolError):
    """The command line or a file the user wrote is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration or declaration file has an unexpected key or value."""


class CloudError(LabtoolError):
    """The cloud's API refused, failed or could not be reached."""


class LocalCloudError(LabtoolError):
    """The local cloud cannot do its part on this machine."""


class NothingThereError(LabtoolError):
    """There is no local cloud, and so nothing of it to look at."""


class AnsibleError(LabtoolError):
    """A playbook failed."""


class LabLockedError(LabtoolError):
    """Another labtool works on the same lab."""


class StoppedError(LabtoolError):
    """^C or SIGTERM ended the work; it says what is kept."""

    exit_code = 130


class CollectError(LabtoolError):
    """A log, counter or clock could not be read from a host."""


class DataError(LabtoolError):
    """A run's file is absent, cut or not what its schema says."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Say that `name` is no `kind`, with the nearest known names."""
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        hint = "did you mean " + " or ".join(near) + "?"
    elif names:
        hint = f"known: {', '.join(names)}"
    else:
        hint = "there is none yet"
    return UsageError(f"unknown {kind}: {name}", hint)
