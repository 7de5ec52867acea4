#!/usr/bin/python3
"""Ask httpd, php-fpm or HAProxy on this host: record its numbers, wait for it, or say how it is.

    <service>-watch record FILE     a row of numbers every second, as CSV, until it is ended
    <service>-watch ready FILE      succeeds when the service answers its protocol
    <service>-watch health FILE     says in one line how it is; fails where it is not well
    <service>-watch balance FILE    HAProxy: waits for the fronts that are new, drains those that leave

FILE is /etc/labtool/web/<service>.json, which the service's role writes. A question that is not answered in time gives
no row: a gap in the numbers is a gap, and means that the service did not answer.
"""

from __future__ import annotations

import csv
import http.client
import json
import os
import secrets
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

INTERVAL_S = 1.0
TIMEOUT_S = 0.9
FILE_S = 3600
KEPT_S = 7 * 86400
POLL_S = 0.2
CHECK_ID = "labtool-check"
"""The X-Request-Id of our own questions: the access log's reader leaves them out."""


class NoAnswerError(Exception):
    """The service gave no answer, or another than expected; says which."""


class TooOldError(Exception):
    """HAProxy cannot be brought to it while it runs: it must be reloaded."""


# --- asking -----------------------------------------------------------------------------------------------------------


def get(url: str, host: str = "", timeout: float = TIMEOUT_S) -> str:
    """Return the headers and the body that an HTTP server answers with 2xx; `NoAnswerError` otherwise.

    Certificates are not checked: the question is whether this very server answers, not who it says it is.
    """
    parts = urlsplit(url)
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=timeout, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    headers = {"X-Request-Id": CHECK_ID, "Connection": "close", **({"Host": host} if host else {})}
    try:
        connection.request("GET", f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}", headers=headers)
        answer = connection.getresponse()
        text = f"{answer.headers}\n{answer.read().decode(errors='replace')}"
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswerError(f"{url.partition('?')[0]}: {error or type(error).__name__}") from None
    finally:
        connection.close()
    if not 200 <= answer.status < 300:
        raise NoAnswerError(f"{url.partition('?')[0]} answers {answer.status} {answer.reason}")
    return text


def page(url: str, host: str = "", timeout: float = TIMEOUT_S) -> None:
    """Ask for a page with a nonce; `NoAnswerError` unless the answer has it."""
    nonce = secrets.token_hex(8)
    if nonce not in get(f"{url}?nonce={nonce}", host, timeout):
        raise NoAnswerError(f"{url} answers without the nonce that it was asked with")


def connect(address: str, timeout: float = TIMEOUT_S) -> socket.socket:
    """Connect to a unix socket (a path) or to host:port."""
    try:
        if address.startswith("/"):
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            made.settimeout(timeout)
            made.connect(address)
            return made
        host, _, port = address.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout)
    except OSError as error:
        raise NoAnswerError(f"{address}: {error}") from None


def fastcgi(address: str, path: str, query: str = "") -> str:
    """Return the body that php-fpm answers for a path; `NoAnswerError` without one. FastCGI 1.0, one request."""
    variables = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": path,
        "SCRIPT_FILENAME": path,
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "GATEWAY_INTERFACE": "CGI/1.1",
    }
    pairs = b"".join(
        struct.pack("!BB", len(key), len(value)) + key.encode() + value.encode() for key, value in variables.items()
    )
    begin = struct.pack("!HB5x", 1, 0)

    def record(kind: int, content: bytes) -> bytes:
        return struct.pack("!BBHHBx", 1, kind, 1, len(content), 0) + content

    with connect(address) as stream:
        try:
            stream.sendall(record(1, begin) + record(4, pairs) + record(4, b"") + record(5, b""))
            answer = b""
            with stream.makefile("rb") as source:
                while True:
                    _, kind, _, length, padding = struct.unpack("!BBHHBx", source.read(8))
                    content = source.read(length + padding)[:length]
                    if kind == 6:
                        answer += content
                    elif kind == 3:
                        break
        except (OSError, struct.error) as error:
            raise NoAnswerError(f"{address}: {error}") from None
    headers, _, body = answer.decode(errors="replace").partition("\r\n\r\n")
    if headers.startswith("Status:") and not headers.startswith("Status: 2"):
        raise NoAnswerError(f"{address} answers {headers.splitlines()[0][8:]} for {path}")
    return body


def ask_haproxy(address: str, command: str) -> str:
    """Return what HAProxy's command socket answers."""
    with connect(address) as stream:
        try:
            stream.sendall(command.encode() + b"\n")
            with stream.makefile("rb") as source:
                return source.read().decode(errors="replace")
        except OSError as error:
            raise NoAnswerError(f"{address}: {error}") from None


def waiting(path: str) -> int:
    """Return how many connections wait in a listening unix socket, as `ss -xl` tells it (sock_diag(7)).

    php-fpm itself says 0 for a unix socket, whatever waits.
    """
    listening, name_and_queue = 1 << 10, 0x1 | 0x10
    question = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, listening, 0, name_and_queue, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as netlink:
        netlink.settimeout(TIMEOUT_S)
        netlink.send(struct.pack("=IHHII", 16 + len(question), 20, 0x301, 1, 0) + question)
        while True:
            answer = netlink.recv(65536)
            at = 0
            while at + 16 <= len(answer):
                length, kind = struct.unpack_from("=IH", answer, at)
                if kind in (2, 3) or length < 16:  # an error, or the end
                    raise NoAnswerError(f"{path}: nobody listens there")
                found = attributes(answer[at + 32 : at + length])
                if found.get(0, b"").rstrip(b"\0") == path.encode() and len(found.get(4, b"")) >= 4:
                    return int(struct.unpack_from("=I", found[4])[0])
                at += (length + 3) & ~3


def attributes(content: bytes) -> dict[int, bytes]:
    """Return netlink attributes by their number."""
    found, at = {}, 0
    while at + 4 <= len(content):
        length, kind = struct.unpack_from("=HH", content, at)
        if length < 4:
            break
        found[kind] = content[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


# --- numbers ----------------------------------------------------------------------------------------------------------

HTTPD = {
    "Total Accesses": "Requests",
    "Total kBytes": "Bytes",
    "BusyWorkers": "BusyWorkers",
    "IdleWorkers": "IdleWorkers",
    "Processes": "Processes",
    "ConnsTotal": "Connections",
    "ConnsAsyncWriting": "WritingConnections",
    "ConnsAsyncKeepAlive": "KeepAliveConnections",
    "ConnsAsyncClosing": "ClosingConnections",
}
PHP = {
    "accepted conn": "Requests",
    "active processes": "ActiveProcesses",
    "idle processes": "IdleProcesses",
    "listen queue": "ListenQueue",
    "max children reached": "MaxChildrenReached",
    "slow requests": "SlowRequests",
}
HAPROXY = {
    "qcur": "Queue",
    "scur": "Sessions",
    "stot": "Requests",
    "bout": "Bytes",
    "econ": "ConnectionErrors",
    "eresp": "ResponseErrors",
    "wretr": "Retries",
    "wredis": "Redispatches",
    "hrsp_2xx": "Responses2xx",
    "hrsp_4xx": "Responses4xx",
    "hrsp_5xx": "Responses5xx",
}


def httpd_numbers(watched: dict) -> dict[str, float]:
    """Return what mod_status tells. It takes a worker: of a full server no answer comes in time."""
    lines = (line.partition(": ") for line in get(watched["status"]).splitlines())
    told = {key: value for key, _, value in lines}
    numbers = {name: float(told[key]) for key, name in HTTPD.items() if key in told}
    if "BusyWorkers" not in numbers:
        raise NoAnswerError(f"{watched['status']} is no page of mod_status")
    if "Bytes" in numbers:
        numbers["Bytes"] *= 1024
    return {**numbers, "MaxWorkers": float(watched["workers"])}


def php_numbers(watched: dict) -> dict[str, float]:
    """Return what php-fpm's status page tells; it has a socket of its own, so a full pool answers too."""
    try:
        told = json.loads(fastcgi(watched["status"], watched["status_path"], "json"))
        numbers = {name: float(told[key]) for key, name in PHP.items()}
    except (ValueError, KeyError) as error:
        raise NoAnswerError(f"{watched['status']}: {watched['status_path']} is no status page ({error})") from None
    if watched["listen"].startswith("/"):
        numbers["ListenQueue"] = float(waiting(watched["listen"]))
    return {**numbers, "MaxProcesses": float(watched["processes"])}


def haproxy_rows(watched: dict) -> list[dict[str, str]]:
    """Return HAProxy's statistics, a row for each frontend, backend and server."""
    told = ask_haproxy(watched["socket"], "show stat").lstrip("# ")
    rows = list(csv.DictReader(line for line in told.splitlines() if line.strip()))
    if not rows or "svname" not in rows[0]:
        raise NoAnswerError(f"{watched['socket']} does not answer `show stat`")
    return rows


def haproxy_numbers(watched: dict) -> dict[str, float]:
    """Return HAProxy's statistics as <name>.<metric>; a server's are <backend>.<server>.<metric>."""
    # Lines that its log lacks: it drops them where two of its threads would write at the same time.
    lines = (line.partition(": ") for line in ask_haproxy(watched["socket"], "show info").splitlines())
    numbers = {name: float(value) for name, _, value in lines if name == "DroppedLogs"}
    for row in haproxy_rows(watched):
        kind = row["svname"]
        name = row["pxname"] if kind in ("FRONTEND", "BACKEND") else f"{row['pxname']}.{kind}"
        if row["pxname"].startswith("_"):
            continue
        # A frontend's sessions are connections; its requests are counted by themselves.
        counted = {**row, "stot": row["req_tot"]} if kind == "FRONTEND" else row
        for key, metric in HAPROXY.items():
            if counted.get(key):
                numbers[f"{name}.{metric}"] = float(counted[key])
        if kind not in ("FRONTEND", "BACKEND"):
            numbers[f"{name}.Up"] = float(row["status"].startswith("UP"))
    return numbers


NUMBERS: dict[str, Callable[[dict], dict[str, float]]] = {
    "httpd": httpd_numbers,
    "php": php_numbers,
    "haproxy": haproxy_numbers,
}


# --- recording --------------------------------------------------------------------------------------------------------


class Recorder:
    """Rows of numbers into CSV files: a new one each hour, and whenever the columns change."""

    def __init__(self, folder: Path, service: str) -> None:
        self.folder = folder
        self.service = service
        self.columns: list[str] = []
        self.began = 0.0
        self.file: IO[str] | None = None

    def row(self, moment: float, numbers: dict[str, float]) -> None:
        """Write a row, which is on its way to the disk when this returns."""
        columns = sorted(numbers)
        if self.file is None or columns != self.columns or moment >= self.began + FILE_S:
            if self.file:
                self.file.close()
            self.columns, self.began = columns, moment
            self.file = (self.folder / f"{self.service}-{moment * 1000:.0f}.csv").open("w", buffering=1)
            self.file.write(",".join(["time", *columns]) + "\n")
            self.prune(moment)
        cells = [f"{moment * 1000:.0f}", *(f"{numbers[column]:g}" if numbers[column] < 1e6 else
                                           f"{numbers[column]:.0f}" for column in columns)]  # fmt: skip
        self.file.write(",".join(cells) + "\n")

    def prune(self, moment: float) -> None:
        """Remove what is older than a week."""
        for old in self.folder.glob(f"{self.service}-*.csv"):
            if old.stat().st_mtime < moment - KEPT_S:
                old.unlink(missing_ok=True)


def record(watched: dict, folder: Path) -> None:
    """Write a row every second, for ever."""
    recorder = Recorder(folder, watched["kind"])
    silent = False
    while True:
        time.sleep(INTERVAL_S - time.time() % INTERVAL_S)
        try:
            recorder.row(time.time(), NUMBERS[watched["kind"]](watched))
            silent = False
        except NoAnswerError as error:
            if not silent:  # once for each gap
                print(f"no numbers: {error}", file=sys.stderr, flush=True)
            silent = True


# --- readiness and health ---------------------------------------------------------------------------------------------


def ready(watched: dict) -> None:
    """Return when the service answers its protocol; `NoAnswerError` where it does not yet."""
    for one in watched.get("pages", []):
        page(one["url"], one.get("host", ""), timeout=5)
    if watched["kind"] == "php" and "pong" not in fastcgi(watched["listen"], watched["ping_path"]):
        raise NoAnswerError(f"{watched['listen']}: {watched['ping_path']} is not answered with pong")
    if watched["kind"] == "haproxy":
        down = [name for name, state in servers(watched).items() if not state.startswith("UP")]
        if down:
            raise NoAnswerError(f"HAProxy finds {', '.join(sorted(down))} not well")


def servers(watched: dict) -> dict[str, str]:
    """Return HAProxy's state of each server of our backend."""
    return {row["svname"]: row["status"] for row in backend_rows(watched)}


def backend_rows(watched: dict) -> list[dict[str, str]]:
    """Return the statistics of each server of our backend."""
    rows = haproxy_rows(watched)
    return [row for row in rows if row["pxname"] == watched["backend"] and row["svname"] not in ("FRONTEND", "BACKEND")]


def balance(watched: dict) -> None:
    """Bring the running HAProxy to the fronts that there shall be, without a reload: no connection is closed.

    A front that is new gets requests once it has answered its health check from here; one that leaves is drained first.
    `NoAnswerError` names fronts that do not answer; `TooOldError`: this HAProxy must be reloaded for it.
    """
    try:
        known = {row["svname"]: row["addr"] for row in backend_rows(watched)}
    except NoAnswerError:  # it does not run yet
        known = {}
    new = {name: at for name, at in watched["fronts"].items() if known.get(name) != at}
    await_fronts(watched, new)
    if not known:
        return
    for name, address in new.items():
        add(watched, name, address, name in known)
    drain(watched, [name for name in known if name not in watched["fronts"]])


def await_fronts(watched: dict, new: dict[str, str]) -> None:
    """Wait until fronts answer their health check from here; `NoAnswerError` names those that do not."""
    late, problem = dict(new), ""
    deadline = time.monotonic() + watched["wait_s"]
    while late:
        for name, address in list(late.items()):
            try:
                get(f"http://{address}{watched['health_path']}", watched["health_host"], timeout=5)
                del late[name]
            except NoAnswerError as error:
                problem = str(error)
        if late and time.monotonic() >= deadline:
            raise NoAnswerError(
                f"after {watched['wait_s']} s these fronts do not answer their health check: "
                f"{', '.join(sorted(late))} ({problem}). Mend them, or leave them out"
            )
        if late:
            time.sleep(POLL_S)


def add(watched: dict, name: str, address: str, known: bool) -> None:
    """Give the running HAProxy a front, or a known one its new address; `TooOldError` where it cannot."""
    server = f"{watched['backend']}/{name}"
    if known:
        host, _, port = address.rpartition(":")
        commands = [f"set server {server} addr {host.strip('[]')} port {port}", f"set server {server} state ready"]
    else:
        commands = [
            f"add server {server} {address} {watched['server_options']}",
            f"enable health {server}",
            f"enable server {server}",
        ]
    for command in commands:
        said = ask_haproxy(watched["socket"], command).strip()
        if said and not any(word in said for word in ("registered", "changed", "no need to change")):
            raise TooOldError(f"HAProxy cannot do this without a reload: {command}: {said}")


def drain(watched: dict, leaving: list[str]) -> None:
    """Give servers no new request, wait for those under way, and take the servers out."""
    for name in leaving:
        ask_haproxy(watched["socket"], f"set server {watched['backend']}/{name} state drain")
    deadline = time.monotonic() + watched["drain_s"]
    while leaving:
        busy = {row["svname"] for row in backend_rows(watched) if int(row["scur"] or 0) + int(row["qcur"] or 0)}
        if not busy & set(leaving) or time.monotonic() >= deadline:
            break
        time.sleep(POLL_S)
    for name in leaving:
        server = f"{watched['backend']}/{name}"
        ask_haproxy(watched["socket"], f"set server {server} state maint")
        # Idle connections to it go within seconds; until then it stays, without requests, until the next reload.
        while "deleted" not in ask_haproxy(watched["socket"], f"del server {server}"):
            if time.monotonic() >= deadline:
                break
            time.sleep(POLL_S)


DESCRIBE: dict[str, Callable[[dict, dict[str, float]], str]] = {
    "httpd": lambda _, now: f"answers; {now['BusyWorkers']:.0f} of {now['MaxWorkers']:.0f} workers busy",
    "php": lambda _, now: (
        f"answers; {now['ActiveProcesses']:.0f} of {now['MaxProcesses']:.0f} processes busy, "
        f"{now['ListenQueue']:.0f} requests wait"
    ),
    "haproxy": lambda watched, _: f"answers; all fronts are up: {', '.join(sorted(watched['fronts']))}",
}


def health(watched: dict) -> None:
    """Say in one line how the service is; `NoAnswerError` where it is not well."""
    ready(watched)
    print(f"{watched['kind']}: {DESCRIBE[watched['kind']](watched, NUMBERS[watched['kind']](watched))}")


def main(words: list[str]) -> int:
    """Do what the command line says."""
    commands = {"ready": ready, "health": health, "balance": balance}
    if len(words) != 2 or words[0] not in ("record", *commands):
        print(__doc__, file=sys.stderr)
        return 2
    watched = json.loads(Path(words[1]).read_text())
    try:
        if words[0] == "record":
            record(watched, Path(os.environ["LOGS_DIRECTORY"]))
        else:
            commands[words[0]](watched)
    except NoAnswerError as error:
        print(f"{watched['kind']}: {error}", file=sys.stderr)
        return 1
    except TooOldError as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
