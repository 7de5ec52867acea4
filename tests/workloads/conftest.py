"""A web server on loopback that does as its paths say."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7;x=y\r\n, world\r\n0\r\n\r\n"


@dataclass
class Server:
    """What it was sent, and where it is."""

    url: str
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    stalled_until: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


@pytest.fixture
def server() -> Iterator[Server]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=500)
    made = Server(f"http://127.0.0.1:{listener.getsockname()[1]}")

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            made.connections += 1
            threading.Thread(target=serve, args=(connection, made), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield made
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(2)


def serve(connection: socket.socket, server: Server) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    answered = 0
    with connection:
        while head := receive(connection):
            with server.lock:
                server.requests.append(head)
                wait = server.stalled_until - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            try:
                if not answer(connection, head.split(b" ")[1].decode(), answered):
                    return
            except OSError:
                return
            answered += 1


def receive(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            more = connection.recv(65536)
        except OSError:
            return b""
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answer(connection: socket.socket, path: str, answered: int) -> bool:
    """Answer as the path says; False where the connection is to end."""
    name, _, value = path.strip("/").partition("/")
    if name == "slow":
        time.sleep(float(value))
    if name == "hang":
        time.sleep(5)
        return False
    if name == "drop":
        return False
    if name == "once" and answered:  # an idle connection is closed just when it is used again
        return False
    if name == "chunked":
        for at in range(0, len(CHUNKED), int(value)):
            connection.sendall(CHUNKED[at : at + int(value)])
        return True
    if name == "until-close":
        connection.sendall(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nhello")
        return False
    if name == "garbage":
        connection.sendall(b"SSH-2.0-nothing here\r\n\r\n")
        return False
    if name == "interim":
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
    status = value if name == "status" else "200 OK"
    connection.sendall(ANSWER.replace(b"200 OK", status.encode()))
    return True
