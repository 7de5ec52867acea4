"""Send HTTP requests when they are due, whatever the server does, and note what became of each.

An open loop: a request is sent at its time though earlier ones were not answered yet, on a connection of a pool that
grows as far as it may. What waits for a connection is sent late, and its lateness is in the log beside its latency,
which counts from when it was due: nothing is left out because the server was slow (coordinated omission, see
G. Tene, "How NOT to measure latency").

Needs only Python's own library (3.11): it is copied to the load hosts. HTTP/1.1, over TLS where the URL says so.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import itertools
import queue
import select
import selectors
import signal
import ssl
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

COLUMNS = ("due_us", "sent_us", "done_us", "status", "error", "bytes", "endpoint", "id", "warmup")
"""Of the log. Times are µs since 1970; `sent_us` is empty for what never was sent, `status` where no answer came."""

STOP_S = 1.0  # what is under way gets this long to end when it is told to stop
SWEEP_S = 0.02  # how late a timeout may be noticed
ROWS = 200  # rows that go to the log's thread at once


@dataclass(slots=True)
class Request:
    """What is to be sent, and when."""

    due: float  # s after the start; of a follow-up: after the answer that it follows
    method: str
    path: str  # with its query
    endpoint: str  # its kind, for the tables: "GET /", "update"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    follow: Request | None = None  # sent after this one succeeded
    warmup: bool = False


@dataclass(frozen=True)
class Target:
    """A server: where to connect, and what its requests say."""

    host: str
    port: int
    tls: bool
    prefix: str  # of every path

    @classmethod
    def parse(cls, url: str) -> Target:
        """Read `http://host:port/prefix`; `ValueError` for what is none."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no http:// or https:// URL")
        tls = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if tls else 80), tls, parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        """What the Host header says."""
        usual = 443 if self.tls else 80
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == usual else f"{name}:{self.port}"


@dataclass(frozen=True)
class Settings:
    """How a client sends."""

    name: str  # in request ids: unique among all clients of a run
    targets: tuple[Target, ...]
    timeout_s: float = 30.0
    connections: int = 1000  # at most
    keep_alive: bool = True
    ca_file: str = ""  # whom to believe besides the system's; "none" checks no certificate


class Log:
    """The requests' log, compressed by a thread of its own so that no request waits for it."""

    def __init__(self, path: Path) -> None:
        self.endpoints: dict[str, int] = {}
        self.rows = 0
        self.errors: dict[str, int] = {}
        self._pending: list[str] = []
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        # Closed by `close`, after the thread that writes it.
        self._file = gzip.open(  # noqa: SIM115
            path, "wt", compresslevel=1, newline=""
        )
        self._file.write(",".join(COLUMNS) + "\n")
        self._thread = threading.Thread(target=self._write, name="log")
        self._thread.start()

    def add(
        self,
        due_us: int,
        sent_us: int | None,
        done_us: int,
        status: int | None,
        error: str,
        size: int,
        endpoint: str,
        name: str,
        warmup: bool,
    ) -> None:
        """Note one request; `endpoint` stands as its number in `endpoints`."""
        number = self.endpoints.setdefault(endpoint, len(self.endpoints))
        sent = "" if sent_us is None else sent_us
        code = "" if status is None else status
        self._pending.append(f"{due_us},{sent},{done_us},{code},{error},{size},{number},{name},{warmup:d}\n")
        self.rows += 1
        if error:
            self.errors[error] = self.errors.get(error, 0) + 1
        if len(self._pending) >= ROWS:
            self._hand_over()

    def _hand_over(self) -> None:
        self._queue.put("".join(self._pending))
        self._pending = []

    def _write(self) -> None:
        while (text := self._queue.get()) is not None:
            self._file.write(text)

    def close(self) -> None:
        """Write what is left."""
        self._hand_over()
        self._queue.put(None)
        self._thread.join()
        self._file.close()


class _Selector(selectors.EpollSelector):
    """Waits to the microsecond: epoll's own timeout is in whole milliseconds, rounded up."""

    def select(self, timeout: float | None = None) -> Any:
        if timeout is not None and timeout > 0:
            select.select([self.fileno()], [], [], timeout)
            timeout = 0
        return super().select(timeout)


@dataclass(slots=True, eq=False)
class _Flight:
    """A request under way."""

    request: Request
    name: str
    due: float  # monotonic s
    target: Target
    sent: float | None = None
    expires: float = 0.0
    connection: _Connection | None = None
    over: bool = False
    retried: bool = False
    data: bytes = field(default=b"", repr=False)


class _Connection(asyncio.Protocol):
    """One connection, with at most one request at a time."""

    def __init__(self, client: Client, target: Target, flight: _Flight) -> None:
        self.client, self.target = client, target
        self.flight: _Flight | None = flight
        self.transport: asyncio.Transport | None = None
        self.used = 0
        self._reset()

    def _reset(self) -> None:
        self.buffer = b""
        self.status: int | None = None
        self.left: int | None = None  # bytes of the body still to come; None: until the connection's end, or chunked
        self.chunked = False
        self.size = 0
        self.close_after = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.flight is None or self.flight.over:  # it timed out while connecting
            transport.abort()
            return
        self.used += 1
        transport.write(self.flight.data)

    def send(self, flight: _Flight) -> None:
        assert self.transport is not None
        self._reset()
        self.used += 1
        self.flight = flight
        self.transport.write(flight.data)

    def data_received(self, data: bytes) -> None:
        flight = self.flight
        if flight is None:
            self.abort()  # nobody asked
            return
        try:
            done = self._read(data, flight.request.method)
        except (ValueError, IndexError):
            self._fail("protocol")
            self.abort()
            return
        if done:
            self._finish(flight)

    def _read(self, data: bytes, method: str) -> bool:
        """Take bytes of an answer; True when it is whole. `ValueError` for what is no HTTP/1."""
        if self.status is None:
            self.buffer += data
            while self.status is None:
                end = self.buffer.find(b"\r\n\r\n")
                if end < 0:
                    if len(self.buffer) > 1 << 16 or not b"HTTP/1.".startswith(self.buffer[:7]):
                        raise ValueError("no header of HTTP/1")
                    return False
                head, data = self.buffer[:end], self.buffer[end + 4 :]
                self.buffer = data
                self._head(head, method)
            self.buffer = b""
        if self.chunked:
            return self._chunks(data)
        self.size += len(data)
        if self.left is None:
            return False
        self.left -= len(data)
        if self.left < 0:
            raise ValueError("more than was announced")
        return self.left == 0

    def _head(self, head: bytes, method: str) -> None:
        if not head.startswith(b"HTTP/1."):
            raise ValueError("no answer of HTTP/1")
        status = int(head[9:12])
        if 100 <= status < 200:
            return  # an interim answer: the real one follows
        self.status = status
        lower = head.lower() + b"\r\n"
        self.close_after = b"\r\nconnection: close\r\n" in lower or head.startswith(b"HTTP/1.0")
        at = lower.find(b"\r\ncontent-length:")
        if method == "HEAD" or status in (204, 304):
            self.left = 0
        elif b"\r\ntransfer-encoding: chunked" in lower:
            self.chunked = True
        elif at >= 0:
            self.left = int(lower[at + 17 : lower.index(b"\r\n", at + 17)])
        else:
            self.close_after = True

    def _chunks(self, data: bytes) -> bool:
        """Take bytes of a chunked body; `left` counts what is left of the chunk at hand, with its line end."""
        self.buffer += data
        while True:
            if self.left:
                taken = min(self.left, len(self.buffer))
                self.size += min(taken, max(self.left - 2, 0))
                self.buffer = self.buffer[taken:]
                self.left -= taken
                if self.left:
                    return False
            end = self.buffer.find(b"\r\n")
            if end < 0:
                return False
            length = int(self.buffer[:end].split(b";")[0], 16)
            if length == 0:
                trailer = self.buffer.find(b"\r\n\r\n", end)
                return trailer >= 0
            self.buffer = self.buffer[end + 2 :]
            self.left = length + 2

    def _finish(self, flight: _Flight) -> None:
        self.flight = None
        status = self.status or 0
        self.client.ended(flight, status, "status" if status >= 400 else "", self.size)
        if self.close_after or not self.client.settings.keep_alive:
            self.abort()
        else:
            self.client.idle(self)

    def _fail(self, error: str) -> None:
        flight, self.flight = self.flight, None
        if flight is not None and not flight.over:
            self.client.ended(flight, self.status, error, self.size)

    def abort(self) -> None:
        """Close it at once."""
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.client.gone(self)
        flight = self.flight
        if flight is None or flight.over:
            return
        if self.status is not None and self.left is None and not self.chunked and error is None:
            self._finish(flight)  # a body that ends with its connection
            return
        # The server may close an idle connection just when a request is written to it: what may be sent twice, is.
        safe = flight.request.method in ("GET", "HEAD", "OPTIONS") and not flight.retried
        if safe and self.used > 1 and self.status is None and not self.buffer:
            self.flight = None
            flight.retried = True
            self.client.retried += 1
            self.client.connect(flight)
            return
        self._fail("reset" if isinstance(error, ConnectionResetError) else "closed")


Seen = Callable[[float, float | None, str], None]


class Client:
    """One client: a pool of connections, and the requests that are under way."""

    def __init__(
        self,
        settings: Settings,
        log: Log,
        start_at: float,
        seen: Callable[[float, float | None, str], None] | None = None,
    ) -> None:
        """`seen` is told of each request that ended: latency and lateness in s, and its error."""
        self.settings, self.log, self._seen = settings, log, seen
        self.retried = 0
        self.most_open = 0
        self.cut = False  # not all was sent
        self.waited = 0  # requests that had to wait for a connection
        # A server's log may still have the requests of a run before this one, by a client of the same name.
        self._name = f"{settings.name}-{round(start_at * 1000):x}"
        self._zero_us = start_at * 1e6
        self._start = time.monotonic() + start_at - time.time()
        self._idle: dict[Target, deque[_Connection]] = {target: deque() for target in settings.targets}
        self._open = 0
        self._waiting: deque[_Flight] = deque()
        self._under_way: deque[_Flight] = deque()
        self._due: list[tuple[float, int, Request]] = []  # follow-ups, and what had to make way for one
        self._order = itertools.count()
        self._wake: asyncio.Future[None] | None = None
        self._finishing = False
        self._until: float | None = None
        self._number = 0
        self._ended = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._tls = _context(settings) if any(target.tls for target in settings.targets) else None
        self._heads = {target: f"Host: {target.authority}\r\nUser-Agent: labtool\r\n" for target in settings.targets}

    async def run(self, requests: Iterator[Request], until: float | None = None) -> None:
        """Send everything, each when it is due, and return when all have ended; `until` (s) ends the sending early."""
        self._until = until
        sweeper = asyncio.create_task(self._sweep())
        try:
            waiting = next(requests, None)
            while waiting is not None or self._due or self._ended < self._number:
                if self._due and (waiting is None or self._due[0][0] <= waiting.due):
                    request = heappop(self._due)[2]
                elif waiting is not None:
                    request, waiting = waiting, next(requests, None)
                else:
                    self._finishing = True
                    await self._pause(SWEEP_S)  # for answers that may have follow-ups, and for the last ones
                    self._finishing = False
                    continue
                if self._until is not None and request.due >= self._until:
                    self.cut = True
                    waiting = None  # what comes later is due later
                    self._due.clear()
                    continue
                await self._begin_at(request)
        finally:
            sweeper.cancel()
            for task in self._tasks:
                task.cancel()

    async def _begin_at(self, request: Request) -> None:
        due = self._start + request.due
        while (wait := due - time.monotonic()) > 0:
            if (self._until is not None and self._until <= 0) or (self._due and self._due[0][0] < request.due):
                self._put(request)  # a follow-up comes first, or the end
                return
            await self._pause(wait)
        if self._number % 64 == 0:
            await asyncio.sleep(0)  # far behind, it must still read answers
        self._begin(request, due)

    def stop(self) -> None:
        """Send nothing more; what is under way has STOP_S to end."""
        self._until = 0.0
        if self._wake is not None:
            _set(self._wake)
        asyncio.get_running_loop().call_later(STOP_S, self._give_up)

    def _give_up(self) -> None:
        for flight in [*self._under_way, *self._waiting]:
            if not flight.over:
                self._end_of(flight, "stopped")

    def _end_of(self, flight: _Flight, error: str) -> None:
        """End a request that has no answer yet, and its connection with it."""
        connection = flight.connection
        self.ended(flight, None, error, 0)
        if connection is not None:
            connection.flight = None
            connection.abort()

    def _put(self, request: Request) -> None:
        heappush(self._due, (request.due, next(self._order), request))

    async def _pause(self, seconds: float) -> None:
        """Sleep, unless an answer has something to do."""
        loop = asyncio.get_running_loop()
        self._wake = wake = loop.create_future()
        timer = loop.call_later(seconds, _set, wake)
        await wake
        timer.cancel()

    def _begin(self, request: Request, due: float) -> None:
        target = self.settings.targets[self._number % len(self.settings.targets)]
        self._number += 1
        flight = _Flight(request, f"{self._name}-{self._number}", due, target)
        flight.data = self._bytes(flight)
        idle = self._idle[target]
        while idle:
            connection = idle.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                self._sent(flight)
                connection.send(flight)
                flight.connection = connection
                return
        if self._open < self.settings.connections:
            self.connect(flight)
        else:
            self.waited += 1
            self._waiting.append(flight)

    def _bytes(self, flight: _Flight) -> bytes:
        request = flight.request
        lines = [f"{request.method} {flight.target.prefix}{request.path} HTTP/1.1\r\n", self._heads[flight.target]]
        lines.append(f"X-Request-Id: {flight.name}\r\n")
        lines += [f"{name}: {value}\r\n" for name, value in request.headers]
        if request.body or request.method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(request.body)}\r\n")
        if not self.settings.keep_alive:
            lines.append("Connection: close\r\n")
        return "".join(lines).encode("latin-1", "replace") + b"\r\n" + request.body

    def _sent(self, flight: _Flight) -> None:
        flight.sent = time.monotonic() if flight.sent is None else flight.sent
        flight.expires = flight.sent + self.settings.timeout_s
        self._under_way.append(flight)

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def connect(self, flight: _Flight) -> None:
        """Open a connection for a request; making it is part of its service time."""
        self._open += 1
        self.most_open = max(self.most_open, self._open)
        self._sent(flight)
        task = asyncio.create_task(self._connect(flight))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, flight: _Flight) -> None:
        target = flight.target
        flight.connection = connection = _Connection(self, target, flight)
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(
                loop.create_connection(
                    lambda: connection, target.host, target.port, ssl=self._tls if target.tls else None
                ),
                self.settings.timeout_s,
            )
        except (OSError, TimeoutError) as error:
            if connection.transport is None:  # else its own end is told
                self.gone(connection)
                if not flight.over:
                    self.ended(flight, None, _reason(error), 0)

    def idle(self, connection: _Connection) -> None:
        """Give a free connection to whoever waits, or keep it."""
        for _ in range(len(self._waiting)):
            flight = self._waiting.popleft()
            if flight.over:
                continue
            if flight.target is not connection.target:
                self._waiting.append(flight)
                continue
            self._sent(flight)
            flight.connection = connection
            connection.send(flight)
            return
        self._idle[connection.target].append(connection)

    def gone(self, connection: _Connection) -> None:
        """Forget a connection that is closed, and open another for whoever waits."""
        self._open -= 1
        while self._waiting and self._open < self.settings.connections:
            flight = self._waiting.popleft()
            if not flight.over:
                self.connect(flight)

    def ended(self, flight: _Flight, status: int | None, error: str, size: int) -> None:
        """Note how a request ended, and what follows it."""
        flight.over = True
        self._ended += 1
        now = time.monotonic()
        request = flight.request
        self.log.add(
            round(self._us(flight.due)),
            None if flight.sent is None else round(self._us(flight.sent)),
            round(self._us(now)),
            status,
            error,
            size,
            request.endpoint,
            flight.name,
            request.warmup,
        )
        flight.data = b""
        if self._seen is not None:
            self._seen(now - flight.due, None if flight.sent is None else flight.sent - flight.due, error)
        if request.follow is not None and not error:
            follow = request.follow
            follow.due += now - self._start
            self._put(follow)
        elif not self._finishing:
            return
        if self._wake is not None:
            _set(self._wake)

    def _us(self, moment: float) -> float:
        """Monotonic seconds → µs since 1970."""
        return self._zero_us + (moment - self._start) * 1e6

    async def _sweep(self) -> None:
        """End what takes too long."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = time.monotonic()
            while self._under_way and (self._under_way[0].over or self._under_way[0].expires <= now):
                flight = self._under_way.popleft()
                if not flight.over:
                    self._end_of(flight, "timeout")
            while self._waiting and (self._waiting[0].over or self._waiting[0].due + self.settings.timeout_s <= now):
                flight = self._waiting.popleft()
                if not flight.over:
                    self.ended(flight, None, "unsent", 0)


def _set(wake: asyncio.Future[None]) -> None:
    if not wake.done():
        wake.set_result(None)


def _context(settings: Settings) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if settings.ca_file == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif settings.ca_file:
        context.load_verify_locations(settings.ca_file)
    return context


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, ssl.SSLError):
        return "tls"
    return "reset" if isinstance(error, ConnectionResetError) else "unreachable"


def replay(
    requests: Iterable[Request], settings: Settings, log: Log, start_at: float, until: float | None = None
) -> dict[str, Any]:
    """Send `requests` (in the order of their due times, taken as they are needed) from `start_at` (s since 1970) on.

    `until`, in s after the start, ends the sending early. Returns what is to be known of the client besides its log.
    """

    async def everything() -> Client:
        client = Client(settings, log, start_at)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, client.stop)
        await client.run(iter(requests), until)
        return client

    return run(everything, log)


def one_after_another(requests: Sequence[Request], settings: Settings, log: Log) -> dict[str, Any]:
    """Send each request when the one before it has ended, on one connection: a closed loop.

    A request is due when it is sent: this hides what a client that does not wait would have seen.
    """

    async def everything() -> Client:
        client = Client(settings, log, time.time())
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        for request in requests:
            if stopped.is_set():
                client.cut = True
                break
            request.due = client.now
            await client.run(iter([request]))
        return client

    return run(everything, log)


def run(everything: Callable[[], Coroutine[Any, Any, Client]], log: Log) -> dict[str, Any]:
    """Run a client in a loop that waits to the microsecond; return what is to be known of it besides its log."""
    # What is due would wait for a collection: what is there already is left out of them, and they are rare.
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    try:
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(_Selector())) as runner:
            client = runner.run(everything())
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
    return {
        "requests": log.rows,
        "errors": log.errors,
        "endpoints": list(log.endpoints),
        "connections_most": client.most_open,
        "connections_allowed": client.settings.connections,
        "waited_for_connection": client.waited,
        "retried": client.retried,
        "cut": client.cut,
    }
