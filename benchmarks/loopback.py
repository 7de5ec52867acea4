"""Web servers on loopback whose behaviour is known, for the benchmarks of what measures them.

    python benchmarks/loopback.py stall PORT       answers at once; the path /stall stops it for 2 s in 9 s from then
    python benchmarks/loopback.py capacity PORT    one worker that takes 10 ms for each request

The path /answers of the first gives when it answered each request since /stall (s since 1970), with its X-Request-Id.
"""

from __future__ import annotations

import asyncio
import json
import queue
import socket
import sys
import threading
import time
from typing import ClassVar

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"
KEPT = b"\r\nConnection: keep-alive\r\n\r\n"
STALL_AFTER_S = 9.0
STALL_S = 2.0
WORK_S = 0.010


class Stalling(asyncio.Protocol):
    """Answers at once, unless the whole server stands still."""

    answered: ClassVar[list[tuple[float, str]]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection's transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request."""
        if data.startswith(b"GET /answers "):
            body = json.dumps(self.answered).encode()
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            return
        if data.startswith(b"GET /stall "):
            asyncio.get_running_loop().call_later(STALL_AFTER_S, time.sleep, STALL_S)
            self.answered.clear()
        for request in data.split(b"\r\n\r\n")[:-1]:
            name = request.partition(b"X-Request-Id: ")[2].partition(b"\r")[0]
            # What speaks HTTP/1.0, as ab does, must be told that the connection stays.
            self.transport.write(ANSWER.replace(b"\r\n\r\n", KEPT) if b"HTTP/1.0" in request else ANSWER)
            self.answered.append((time.time(), name.decode()))
        if b"HTTP/1.0" in data and b"keep-alive" not in data.lower():
            self.transport.close()


async def stalling(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Stalling, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def capacity(port: int) -> None:
    """Serve 100 requests/s at most, in their order: one that waited ends 10 ms after the one before it."""
    waiting: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()

    def work() -> None:
        free_at = time.monotonic()
        while True:
            connection = waiting.get()
            free_at = max(free_at, time.monotonic()) + WORK_S
            time.sleep(max(free_at - time.monotonic(), 0))
            try:
                connection.sendall(ANSWER)
            except OSError:
                continue

    def read(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                data = connection.recv(65536)
            except OSError:
                return
            if not data:
                return
            for _ in range(data.count(b"\r\n\r\n")):
                waiting.put(connection)

    threading.Thread(target=work, daemon=True).start()
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=read, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    kind, number = sys.argv[1], int(sys.argv[2])
    if kind == "stall":
        asyncio.run(stalling(number))
    else:
        capacity(number)
