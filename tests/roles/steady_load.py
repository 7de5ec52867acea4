"""Requests at a steady rate over connections that are kept, as a browser keeps them; run on a lab host by test_web.py.

    python3 steady_load.py SECONDS RATE URL     prints {"sent", "failed", "connections", "problems"}

It ends early when a file `stop` is there.
"""

import http.client
import json
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

WORKERS = 4


class Client(threading.Thread):
    """One connection after another: closed by the server after an answer, the next one is opened; else it stays."""

    def __init__(self, url: str, seconds: float, rate: float) -> None:
        super().__init__()
        self.url, self.seconds, self.rate = urlsplit(url), seconds, rate
        self.sent = self.connections = 0
        self.problems: list[str] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=10)
        began = time.monotonic()
        while (due := began + self.sent / self.rate) < began + self.seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            if Path("stop").exists():
                break
            self.connections += connection.sock is None
            self.sent += 1
            try:
                connection.request("GET", f"{self.url.path}?{self.url.query}")
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.problems.append(f"status {answer.status}")
            except (OSError, http.client.HTTPException) as error:
                self.problems.append(f"{type(error).__name__}: {error}")
                connection.close()


def main(seconds: float, rate: float, url: str) -> None:
    clients = [Client(url, seconds, rate / WORKERS) for _ in range(WORKERS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    problems = [problem for client in clients for problem in client.problems]
    told = {"sent": sum(client.sent for client in clients), "failed": len(problems), "problems": problems[:5]}
    print(json.dumps({**told, "connections": sum(client.connections for client in clients)}))


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
