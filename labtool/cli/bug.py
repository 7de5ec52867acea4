"""What is kept of a bug: versions, the command and the traceback, in a file the user can send."""

from __future__ import annotations

import platform
import sys
import traceback
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from labtool import __version__, config


def report_bug(error: BaseException) -> Path:
    """Write the details of `error` to a file (mode 0600) and return its path."""
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
