"""The metadata service's sockets: on the lab's bridge only, reached by the redirect of 169.254.169.254.

One request a connection, as EC2 does it: the time to live that bounds a token's way is the connection's.
"""

from __future__ import annotations

import logging
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from labtool.localcloud.metadata import Metadata

log = logging.getLogger(__name__)

_FREEBIND = 15  # IP_FREEBIND: the bridge, and with it the address, comes with the first host
_PATIENCE_S = 10.0


class MetadataServer:
    """Serves `metadata` at a port of `address` that the kernel chooses."""

    def __init__(self, metadata: Metadata, address: str) -> None:
        self._server = _Server((address, 0), _handler(metadata), bind_and_activate=False)
        self._server.socket.setsockopt(socket.IPPROTO_IP, _FREEBIND, 1)
        self._server.server_bind()
        self._server.server_activate()
        self._thread = threading.Thread(target=self._server.serve_forever, name="metadata", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End; hosts are refused from now on."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def server_bind(self) -> None:
        # HTTPServer's own asks DNS for the address's name.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


def _handler(metadata: Metadata) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = _PATIENCE_S

        def _serve(self) -> None:
            found = metadata.answer(self.command, self.path, dict(self.headers.items()), self.client_address[0])
            if found.hops is not None:
                self.connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, found.hops)
            self.send_response(found.status)
            for name, value in ({"Content-Type": "text/plain"} | dict(found.headers)).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(found.body)))
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(found.body)
            self.close_connection = True

        def do_GET(self) -> None:
            self._serve()

        def do_HEAD(self) -> None:
            self._serve()

        def do_PUT(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def do_DELETE(self) -> None:
            self._serve()

        def version_string(self) -> str:
            return "EC2ws"

        def log_message(self, format: str, *args: Any) -> None:
            log.debug("%s " + format, self.client_address[0], *args)

    return Handler
