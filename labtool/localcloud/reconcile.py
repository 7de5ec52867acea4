"""The reconcile loop: makes the engine's containers match EC2's instances.

Woken by every call that changes an instance and by every host whose systemd ends (pidfd), so nothing is polled
for; a slow check finds containers that were removed by hand while they were stopped. One step an instance at a
time; steps of different instances run in parallel.
"""

from __future__ import annotations

import base64
import logging
import os
import select
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from labtool.errors import LocalCloudError
from labtool.localcloud import counters, ec2_backend, machine, probe, seed
from labtool.localcloud.ec2_backend import LabEC2Backend
from labtool.localcloud.engine import ContainerSpec, Engine
from labtool.localcloud.hostkey import hostname
from labtool.localcloud.layout import InstanceFolder, Layout

log = logging.getLogger(__name__)

_AUDIT_S = 30.0
_SSH_PROBE_S = 0.1
_SSH_PATIENCE_S = 300.0


class Gate(Protocol):
    """Lets running hosts onto the lab's network."""

    def attached(self, hosts: Mapping[str, int]) -> None:
        """Admit running hosts, given by instance id as the process ids of their systemds."""

    def detached(self, instance_id: str) -> None:
        """Forget a host that has gone."""

    def refresh(self) -> None:
        """Apply what became of instances."""


@dataclass(frozen=True)
class Facts:
    """What a host's container needs besides its instance."""

    image: str
    network: str
    proc: Path | None
    apt_cache: str  # the seed file's line for the package cache; empty without one
    endpoint: str = ""  # the API's URL for hosts
    guard: Callable[[], bool] = bool  # puts the network's guard back; True if it was gone
    gate: Gate | None = None


@dataclass(frozen=True)
class RunningHost:
    """A host whose systemd runs."""

    instance_id: str
    pid: int
    started: float  # Unix seconds
    vcpus: int


class Reconciler:
    """Owns the containers of one local cloud. `lock` guards `ec2`; `save` makes its state durable."""

    def __init__(
        self,
        layout: Layout,
        engine: Engine,
        ec2: LabEC2Backend,
        lock: threading.RLock,
        save: Callable[[], None],
        facts: Facts,
    ) -> None:
        self._layout, self._engine, self._ec2, self._lock, self._save = layout, engine, ec2, lock, save
        self._facts = facts
        self._running: dict[str, RunningHost] = {}
        self._pidfds: dict[str, int] = {}
        self._closing: list[int] = []  # closed by the loop's thread alone: another may be waiting on them
        self._ended_meanwhile: set[str] = set()
        self._busy: set[str] = set()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._stopping = False
        # Starting containers is mostly waiting for the engine's processes; more than this only queue for the CPUs.
        self._pool = ThreadPoolExecutor(max_workers=max(4, 2 * machine.processors()), thread_name_prefix="host")
        self._probes = ThreadPoolExecutor(max_workers=64, thread_name_prefix="ssh")
        self._thread = threading.Thread(target=self._loop, name="reconcile", daemon=True)

    def start(self) -> None:
        """Take over what runs already and begin."""
        self._adopt()
        self._thread.start()

    def wake(self) -> None:
        """Look again now: an instance is wanted in another state."""
        with suppress(BlockingIOError):
            os.write(self._wake_write, b".")

    def hosts(self) -> list[RunningHost]:
        """Return the hosts that run now."""
        with self._lock:
            return list(self._running.values())

    def stop(self) -> None:
        """End the loop; hosts stay as they are."""
        self._stopping = True
        self.wake()
        self._thread.join(5)
        self._probes.shutdown(wait=False, cancel_futures=True)
        self._pool.shutdown(wait=True, cancel_futures=True)

    # The loop

    def _adopt(self) -> None:
        """Compare what the engine has with what EC2 says, after this process was not there for a while."""
        containers = {c.instance_id: c for c in self._engine.containers()}
        adopted: dict[str, int] = {}
        with self._lock:
            instances = {i.id: i for i in self._ec2.all_instances()}
            for instance_id in containers.keys() - {i for i in instances if instances[i].state != "terminated"}:
                log.warning("%s is no instance: removing its container", instance_id)
                self._engine.remove(instance_id)
            for instance in instances.values():
                container = containers.get(instance.id)
                if container is not None and container.running:
                    self._note_running(instance, container.pid)
                    adopted[instance.id] = container.pid
                elif instance.state == "running" and not self._ec2.hosts[instance.id].impaired:
                    self._ended(instance, gone=container is None, machine_restarted=True)
        self._admit(adopted)

    def _loop(self) -> None:
        audit = time.monotonic() + _AUDIT_S
        while not self._stopping:
            try:
                self._dispatch()
                timeout = max(0.0, audit - time.monotonic())
                self._wait(timeout)
                if time.monotonic() >= audit:
                    audit = time.monotonic() + _AUDIT_S
                    self._audit()
            except Exception:
                log.exception("the reconcile loop stumbled")
                time.sleep(1)

    def _wait(self, timeout: float) -> None:
        with self._lock:
            while self._closing:
                os.close(self._closing.pop())
            watched = {fd: instance_id for instance_id, fd in self._pidfds.items()}
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        for fd in watched:
            poller.register(fd, select.POLLIN)
        for fd, _ in poller.poll(timeout * 1000):
            if fd == self._wake_read:
                with suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
            else:
                self._host_ended(watched[fd], fd)

    def _dispatch(self) -> None:
        """Hand every instance that is not where it should be to a worker."""
        steps = {"pending": self._launch, "stopping": self._shut_down, "shutting-down": self._terminate}
        with self._lock:
            for instance in self._ec2.all_instances():
                if instance.id in self._busy:
                    continue
                step = steps.get(instance.state)
                if step is None and instance.state == "running" and self._ec2.hosts[instance.id].reboot:
                    step = self._reboot
                if step is not None:
                    self._busy.add(instance.id)
                    self._pool.submit(self._step, step, instance)

    def _step(self, step: Callable[[Any], None], instance: Any) -> None:
        try:
            step(instance)
        except Exception as error:
            log.exception("%s of %s failed", step.__name__.strip("_"), instance.id)
            self._failed(instance, error)
        finally:
            with self._lock:
                self._busy.discard(instance.id)
                if instance.id in self._ended_meanwhile:
                    self._ended_meanwhile.discard(instance.id)
                    self._settle_soon(instance)
            self._save()
            self._refresh_gate(instance)
            self.wake()

    def _refresh_gate(self, instance: Any) -> None:
        if self._facts.gate is None:
            return
        try:
            if instance.id not in self._running:
                self._facts.gate.detached(instance.id)
            self._facts.gate.refresh()
        except LocalCloudError:
            log.exception("the packet filter does not follow %s", instance.id)

    def _failed(self, instance: Any, error: Exception) -> None:
        """A host that cannot be started is terminated with the reason, as on EC2; a new one may do better."""
        message = error.message if isinstance(error, LocalCloudError) else f"{type(error).__name__}: {error}"
        with self._lock:
            if instance.state == "pending":
                self._ec2.shutting_down(instance, "Server.InternalError", f"Server.InternalError: {message}")
                return
        time.sleep(2)  # stopping or terminating is tried again

    # Steps

    def _launch(self, instance: Any) -> None:
        folder = self._layout.instance(instance.id)
        folder.shutdown.unlink(missing_ok=True)
        container = (
            next((c for c in self._engine.containers() if c.instance_id == instance.id), None)
            if (folder.seed.exists())
            else None
        )
        self._keep_guard()
        if container is None:
            self._write_seed(instance, folder)
            self._engine.create(self._spec(instance, folder))
        elif not container.running:
            self._engine.start(instance.id)
        pid = self._engine.pid(instance.id, folder.pid)
        counters.count_disk(pid)
        self._admit({instance.id: pid})
        with self._lock:
            if instance.state == "pending":
                self._ec2.became_running(instance)
            self._note_running(instance, pid)
        log.info("%s runs at %s", instance.id, instance.private_ip)

    def _shut_down(self, instance: Any) -> None:
        self._forget_running(instance.id)
        self._engine.stop(instance.id)
        with self._lock:
            if instance.state == "stopping":
                self._ec2.became_stopped(instance)

    def _reboot(self, instance: Any) -> None:
        self._forget_running(instance.id)
        self._engine.stop(instance.id)
        self._layout.instance(instance.id).shutdown.unlink(missing_ok=True)
        self._engine.start(instance.id)
        pid = self._engine.pid(instance.id, self._layout.instance(instance.id).pid)
        counters.count_disk(pid)
        self._admit({instance.id: pid})
        with self._lock:
            self._ec2.hosts[instance.id].reboot = False
            self._ec2.hosts[instance.id].answered = False
            self._note_running(instance, pid)

    def _terminate(self, instance: Any) -> None:
        self._forget_running(instance.id)
        self._engine.remove(instance.id)
        shutil.rmtree(self._layout.instance(instance.id).seed, ignore_errors=True)  # its keys
        with self._lock:
            if instance.state == "shutting-down":
                self._ec2.became_terminated(instance)
        log.info("%s is gone", instance.id)

    # Hosts that end by themselves

    def _host_ended(self, instance_id: str, fd: int) -> None:
        with self._lock:
            if self._pidfds.get(instance_id) != fd:
                return  # ended by a step of ours since we looked
            self._forget_running(instance_id)
            if instance_id in self._busy:
                self._ended_meanwhile.add(instance_id)
                return
            with suppress(Exception):
                self._settle_soon(self._ec2.get_instance(instance_id))

    def _settle_soon(self, instance: Any) -> None:
        self._busy.add(instance.id)
        self._pool.submit(self._step, self._settle, instance)

    def _settle(self, instance: Any) -> None:
        """Say what a host's end means: see `_ended`. The engine may need a moment to notice that end itself."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            container = next((c for c in self._engine.containers() if c.instance_id == instance.id), None)
            if container is None or not container.running:
                break
            time.sleep(0.1)
        with self._lock:
            if instance.state == "running":
                self._ended(instance, gone=container is None, machine_restarted=False)

    def _ended(self, instance: Any, *, gone: bool, machine_restarted: bool) -> None:
        """A running host's systemd is no more and nobody asked us for it."""
        host = self._ec2.hosts[instance.id]
        how = probe.read_shutdown(self._layout.instance(instance.id))
        user = "Client.InstanceInitiatedShutdown"
        text = f"{user}: Instance initiated shutdown"
        if gone:
            message = "Server.InternalError: the host's container was removed from outside"
            self._ec2.shutting_down(instance, "Server.InternalError", message)
        elif how == "poweroff" and instance.instance_initiated_shutdown_behavior == "terminate":
            self._ec2.shutting_down(instance, user, text)
        elif how == "poweroff":
            self._ec2.became_stopped(instance, user, text)
        elif how in ("reboot", "kexec"):
            host.reboot = True
        elif how == "halt":
            host.impaired, host.answered = True, False  # as on EC2: halted, and still paid for
        elif machine_restarted:
            ec2_backend.set_pending(instance)
        else:
            message = "Server.InternalError: the host's container ended unexpectedly"
            self._ec2.became_stopped(instance, "Server.InternalError", message)
        log.info("%s ended by itself (%s): now %s", instance.id, how or "unknown", instance.state)

    def _admit(self, hosts: Mapping[str, int]) -> None:
        if self._facts.gate is not None:
            self._facts.gate.attached(hosts)

    def _keep_guard(self) -> None:
        if self._facts.guard():
            log.warning("the rules that keep the lab from 169.254.0.0/16 and its groups apart were gone, and are back")

    def _audit(self) -> None:
        """Find stopped hosts whose container is gone, and forget what was terminated long ago."""
        self._keep_guard()
        known = {c.instance_id for c in self._engine.containers()}
        with self._lock:
            for instance in self._ec2.all_instances():
                if instance.state == "stopped" and instance.id not in known and instance.id not in self._busy:
                    message = "Server.InternalError: the host's container was removed from outside"
                    self._ec2.shutting_down(instance, "Server.InternalError", message)
            forgotten = self._ec2.forget_old()
        for instance_id in forgotten:
            shutil.rmtree(self._layout.instance(instance_id).path, ignore_errors=True)
        if forgotten:
            self._save()

    # Bookkeeping

    def _note_running(self, instance: Any, pid: int) -> None:
        with self._lock:
            self._unwatch(instance.id)
            try:
                self._pidfds[instance.id] = os.pidfd_open(pid)
            except OSError:
                log.warning("%s ended as it started", instance.id)
                self._ended_meanwhile.add(instance.id)
                return
            vcpus = min(ec2_backend.shape(instance.instance_type)[0], machine.processors())
            self._running[instance.id] = RunningHost(instance.id, pid, probe.started(pid), vcpus)
            if not self._ec2.hosts[instance.id].answered:
                self._probes.submit(self._await_ssh, instance, pid)
        self.wake()

    def _forget_running(self, instance_id: str) -> None:
        with self._lock:
            self._running.pop(instance_id, None)
            self._unwatch(instance_id)

    def _unwatch(self, instance_id: str) -> None:
        fd = self._pidfds.pop(instance_id, None)
        if fd is not None:
            self._closing.append(fd)

    def _await_ssh(self, instance: Any, pid: int) -> None:
        deadline = time.monotonic() + _SSH_PATIENCE_S
        while time.monotonic() < deadline and not self._stopping:
            running = self._running.get(instance.id)
            if running is None or running.pid != pid:
                return
            if probe.ssh_answers(instance.private_ip):
                with self._lock:
                    self._ec2.hosts[instance.id].answered = True
                self._save()
                return
            time.sleep(_SSH_PROBE_S)

    def _spec(self, instance: Any, folder: InstanceFolder) -> ContainerSpec:
        vcpus, memory = ec2_backend.shape(instance.instance_type)
        return ContainerSpec(
            instance_id=instance.id,
            image=self._facts.image,
            network=self._facts.network,
            address=instance.private_ip,
            hostname=hostname(instance.private_ip),
            cpus=min(vcpus, machine.processors()),
            memory_bytes=memory,
            seed=folder.seed,
            out=folder.out,
            console=folder.console,
            pid_file=folder.pid,
            proc=self._facts.proc,
        )

    def _write_seed(self, instance: Any, folder: InstanceFolder) -> None:
        with self._lock:
            host = self._ec2.hosts[instance.id]
            key = self._ec2.key_pairs.get(instance.key_name) if instance.key_name else None
            made = seed.Seed(
                host_key=host.host_key,
                host_key_public=host.host_key_public,
                authorized_key=key.material_public if key is not None else None,
                user_data=base64.b64decode(str(instance.user_data)) if instance.user_data else b"",
                endpoint=self._facts.endpoint,
                apt_cache=self._facts.apt_cache,
            )
        folder.out.mkdir(parents=True, exist_ok=True)
        seed.write(folder.seed, made)
