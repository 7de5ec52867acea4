"""What is kept of a bug: versions, the command and the traceback, in a file the user can send."""

from __future__ import annotations

import errno
import platform
import sys
import traceback
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from labtool import __version__, config
from labtool.errors import LabtoolError

MACHINE_ERRORS = {
    errno.ENOSPC: "free some space (`df -h` shows where), then run the command again",
    errno.EDQUOT: "your quota is used up: free some space, then run the command again",
    errno.EROFS: "it is read-only: choose another folder (LABTOOL_HOME, LABTOOL_RUNS, XDG_CACHE_HOME)",
    errno.EACCES: "this user may not: see the folder's owner and mode",
    errno.EPERM: "this user may not: see the folder's owner and mode",
    errno.EMFILE: "too many open files: raise `ulimit -n`",
}


def of_the_machine(error: OSError) -> str | None:
    """Return what to tell about an error that is the machine's and not ours; None where it is ours."""
    from labtool.cli.checks import PROGRAMS

    program = Path(str(error.filename or "")).name
    if error.errno == errno.ENOENT and program in PROGRAMS:
        return f"{program} is not installed; it {PROGRAMS[program][0]}\n  sudo {PROGRAMS[program][1]}"
    if error.errno in MACHINE_ERRORS:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}\n  {MACHINE_ERRORS[error.errno]}"
    return None


def report_bug(error: BaseException) -> Path | str:
    """Write the details of `error` to a file (mode 0600) and return its path, or why there is none."""
    try:
        return _write(error)
    except (OSError, LabtoolError) as failed:
        traceback.print_exception(error)
        return f"above; they could not be written: {failed}"


def _write(error: BaseException) -> Path:
    folder = config.home() / "errors"
    folder.mkdir(exist_ok=True, mode=0o700)
    path = folder / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}.log"
    path.touch(mode=0o600)
    names = ("ansible-core", "ansible-runner", "boto3", "moto", "typer")
    versions = "\n".join(f"{name} {metadata.version(name)}" for name in names)
    path.write_text(
        f"labtool {__version__} on {platform.platform()}, Python {platform.python_version()}\n{versions}\n"
        f"command: labtool {' '.join(sys.argv[1:])}\n\n" + "".join(traceback.format_exception(error))
    )
    return path
