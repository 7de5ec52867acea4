"""The console script: run the command line and turn what goes wrong into one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run `labtool`; exits 0 done, 1 failed, 2 usage, 3 a bug of ours, 130 interrupted."""
    # typer checks what was typed with pydantic, which would look through all that is installed for plugins of its own.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from labtool.cli.app import run

    # Ended from outside, or its terminal closed: labtool ends what it has begun, as after ^C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores one of them
            signal.signal(number, signal.default_int_handler)
    code = 3
    try:
        code = run(sys.argv[1:])
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:  # the reader (`| head`) has what it wanted
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)


if __name__ == "__main__":
    main()
