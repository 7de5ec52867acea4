"""One package cache for all hosts: a small HTTP proxy for apt, on the bridge.

Ten hosts that install the same package fetch it once. It serves the machine's own plain-http sources and nothing
else (it would otherwise be a way round the rule that no lab host reaches link-local addresses). A package file
never changes under its name, so `.deb` files are kept; everything else is passed through. Hosts ask whether it
answers before they use it (see hostimage/apt-proxy), so that apt works without it too.
"""

from __future__ import annotations

import http.client
import ipaddress
import logging
import os
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

log = logging.getLogger(__name__)

PORT = 3142  # the customary one of package caches
_FREEBIND = 15  # IP_FREEBIND: the bridge, and with it the address, comes with the first host
_CHUNK = 256 * 1024
_KEPT_BYTES = 4 << 30
_STOP_S = 0.1  # how soon the server sees that it is to end
_PASSED_ON = ("If-Modified-Since", "If-None-Match", "Range", "If-Range", "User-Agent", "Accept", "Cache-Control")
_PASSED_BACK = ("Content-Type", "Last-Modified", "ETag", "Content-Range", "Accept-Ranges")


def seed_line(address: str, hosts: tuple[str, ...]) -> str:
    """Return what hosts read: where the cache is and which sources it serves; empty if there are none."""
    return f"{address} {PORT} {' '.join(hosts)}" if hosts else ""


class PackageCache:
    """The proxy; serves `hosts` (as `name[:port]`) from `folder`."""

    def __init__(self, folder: Path, address: str, hosts: tuple[str, ...], proxy: str | None = None) -> None:
        self.folder = folder
        self.hosts = hosts
        self._downloads: dict[Path, Download] = {}
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._tidy()
        handlers: list[Any] = [_CarefulRedirects()]
        if proxy:
            handlers.append(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))
        self.opener = urllib.request.build_opener(*handlers)
        self._server = ThreadingHTTPServer((address, PORT), _handler(self), bind_and_activate=False)
        self._server.daemon_threads = True
        self._server.socket.setsockopt(socket.IPPROTO_IP, _FREEBIND, 1)
        self._server.server_bind()
        self._server.server_activate()
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_STOP_S,), name="packages", daemon=True
        )

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()

    def file_for(self, url: str) -> Path | None:
        """Return where the file of `url` is kept; None if it is not to be kept."""
        parts = urlsplit(url)
        path = unquote(parts.path)
        if not path.endswith(".deb") or parts.query:
            return None
        file = (self.folder / parts.netloc / path.lstrip("/")).resolve()
        return file if file.is_relative_to(self.folder.resolve()) else None

    def download(self, url: str, file: Path) -> Download:
        """Return the download of `url` into `file`: one for all who ask at the same time."""
        with self._lock:
            running = self._downloads.get(file)
            if running is None:
                running = self._downloads[file] = Download(self.opener, url, file, lambda: self._done(file))
                running.start()
            return running

    def _done(self, file: Path) -> None:
        with self._lock:
            self._downloads.pop(file, None)

    def _tidy(self) -> None:
        for partial in self.folder.rglob("*.partial"):
            partial.unlink(missing_ok=True)
        kept = sorted(self.folder.rglob("*.deb"), key=lambda file: file.stat().st_mtime, reverse=True)
        total = 0
        for file in kept:
            total += file.stat().st_size
            if total > _KEPT_BYTES:
                file.unlink(missing_ok=True)


class Download:
    """A file on its way; readers follow it as it grows."""

    def __init__(self, opener: Any, url: str, file: Path, done: Any) -> None:
        self._opener, self._url, self._file, self._when_done = opener, url, file, done
        self._changed = threading.Condition()
        self._partial = file.with_name(f"{file.name}.{id(self):x}.partial")
        self.length: int | None = None
        self.status: int | None = None
        self._written = 0
        self._ended = False

    def start(self) -> None:
        """Begin, in a thread of its own: a reader that goes away does not end it for the others."""
        threading.Thread(target=self._run, name="download", daemon=True).start()

    def wait_for_head(self) -> None:
        """Return when `status` and `length` are known; status 502 if it failed."""
        with self._changed:
            self._changed.wait_for(lambda: self.status is not None)

    def chunks(self) -> Iterator[bytes]:
        """Yield the content as it comes; ends early if the download was cut."""
        at = 0
        source = self._open()
        if source is None:
            with self._changed:
                self._changed.wait_for(lambda: self._ended)  # who asks again must get a new download
            return
        with source:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda at=at: self._written > at or self._ended)  # type: ignore[misc]
                chunk = source.read(_CHUNK)
                if not chunk and self._ended:
                    return
                at += len(chunk)
                if chunk:
                    yield chunk

    def _open(self) -> BinaryIO | None:
        # A fast download may be over before its first reader comes: the file has its own name then, or is gone.
        for path in (self._partial, self._file):
            with suppress(FileNotFoundError):
                return path.open("rb")
        return None

    def _run(self) -> None:
        try:
            with self._opener.open(self._url, timeout=60) as answer:
                length = answer.headers.get("Content-Length")
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with self._partial.open("wb", buffering=0) as out:
                    self._tell(status=200, length=int(length) if length else None)
                    while chunk := answer.read(_CHUNK):
                        out.write(chunk)
                        self._tell(written=len(chunk))
            if self.length is None or self._written == self.length:
                self._partial.replace(self._file)
        except urllib.error.HTTPError as error:
            self._tell(status=error.code)
        except (OSError, http.client.HTTPException, ValueError) as error:
            log.warning("%s: %s", self._url, error)
            self._tell(status=502)
        finally:
            self._partial.unlink(missing_ok=True)
            self._when_done()  # first: who sees this one end and asks again gets a new one
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _tell(self, *, status: int | None = None, length: int | None = None, written: int = 0) -> None:
        with self._changed:
            self.status = self.status or status
            self.length = self.length or length
            self._written += written
            self._changed.notify_all()


class _CarefulRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        name = urlsplit(newurl).hostname or ""
        for entry in socket.getaddrinfo(name, None):
            address = ipaddress.ip_address(entry[4][0])
            if address.is_link_local or address.is_loopback:
                raise urllib.error.HTTPError(newurl, 403, "redirected to a local address", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _handler(cache: PackageCache) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = 120

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.scheme != "http" or parts.netloc.rpartition("@")[2] not in cache.hosts:
                self.send_error(403, "this cache serves the machine's own apt sources only")
                return
            file = cache.file_for(self.path)
            if file is None:
                self._pass_through()
            elif file.is_file() and "no-cache" not in self.headers.get("Cache-Control", ""):
                self._serve(file)
            else:
                self._follow(cache.download(self.path, file))

        def _serve(self, file: Path) -> None:
            with file.open("rb") as source:
                size = os.fstat(source.fileno()).st_size
                self._head(200, size)
                self.connection.sendfile(source)
            os.utime(file)  # the least recently used go first

        def _follow(self, download: Download) -> None:
            download.wait_for_head()
            status = download.status or 502
            if status != 200:
                self.send_error(status)
                return
            self._head(200, download.length)
            sent = 0
            for chunk in download.chunks():
                self.wfile.write(chunk)
                sent += len(chunk)
            if download.length is None or sent != download.length:
                self.close_connection = True

        def _pass_through(self) -> None:
            headers = {name: self.headers[name] for name in _PASSED_ON if name in self.headers}
            try:
                with cache.opener.open(urllib.request.Request(self.path, headers=headers), timeout=60) as answer:
                    length = answer.headers.get("Content-Length")
                    back = {name: answer.headers[name] for name in _PASSED_BACK if name in answer.headers}
                    self._head(answer.status, int(length) if length else None, back)
                    while chunk := answer.read(_CHUNK):
                        self.wfile.write(chunk)
            except urllib.error.HTTPError as error:
                self._head(error.code, 0)
            except (OSError, http.client.HTTPException) as error:
                self.send_error(502, str(error)[:200])

        def _head(self, status: int, length: int | None, more: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (more or {}).items():
                self.send_header(name, value)
            if length is None:
                self.send_header("Connection", "close")
                self.close_connection = True
            else:
                self.send_header("Content-Length", str(length))
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            log.debug(format, *args)

    return Handler
