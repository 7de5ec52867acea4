"""Apache's size, and its sites with their folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

FEWEST, MOST = 64, 4096
ROOM = 64
"""For so many processes there is room in any case: other workers then need no restart."""
MOST_PROCESSES = 20000  # that Apache takes
SOURCES = ("root", "folder", "archive", "git")


def httpd_size(
    memory_mb: int, processors: int, share: float, worker_mb: float, threads: int, workers: int = 0
) -> dict[str, int]:
    """Return event MPM's numbers: `workers`, `threads` and `processes`, and the `room` of its tables.

    Without `workers` there are as many as `share` of the memory has room for, at `worker_mb` MiB each: whole
    processes of `threads`, from 64 to 4,096 workers. With it there are exactly so many, in processes that divide them.
    """
    if not 0 < share <= 1 or worker_mb <= 0 or threads < 1 or workers < 0:
        raise AnsibleFilterError(
            f"httpd_memory_share {share} must be from 0 to 1, httpd_worker_mb {worker_mb} and httpd_threads {threads} "
            f"more than 0, httpd_workers {workers} not less than 0"
        )
    most_threads = threads
    if not workers:
        workers = max(FEWEST, min(MOST, int(memory_mb * share / worker_mb)))
        threads = min(threads, workers)
        workers -= workers % threads
    threads = next(each for each in range(min(threads, workers), 0, -1) if workers % each == 0)
    processes = workers // threads
    return {
        "workers": workers,
        "threads": threads,
        "processes": processes,
        "start": min(processes, max(2, processors)),
        "room": min(2 * max(processes, ROOM), MOST_PROCESSES),
        "most_threads": most_threads,
    }


def httpd_sites(
    sites: Sequence[Mapping[str, Any]], directory: str, port: int, php: bool, folder: str
) -> list[dict[str, Any]]:
    """Return the sites with `document_root`, `port`, `php` and where certificate and key lie under `folder`.

    `AnsibleFilterError` names the site that is wrong, and the way out.
    """
    names: set[str] = set()
    made = []
    for site in sites:
        name = site["name"]
        sources = [source for source in SOURCES if site.get(source)]
        if name in names:
            raise AnsibleFilterError(f"httpd_sites has two sites named {name}: give each a name of its own")
        if len(sources) != 1:
            raise AnsibleFilterError(
                f"site {name} of httpd_sites has {' and '.join(sources) or 'no content'}: give it one of "
                f"{', '.join(SOURCES)}"
            )
        if bool(site.get("tls_certificate")) != bool(site.get("tls_key")):
            raise AnsibleFilterError(f"site {name} of httpd_sites needs tls_certificate and tls_key, or neither")
        names.add(name)
        tls = bool(site.get("tls_certificate"))
        made.append(
            {
                **site,
                "document_root": site.get("root") or f"{directory}/{name}/current",
                "port": int(site.get("port") or port),
                "php": php if site.get("php") is None else site["php"],
                "certificate": f"{folder}/labtool-{name}.crt" if tls else "",
                "key": f"{folder}/labtool-{name}.key" if tls else "",
            }
        )
    if not made:
        raise AnsibleFilterError("httpd_sites is empty: name at least one site")
    return made


def httpd_pages(sites: Sequence[Mapping[str, Any]], path: str) -> list[dict[str, str]]:
    """Return where each site shows a nonce, as it is reached from the host itself."""
    return [
        {
            "url": f"{'https' if site['certificate'] else 'http'}://127.0.0.1:{site['port']}{path}",
            "host": site.get("server_name") or "",
        }
        for site in sites
    ]


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"httpd_size": httpd_size, "httpd_sites": httpd_sites, "httpd_pages": httpd_pages}
