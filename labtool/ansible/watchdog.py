"""A process that outlives labtool for a moment: should labtool be killed, it ends what that left running of Ansible.

`python -m labtool.ansible.watchdog FOLDER` waits for its standard input to end. Without a word on it, labtool is gone.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

DONE = b"done"


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Watch over the call of Ansible in `folder` while the block runs."""
    # A session of its own: ^C and a closed terminal are labtool's to deal with.
    dog = subprocess.Popen(
        [sys.executable, "-m", "labtool.ansible.watchdog", str(folder)], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield
    finally:
        dog.communicate(DONE)


def end(folder: Path, processes: Iterable[psutil.Process]) -> bool:
    """Kill those of `processes` that the call of Ansible in `folder` started, whatever group they are in.

    Returns whether there were any. Shared SSH connections are left: others may use them.
    """
    found = False
    for process in processes:
        try:
            ours = process.environ().get("AWX_ISOLATED_DATA_DIR", "").startswith(str(folder))
            if ours and "[mux]" not in " ".join(process.cmdline()):
                process.kill()
                found = True
        except psutil.Error:  # it ended by itself, or is not ours to look at
            continue
    return found


def main() -> None:
    """Wait, and tidy up if nobody else will."""
    folder = Path(sys.argv[1])
    if sys.stdin.buffer.read() != DONE:
        while end(folder, psutil.process_iter()):  # what was forked meanwhile too
            time.sleep(0.1)
        shutil.rmtree(folder, ignore_errors=True)  # it holds the variables of the call


if __name__ == "__main__":
    main()
