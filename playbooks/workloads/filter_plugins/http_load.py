"""A web workload's plan for one load host, from its playbook's variables; what can't be sent is refused here."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible.errors import AnsibleFilterError

FILES = Path(__file__).resolve().parents[1] / "files"
sys.path.insert(0, str(FILES))
import find_max  # noqa: E402
import h2load  # noqa: E402
import http_load  # noqa: E402

FASTEST_OURS = 5_000.0  # requests/s of one client: what a core does, measured (docs/measuring.md)
FASTEST_H2LOAD = 100_000.0
FIELD = re.compile(r"\{(\w+)\}")
INPUTS = {"body": "http_load_body", "fields": "http_load_fields"}
Variables = Mapping[str, Any]


def http_load_inputs(variables: Variables) -> dict[str, str]:
    """Return the files that the load hosts need: {name there: path here}."""
    return {name: str(variables[key]) for name, key in INPUTS.items() if variables.get(key)}


def http_load_plan(
    variables: Variables, hostvars: Variables, groups: Mapping[str, Sequence[str]], host: str, hosts: Sequence[str]
) -> dict[str, Any]:
    """Return the plan of load host `host`, one of `hosts`; `AnsibleFilterError` says what is wrong, and the way out."""

    def given(name: str, default: Any) -> Any:
        value = variables.get(f"http_load_{name}")
        return default if value is None or value == "" else value

    path, targets = where(str(given("url", "/")), str(given("i_may_load", "")), hostvars, groups, variables)
    inputs = f"{variables['drive_home']}/inputs"
    rate = float(given("rate", 100))
    mode = str(given("mode", "open"))
    wanted = str(given("find_max", ""))
    plan: dict[str, Any] = {
        "mode": "find-max" if wanted else mode,
        "find_max": wanted,
        "host": host,
        "host_index": list(hosts).index(host),
        "hosts": len(hosts),
        "targets": targets,
        "path": path,
        "method": str(given("method", "GET")),
        "headers": headers(str(given("headers", ""))),
        "body": "",
        "body_file": f"{inputs}/body" if given("body", "") else "",
        "fields_file": f"{inputs}/fields" if given("fields", "") else "",
        "rate": rate,
        # A search may go as far as the machine, a profile to twice its rate.
        "peak": float(given("peak", 1e6 if wanted else 2 * rate)),
        "profile": str(given("profile", "constant")),
        "steps": int(given("steps", 5)),
        "points": points(Path(given("rates", ""))) if given("rates", "") else [],
        "arrivals": str(given("arrivals", "even")),
        "seed": int(given("seed", 1)),
        "generator": str(given("generator", "auto")),
        "http2": truth(given("http2", False)),
        "timeout_s": float(given("timeout_s", 10)),
        "connections": int(given("connections", 1000)),
        "keep_alive": truth(given("keep_alive", True)),
        "ca_file": str(given("ca", "")),
        "clients": int(given("clients", 1)),
        "requests": int(given("requests", 1000)),
        "rounds": int(given("rounds", 10)),
        "concurrency": int(given("concurrency", 7)),
        "step_s": float(given("step_s", 10)),
        "precision": float(given("precision", 0.03)),
        "duration_s": float(variables.get("labtool_duration_s", 60)),
        "warmup_s": float(variables.get("labtool_warmup_s", 0)),
    }
    check(plan, Path(given("fields", "")) if given("fields", "") else None)
    plan["needs_h2load"] = (
        plan["mode"] == "open" and http_load.generator_of(plan, http_load.pieces_of(plan)) == "h2load"
    )
    return plan


def where(
    url: str, allowed: str, hostvars: Variables, groups: Mapping[str, Sequence[str]], variables: Variables
) -> tuple[str, list[str]]:
    """Return the path and the servers of a URL: of the lab, or of the host that was typed out."""
    if url.startswith("/"):
        names = groups.get(variables.get("balancer_group", "balancer")) or groups.get(variables.get("web_group", "web"))
        if not names:
            raise AnsibleFilterError("no web server: the groups `balancer` and `web` are empty; give a whole URL")
        return url, [f"http://{bracketed(address(hostvars[name], name))}" for name in names]
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise AnsibleFilterError(f"{url!r} is no URL: write /path for the stack's servers, or http://host/path")
    ours = {name: address(hostvars[name], name) for name in hostvars}
    name = parts.hostname
    if name not in ours and name not in ours.values() and name != allowed:
        raise AnsibleFilterError(
            f"{name} is no host of this lab, and load is not sent to others by accident: "
            f"type --i-may-load {name} if it is yours to load"
        )
    target = parts.netloc.replace(name, ours.get(name, name), 1)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), [f"{parts.scheme}://{target}"]


def address(variables: Variables, name: str) -> str:
    """Return where a host is reached by the others."""
    return str(variables.get("labtool_private_address") or variables.get("ansible_host") or name)


def bracketed(host: str) -> str:
    """Return a host as a URL has it."""
    return f"[{host}]" if ":" in host else host


def headers(text: str) -> list[list[str]]:
    """Read `Name=value; Name=value`."""
    found = []
    for part in filter(None, (one.strip() for one in text.split(";"))):
        name, equals, value = part.partition("=")
        if not equals or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name.strip()) or re.search(r"[\r\n]", value):
            raise AnsibleFilterError(f"--headers: {part!r} is no header, as Accept=text/html")
        found.append([name.strip(), value.strip()])
    return found


def points(file: Path) -> list[tuple[float, float]]:
    """Read a file of `seconds,requests per second`; a first line of names is left out."""
    found: list[tuple[float, float]] = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            at, rate = (float(cell) for cell in line.split(","))
        except ValueError:
            if number == 1:
                continue
            raise AnsibleFilterError(f"{file}:{number}: {line!r} is not `seconds,requests per second`") from None
        if rate < 0 or at < 0 or (found and at <= found[-1][0]):
            raise AnsibleFilterError(f"{file}:{number}: seconds must grow, and neither may be below 0")
        found.append((at, rate))
    if not found or found[0][0] != 0 or not any(rate for _, rate in found):
        raise AnsibleFilterError(f"{file}: the first line must be of second 0, and some rate above 0")
    return found


def check(plan: Mapping[str, Any], fields: Path | None) -> None:
    """Refuse what can't be sent."""
    if plan["find_max"]:
        try:
            find_max.objectives(plan["find_max"])
        except ValueError as error:
            raise AnsibleFilterError(f"--find-max: {error}") from None
        if plan["hosts"] > 1 or plan["http2"] or plan["generator"] == "h2load":
            raise AnsibleFilterError("--find-max sends by one load host, with HTTP/1.1 and our own sender")
        if plan["profile"] != "constant" or plan["points"]:
            raise AnsibleFilterError("--find-max chooses the rate: it goes with no profile")
    if plan["http2"] and plan["generator"] == "replay":
        raise AnsibleFilterError("our own sender speaks HTTP/1.1: --http2 needs --generator h2load or auto")
    if (plan["generator"] == "h2load" or plan["http2"]) and (why := h2load.cannot(dict(plan))):
        raise AnsibleFilterError(f"h2load can't send this: {why}; use --generator replay (HTTP/1.1)")
    columns(plan, fields)
    if plan["mode"] != "open":
        return
    pieces = http_load.pieces_of(dict(plan))
    each = max(max(piece.first, piece.last) for piece in pieces) / (plan["hosts"] * plan["clients"])
    ours = plan["generator"] == "replay" or (plan["generator"] == "auto" and bool(h2load.cannot(dict(plan))))
    most = FASTEST_OURS if ours else FASTEST_H2LOAD
    if each > most:
        raise AnsibleFilterError(
            f"{each:,.0f} requests/s of one client can't be sent: a core does {most:,.0f} at most; "
            "more --load-hosts or --clients share the rate"
        )


def columns(plan: Mapping[str, Any], fields: Path | None) -> None:
    """Hold the names in path and headers against the table's columns."""
    named = set(FIELD.findall(plan["path"] + "".join(value for _, value in plan["headers"])))
    if fields is None:
        if named:
            raise AnsibleFilterError(f"{{{min(named)}}} names a column, but there is no table: give --fields FILE")
        return
    with fields.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        there, first = set(rows.fieldnames or ()), next(rows, None)
    if missing := sorted(named - there):
        raise AnsibleFilterError(f"{fields} has no column {missing[0]!r}: it has {', '.join(sorted(there))}")
    if first is None:
        raise AnsibleFilterError(f"{fields} has no row below its names")


def truth(value: Any) -> bool:
    """Read a truth as it comes from an option or from -e."""
    return value if isinstance(value, bool) else str(value).lower() in ("true", "yes", "on", "1")


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"http_load_plan": http_load_plan, "http_load_inputs": http_load_inputs, "http_load_where": where}
