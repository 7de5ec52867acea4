"""Starting, stopping and asking the local cloud."""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from labtool.checked import encoded
from labtool.config import LocalSettings
from labtool.errors import LocalCloudError
from labtool.files import make_folder
from labtool.localcloud import engine as engines
from labtool.localcloud import firewall, image, network
from labtool.localcloud.layout import Layout
from labtool.localcloud.lxcfs import Lxcfs

Progress = Callable[[str], None]
REGION = "us-east-1"
_START_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 5.0
_STATUS_PATH = "/_labtool/status"


@dataclass(frozen=True)
class Endpoint:
    """How a client reaches the local cloud."""

    url: str
    region: str
    access_key: str
    secret_key: str
    default_image: str
    hosts_url: str  # the same from a host


@dataclass(frozen=True)
class Status:
    """A running local cloud."""

    name: str
    pid: int
    url: str
    subnet: str
    hosts: dict[str, int]  # instances by state
    image: str
    default_image: str
    state_dir: str
    disk_bytes: int
    started: float  # Unix seconds
    lxcfs: bool  # hosts have their own /proc
    metrics_bytes: int  # of the CloudWatch store
    security_groups: bool = False  # enforced; False: this machine cannot, they are only kept


def start(settings: LocalSettings, progress: Progress) -> Endpoint:
    """Start the local cloud if it does not run; return when it answers.

    Builds the host image first if the machine has none of its recipe. Not root: asks sudo, once.
    """
    running = status(settings)
    if running is not None:
        _refuse_other(settings, running)
        return _endpoint(running)
    network.plan(settings)
    if os.geteuid() != 0:
        _as_root("start", settings, progress, "to make containers, network interfaces and mounts")
    else:
        _start(settings, progress)
    found = status(settings)
    if found is None:
        raise LocalCloudError("the local cloud does not answer", f"see {Layout(settings).log}")
    return _endpoint(found)


def stop(settings: LocalSettings, progress: Progress, *, purge: bool = False) -> None:
    """End the local cloud and everything that is in it.

    Leaves no container, network, bridge, route, rule, mount or process. The host image and the package cache stay
    (in the engine and in `<state>/packages`) unless `purge`.
    """
    if os.geteuid() != 0:
        _as_root("stop", settings, progress, "to remove containers and network interfaces", purge=purge)
        return
    layout = Layout(settings)
    with _locked(layout, progress):
        _stop_process(layout, progress)
        engine = _engine_or_none(settings)
        if engine is not None:
            containers = [c.instance_id for c in engine.containers()]
            if containers:
                progress(f"removing {len(containers)} host{'s' if len(containers) > 1 else ''}")
            engine.remove(*containers)
        network.down(settings, engine)
        firewall.remove(network.plan(settings))
        Lxcfs(layout.proc).stop()
        shutil.rmtree(layout.folder, ignore_errors=True)
        if layout.folder.exists():
            raise LocalCloudError(f"{layout.folder} could not be removed", f"sudo rm -r {layout.folder}")
        if purge:
            if engine is not None:
                for tag in engine.images():
                    engine.remove_image(tag)
            shutil.rmtree(layout.packages, ignore_errors=True)
            shutil.rmtree(settings.state / "image", ignore_errors=True)
    layout.lock.unlink(missing_ok=True)
    progress("local cloud stopped" + ("" if purge else "; the host image and the package cache are kept"))


def status(settings: LocalSettings) -> Status | None:
    """Return the running local cloud of these settings, or None. Needs no root."""
    url = f"http://127.0.0.1:{settings.port}"
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            url + _STATUS_PATH, timeout=_ANSWER_TIMEOUT_S
        ) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        found.pop("port")
        running = Status(url=url, **found)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return running if running.name == settings.name else None


def exists(settings: LocalSettings) -> bool:
    """Tell whether a local cloud of these settings runs, or was killed and left its state. Needs no root."""
    return Layout(settings).folder.exists() or status(settings) is not None


def prepare(settings: LocalSettings, progress: Progress) -> None:
    """Build the host image if it is not there."""
    if os.geteuid() != 0:
        _as_root("prepare", settings, progress, "to build the host image")
        return
    image.ensure(settings, engines.find(settings.name), progress)


def _start(settings: LocalSettings, progress: Progress) -> None:
    layout = Layout(settings)
    with _locked(layout, progress):
        if status(settings) is not None:
            return  # somebody else started it while we waited
        _stop_process(layout, progress)  # one that hangs, or is about to be ready
        engine = engines.find(settings.name)
        image.ensure(settings, engine, progress)
        layout.folder.mkdir(parents=True, exist_ok=True)
        progress("starting the local cloud")
        with layout.log.open("ab") as log:
            before = log.tell()  # what an earlier process said is not this one's error
            process = subprocess.Popen(
                [sys.executable, "-m", "labtool.localcloud", "serve", "--settings", encoded(settings).decode()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise LocalCloudError(*(_last_words(layout, before) or _unmet(settings, layout, process.returncode)))
            if layout.pid.exists() and status(settings) is not None:
                return
            time.sleep(0.05)
        process.kill()
        raise LocalCloudError(f"the local cloud did not answer within {_START_TIMEOUT_S:.0f} s", f"see {layout.log}")


def _last_words(layout: Layout, since: int = 0) -> tuple[str, str] | None:
    """Return the error and the hint that the API process ended with (see __main__), if it said one."""
    lines = layout.log.read_bytes()[since:].decode(errors="replace").splitlines()
    for index in range(len(lines) - 1, -1, -1):
        if lines[index].startswith("error: "):
            hint = lines[index + 1].removeprefix("hint: ") if index + 1 < len(lines) else ""
            return lines[index].removeprefix("error: "), hint
    return None


def _unmet(settings: LocalSettings, layout: Layout, code: int) -> tuple[str, str]:
    """Return what to say of an API process that said nothing: what the machine lacks, else where to look."""
    from labtool.localcloud import requirements  # which look at this module's own

    ended = f"the local cloud ended with {code} as it started"
    for check in requirements.checks(settings):
        if check.needed and not check.ok:
            return f"{ended}: {check.name}: {check.detail}", check.mend
    return ended, f"see {layout.log}"


def _stop_process(layout: Layout, progress: Progress) -> None:
    try:
        pid = int(layout.pid.read_text())
        command = open(f"/proc/{pid}/cmdline").read()  # noqa: PTH123, SIM115
    except (OSError, ValueError):
        return
    if "labtool.localcloud" not in command:
        return  # the id was given to another process since
    progress("stopping the local cloud's process")
    for number, patience_s in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0)):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                layout.pid.unlink(missing_ok=True)
                return
            time.sleep(0.02)
    raise LocalCloudError(f"process {pid} of the local cloud cannot be ended", f"sudo kill -9 {pid}")


def _refuse_other(settings: LocalSettings, running: Status) -> None:
    if running.subnet != settings.subnet:
        raise LocalCloudError(
            f"the local cloud {settings.name} runs with subnet {running.subnet}, not {settings.subnet}",
            "`labtool cloud stop` first, or give this one another name and port",
        )


def _endpoint(running: Status) -> Endpoint:
    # Any key would do: the API listens on loopback and on the lab's bridge only.
    gateway = ipaddress.ip_network(running.subnet)[1]
    hosts_url = f"http://{gateway}:{running.url.rpartition(':')[2]}"
    return Endpoint(running.url, REGION, "labtool", "labtool", running.default_image, hosts_url)


@contextmanager
def _locked(layout: Layout, progress: Progress) -> Iterator[None]:
    make_folder(layout.lock.parent, "LABTOOL_LOCAL_STATE")
    with layout.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting: another command starts or stops the local cloud")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _engine_or_none(settings: LocalSettings) -> engines.Engine | None:
    try:
        return engines.find(settings.name)
    except LocalCloudError:
        return None  # uninstalled meanwhile: the rest can still be tidied


def _as_root(action: str, settings: LocalSettings, progress: Progress, why: str, *, purge: bool = False) -> None:
    if shutil.which("sudo") is None:
        raise LocalCloudError(
            f"the local cloud needs root {why}, and there is no sudo", "run this command as root, once"
        )
    progress(f"the local cloud needs root {why}: sudo may ask for your password")
    command = ["sudo", "-E", sys.executable, "-m", "labtool.localcloud", action]
    command += ["--settings", encoded(settings).decode(), *(["--purge"] if purge else [])]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise LocalCloudError(f"`labtool cloud {action}` failed as root", "its message is above")
