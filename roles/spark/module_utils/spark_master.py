"""What a standalone master says of its cluster, by the JSON of its web page."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass

POLL_S = 0.25
SILENCE_S = 3.0


class MasterError(Exception):
    """The master does not answer, or with something else; says which address and why."""


@dataclass(frozen=True)
class Worker:
    """A worker that is alive, as the master counts it."""

    address: str
    cores: int
    free_cores: int
    memory_mb: int
    free_memory_mb: int


@dataclass(frozen=True)
class Application:
    """An application that runs or waits for executors."""

    id: str
    name: str
    cores: int
    state: str


@dataclass(frozen=True)
class Cluster:
    """What the master answered."""

    url: str
    status: str
    workers: tuple[Worker, ...]
    applications: tuple[Application, ...]

    @classmethod
    def of(cls, answer: dict) -> Cluster:
        """Read the master's answer; `KeyError`, `TypeError` or `ValueError` where it is another one."""
        return cls(
            url=answer["url"],
            status=answer["status"],
            workers=tuple(
                Worker(
                    one["host"], int(one["cores"]), int(one["coresfree"]), int(one["memory"]), int(one["memoryfree"])
                )
                for one in answer["workers"]
                if one["state"] == "ALIVE"  # those that went away stay listed for a while
            ),
            applications=tuple(
                Application(one["id"], one["name"], int(one["cores"]), one["state"]) for one in answer["activeapps"]
            ),
        )

    @property
    def addresses(self) -> set[str]:
        """Where workers are alive."""
        return {worker.address for worker in self.workers}


def ask(address: str, port: int) -> Cluster:
    """Ask the master once; `MasterError` says why there is no answer."""
    where = f"http://{address}:{port}/json/"
    # Not through a proxy: the master is a host of the same network.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(where, timeout=SILENCE_S) as answer:
            return Cluster.of(json.load(answer))
    except (OSError, http.client.HTTPException, urllib.error.URLError) as error:
        raise MasterError(f"{where}: {getattr(error, 'reason', None) or error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise MasterError(f"{where}: no master's answer ({type(error).__name__}: {error})") from None
