"""`labtool --help` against an empty typer program, started in turn: prints the ratio of the medians.

    python benchmarks/help_startup.py [ROUNDS]

The bound is 1.3: whoever asks for help must not wait for boto3, ansible or seaborn.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EMPTY = """
import typer
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
@app.callback()
def root() -> None: "An empty program."
@app.command()
def nothing() -> None: "Do nothing."
app()
"""


def seconds(command: list[str]) -> float:
    """Return the wall time of one run of `command`."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Run both in turn and print medians and ratio."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.py"
        empty.write_text(EMPTY)
        ours = [sys.executable, "-m", "labtool", "--help"]
        theirs = [sys.executable, str(empty), "--help"]
        pairs = [(seconds(ours), seconds(theirs)) for _ in range(rounds + 1)][1:]  # the first warms the page cache
    a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(f"labtool --help {a:.3f} s, an empty typer program {b:.3f} s, medians of {rounds}: ratio {a / b:.2f} (≤ 1.3)")


if __name__ == "__main__":
    main()
