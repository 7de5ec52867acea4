"""Single requests in memory, from models whose truth is known."""

from __future__ import annotations

import heapq

import numpy as np
from small_run import record, run_data, summary

from labtool.analysis.data import Requests
from labtool.analysis.intervals import by_request


def requests(due, late, service, **more):
    """Requests of one client to one endpoint that all succeed, unless `more` says otherwise."""
    n = len(due)
    late, service = np.asarray(late, dtype=np.float32), np.asarray(service, dtype=np.float32)
    fields = {
        "due": np.asarray(due, dtype=np.float64),
        "late": late,
        "service": service,
        "latency": late + service,
        "status": np.full(n, 200, dtype=np.uint16),
        "error": np.zeros(n, dtype=np.uint16),
        "endpoint": np.zeros(n, dtype=np.uint16),
        "client": np.zeros(n, dtype=np.uint16),
        "warmup": np.zeros(n, dtype=bool),
        "errors": ("", "timeout", "refused"),
        "endpoints": ("GET /",),
        "clients": ("load-0/client-1",),
    }
    return Requests(**(fields | more))


def answered(due, times, connections, stall=None):
    """Send at `due`, or when one of the connections is free; a server with a worker a connection answers in `times`.

    From stall[0] to stall[1] it does nothing: what is under way or comes then is answered by so much later.
    Returns (late, service).
    """
    free = [0.0] * connections
    late, service = np.empty(len(due)), np.empty(len(due))
    for i, when in enumerate(due):
        sent = max(when, heapq.heappop(free))
        end = sent + times[i]
        if stall and sent < stall[1] and end > stall[0]:
            end = max(end, stall[1] + times[i])
        heapq.heappush(free, end)
        late[i], service[i] = sent - when, end - sent
    return late, service


def stalled(rate=500, seconds=20, stall=(9.0, 11.0), connections=10, took=0.002, seed=3):
    """The stall: so many requests a second, and a server that stops for two seconds."""
    rng = np.random.default_rng(seed)
    due = np.arange(rate * seconds) / rate
    times = took * rng.uniform(0.7, 1.3, len(due))
    return requests(due, *answered(due, times, connections, stall))


def closed_loop(seconds=20, stall=(9.0, 11.0), took=0.002, seed=3):
    """The same server asked by one that waits for each answer."""
    rng = np.random.default_rng(seed)
    due, service, now = [], [], 0.0
    while now < seconds:
        end = now + took * rng.uniform(0.7, 1.3)
        if now < stall[1] and end > stall[0]:
            end += stall[1] - max(now, stall[0])
        due.append(now)
        service.append(end - now)
        now = end
    return requests(due, np.zeros(len(due)), service)


def one_server(rate, took, seconds, seed=5):
    """M/D/1: Poisson arrivals at one server that takes exactly `took` seconds, as many connections as it likes."""
    rng = np.random.default_rng(seed)
    due = np.cumsum(rng.exponential(1 / rate, round(rate * seconds)))
    service, free = np.empty(len(due)), 0.0
    for i, when in enumerate(due.tolist()):
        free = max(when, free) + took
        service[i] = free - when
    return requests(due, np.full(len(due), 1e-5), service)


def web_run(single, *, offered=True, **changes):
    """A run whose clients left these requests: a front at 60 %, another at 70 %, a load host at 30 %.

    Where nothing was `offered`, the clients waited for each answer.
    """
    told = tuple(summary(name=name, role="client", offered=1.0) for name in single.clients) if offered else ()
    clients, summaries = by_request(single, (), told)
    length = float(np.ceil(single.due.max() + 1e-3))
    rest = {"record": record(workload="http-load", stack="web"), "length_s": length}
    return run_data(**({"requests": single, "clients": clients, "summaries": summaries} | rest | changes))
