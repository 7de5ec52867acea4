"""Fetch Ansible's collection amazon.aws and print the folder to name in ANSIBLE_COLLECTIONS_PATH.

It comes out of PyPI's package `ansible` (54 MB, of which 4 MB are kept): tests and benchmarks hold labtool's inventory
against the plugin in it, and labtool itself does not need it. Fetched once, into the user's cache.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from labtool import config

VERSION = "12.3.0"
SHA256 = "cd156f82fa87f7a899212b0efa9f7ca3a24d609212de9f78428a572eb01e5414"
WANTED = "ansible_collections/amazon/aws/"


def fetch() -> Path:
    """Return the folder that has ansible_collections/amazon/aws."""
    kept = config.cache() / "collections" / f"ansible-{VERSION}"
    if kept.is_dir():
        return kept
    kept.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text(f"ansible=={VERSION} --hash=sha256:{SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes", "-r", str(wanted)]
        subprocess.run([*command, "-d", folder], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.startswith(WANTED) and "/tests/" not in name]
            archive.extractall(Path(folder) / "unpacked", names)
        try:
            (Path(folder) / "unpacked").rename(kept)
        except OSError:
            if not kept.is_dir():  # else another process was first
                raise
    return kept


if __name__ == "__main__":
    print(fetch())
