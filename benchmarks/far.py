"""A TCP connection to a host that seems to be far away; for `ssh -o ProxyCommand='python benchmarks/far.py %h %p 20'`.

    python benchmarks/far.py HOST PORT MS

Every byte arrives MS/2 milliseconds later than it would, each way: the round trip takes MS more. Nothing is lost, and
the rate is not limited. In place of netem, which many a kernel lacks.
"""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable

PIECE = 1 << 16
Held = queue.SimpleQueue[tuple[float, bytes]]


def carry(read: Callable[[], bytes], write: Callable[[bytes], object], delay_s: float) -> threading.Thread:
    """Start to carry what `read` gives to `write`, each piece `delay_s` after it came; return who writes."""
    held: Held = queue.SimpleQueue()

    def take() -> None:
        while True:
            try:
                piece = read()
            except OSError:
                piece = b""
            held.put((time.monotonic() + delay_s, piece))
            if not piece:
                return

    def give() -> None:
        while True:
            due, piece = held.get()
            time.sleep(max(due - time.monotonic(), 0))
            if not piece:
                return
            write(piece)

    threading.Thread(target=take, daemon=True).start()
    giver = threading.Thread(target=give, daemon=True)
    giver.start()
    return giver


def write_all(piece: bytes) -> None:
    """Write to standard output, all of it."""
    while piece:
        piece = piece[os.write(1, piece) :]


def main() -> None:
    """Carry both ways until the host has closed."""
    host, port, delay_ms = sys.argv[1:]
    with socket.create_connection((host, int(port))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        half_s = float(delay_ms) / 2000
        carry(lambda: os.read(0, PIECE), connection.sendall, half_s)
        carry(lambda: connection.recv(PIECE), write_all, half_s).join()


if __name__ == "__main__":
    main()
