"""The reconcile loop over an engine whose hosts are processes of `sleep`: ends are real, so are the pidfds."""

from __future__ import annotations

import subprocess
import threading
import time
from contextlib import contextmanager

import pytest

from labtool.errors import LocalCloudError
from labtool.localcloud import probe, reconcile
from labtool.localcloud.ec2_backend import LabEC2Backend, Template, ami_id
from labtool.localcloud.engine import Container
from labtool.localcloud.reconcile import Facts, Reconciler


class FakeEngine:
    """Containers are processes; `stop` ends one as a shutdown would."""

    def __init__(self, layout):
        self.layout = layout
        self.made: dict[str, subprocess.Popen | None] = {}
        self.refuse = ""
        self.specs = {}
        self.lock = threading.Lock()

    def containers(self):
        with self.lock:
            found = []
            for instance_id, process in self.made.items():
                runs = process is not None and process.poll() is None
                found.append(Container(instance_id, "c", runs, process.pid if runs else 0))
            return found

    def create(self, spec):
        if self.refuse:
            raise LocalCloudError(self.refuse)
        self.specs[spec.instance_id] = spec
        self.start(spec.instance_id)

    def start(self, instance_id):
        with self.lock:
            self.made[instance_id] = subprocess.Popen(["sleep", "1000"])

    def pid(self, instance_id, _file):
        return self.made[instance_id].pid

    def stop(self, instance_id):
        self.end(instance_id, "halt")

    def end(self, instance_id, how):
        """The host's systemd says `how` it goes down, and goes."""
        if how:
            self.layout.instance(instance_id).shutdown.write_text(how + "\n")
        process = self.made[instance_id]
        process.kill()
        process.wait()

    def remove(self, *instance_ids):
        with self.lock:
            for instance_id in instance_ids:
                process = self.made.pop(instance_id, None)
                if process is not None:
                    process.kill()
                    process.wait()


class Gate:
    """Notes who is let onto the network, and in which state its instance was then."""

    def __init__(self, ec2):
        self.ec2, self.admitted, self.calls = ec2, {}, []

    def attached(self, hosts):
        self.admitted |= hosts
        self.calls.append({instance_id: self.ec2.get_instance(instance_id).state for instance_id in hosts})

    def detached(self, instance_id):
        self.admitted.pop(instance_id, None)

    def refresh(self):
        pass


class World:
    """A backend, an engine and the loop between them."""

    def __init__(self, layout):
        self.layout = layout
        self.lock = threading.RLock()
        self.ec2 = LabEC2Backend(Template("198.19.240.0/24", "debian-12", "admin"))
        self.engine = FakeEngine(layout)
        self.saved = 0
        self.gate = Gate(self.ec2)
        self.guarded: list[list[str]] = []
        self.loop = None

    def save(self):
        self.saved += 1

    def guard(self):
        self.guarded.append(sorted(self.engine.made))
        return False

    def begin(self):
        facts = Facts("i", "n", None, "198.19.240.1 3142 deb.example", guard=self.guard, gate=self.gate)
        self.loop = Reconciler(self.layout, self.engine, self.ec2, self.lock, self.save, facts)
        self.ec2.changed = self.loop.wake
        self.loop.start()

    def launch(self, **more):
        with self.lock:
            asked = {"instance_type": "t3.small", "is_instance_type_default": False, "region_name": "us-east-1"}
            reservation = self.ec2.run_instances(ami_id("debian-12"), 1, None, [], **asked, **more)
        return reservation.instances[0]

    def wait(self, instance, state, timeout=5.0):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if instance.state == state and instance.id not in self.loop._busy:
                return
            time.sleep(0.005)
        raise AssertionError(f"{instance.id} is {instance.state}, not {state}")


@pytest.fixture
def world(layout, monkeypatch):
    monkeypatch.setattr(probe, "ssh_answers", lambda _address: True)
    monkeypatch.setattr(reconcile.counters, "count_disk", lambda _pid: None)
    made = World(layout)
    made.begin()
    yield made
    made.loop.stop()
    made.engine.remove(*list(made.engine.made))


def test_a_launch_makes_a_container_of_the_instances_shape(world):
    instance = world.launch()
    world.wait(instance, "running")
    spec = world.engine.specs[instance.id]
    assert spec.address == instance.private_ip
    assert spec.hostname == "ip-" + instance.private_ip.replace(".", "-")
    assert spec.memory_bytes == 2 << 30
    assert (spec.seed / "ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600
    assert (spec.seed / "apt-cache").read_text() == "198.19.240.1 3142 deb.example\n"
    deadline = time.monotonic() + 5
    while not world.ec2.hosts[instance.id].answered and time.monotonic() < deadline:
        time.sleep(0.01)
    assert world.ec2.hosts[instance.id].answered
    assert world.saved


def test_the_guard_is_there_before_the_first_host(world):
    instance = world.launch()
    world.wait(instance, "running")
    assert world.guarded[0] == []
    world.loop._audit()
    assert world.guarded[-1] == [instance.id]


def test_key_and_user_data_reach_the_seed_and_leave_with_the_host(world):
    from moto.core.types import Base64EncodedString

    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me"
    world.ec2.import_key_pair("k", line.encode(), {})
    with world.lock:
        reservation = world.ec2.run_instances(
            ami_id("debian-12"), 1, Base64EncodedString.from_raw_string("#!/bin/sh\n:\n"), [],
            instance_type="t3.small", is_instance_type_default=False, region_name="us-east-1", key_name="k",
        )  # fmt: skip
    instance = reservation.instances[0]
    world.wait(instance, "running")
    seed = world.layout.instance(instance.id).seed
    assert (seed / "authorized_keys").read_text().startswith("ssh-ed25519 AAAA")
    assert (seed / "user-data").read_text() == "#!/bin/sh\n:\n"
    world.ec2.terminate_instances([instance.id])
    world.wait(instance, "terminated")
    assert not seed.exists()
    assert world.engine.made == {}


def test_stop_and_start_keep_the_container(world):
    instance = world.launch()
    world.wait(instance, "running")
    key = world.ec2.hosts[instance.id].host_key
    world.ec2.stop_instances([instance.id])
    world.wait(instance, "stopped")
    assert world.loop.hosts() == []
    world.ec2.start_instances([instance.id])
    world.wait(instance, "running")
    assert world.ec2.hosts[instance.id].host_key == key
    assert len(world.engine.specs) == 1
    assert [h.instance_id for h in world.loop.hosts()] == [instance.id]


def test_reboot_starts_another_systemd(world):
    instance = world.launch()
    world.wait(instance, "running")
    before = world.loop.hosts()[0].pid
    world.ec2.reboot_instances([instance.id])
    deadline = time.monotonic() + 5
    while (not world.loop.hosts() or world.loop.hosts()[0].pid == before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert world.loop.hosts()[0].pid != before
    assert instance.state == "running"


@pytest.mark.parametrize(
    ("how", "behaviour", "state", "code"),
    [
        ("poweroff", "stop", "stopped", "Client.InstanceInitiatedShutdown"),
        ("poweroff", "terminate", "terminated", "Client.InstanceInitiatedShutdown"),
        ("", "stop", "stopped", "Server.InternalError"),
    ],
)
def test_a_host_that_ends_itself(world, how, behaviour, state, code):
    instance = world.launch(instance_initiated_shutdown_behavior=behaviour)
    world.wait(instance, "running")
    world.engine.end(instance.id, how)
    world.wait(instance, state)
    assert instance.state_reason.code == code
    assert (instance.id in world.engine.made) == (state == "stopped")


def test_a_host_that_reboots_itself_comes_back(world):
    instance = world.launch()
    world.wait(instance, "running")
    before = world.loop.hosts()[0].pid
    world.engine.end(instance.id, "reboot")
    deadline = time.monotonic() + 5
    while (not world.loop.hosts() or world.loop.hosts()[0].pid == before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert instance.state == "running"
    assert world.loop.hosts()[0].pid != before


def test_a_halted_host_stays_running_and_impaired(world):
    instance = world.launch()
    world.wait(instance, "running")
    world.engine.end(instance.id, "halt")
    deadline = time.monotonic() + 5
    while not world.ec2.hosts[instance.id].impaired and time.monotonic() < deadline:
        time.sleep(0.01)
    assert instance.state == "running"
    assert world.ec2.hosts[instance.id].impaired
    world.ec2.stop_instances([instance.id])
    world.wait(instance, "stopped")


def test_a_container_removed_by_hand_terminates_its_instance(world):
    instance = world.launch()
    world.wait(instance, "running")
    world.engine.remove(instance.id)
    world.wait(instance, "terminated")
    assert "removed from outside" in instance.state_reason.message


def test_a_stopped_container_removed_by_hand_is_found_by_the_audit(world):
    instance = world.launch()
    world.wait(instance, "running")
    world.ec2.stop_instances([instance.id])
    world.wait(instance, "stopped")
    world.engine.remove(instance.id)
    world.loop._audit()
    world.loop.wake()
    world.wait(instance, "terminated")


def test_a_host_that_cannot_start_is_terminated_with_the_reason(world):
    world.engine.refuse = "no space left"
    instance = world.launch()
    world.wait(instance, "terminated")
    assert instance.state_reason.code == "Server.InternalError"
    assert "no space left" in instance.state_reason.message


def test_terminating_what_has_not_started_yet(world):
    with world.lock:  # the loop cannot begin before both were asked for
        instance = world.launch()
        world.ec2.terminate_instances([instance.id])
    world.wait(instance, "terminated")
    assert world.engine.made == {}


def test_a_host_is_on_the_network_before_it_is_running_and_off_when_it_has_gone(world):
    instance = world.launch()
    world.wait(instance, "running")
    assert {instance.id: "pending"} in world.gate.calls
    assert world.gate.admitted == {instance.id: world.engine.made[instance.id].pid}
    world.engine.end(instance.id, "poweroff")
    world.wait(instance, "stopped")
    deadline = time.monotonic() + 5
    while world.gate.admitted and time.monotonic() < deadline:
        time.sleep(0.01)
    assert world.gate.admitted == {}


def test_a_restarted_loop_admits_all_that_run_at_once(world):
    instances = [world.launch() for _ in range(3)]
    for instance in instances:
        world.wait(instance, "running")
    world.gate.calls.clear()
    with restarted(world):
        pass
    assert world.gate.calls == [{instance.id: "running" for instance in instances}]


@contextmanager
def restarted(world):
    """The process is killed, and something happens before it is back."""
    world.loop.stop()
    yield
    world.begin()


def test_a_restarted_loop_takes_over_what_runs(world):
    instance = world.launch()
    world.wait(instance, "running")
    pid = world.loop.hosts()[0].pid
    with restarted(world):
        pass
    assert [h.pid for h in world.loop.hosts()] == [pid]
    world.engine.end(instance.id, "poweroff")
    world.wait(instance, "stopped")


def test_a_restarted_loop_sees_what_happened_meanwhile(world):
    off, gone, crashed = (world.launch() for _ in range(3))
    for instance in (off, gone, crashed):
        world.wait(instance, "running")
    with restarted(world):
        world.engine.end(off.id, "poweroff")
        world.engine.remove(gone.id)
        world.engine.end(crashed.id, "")  # the machine restarted: it comes back
        world.engine.made["i-unknown"] = subprocess.Popen(["sleep", "1000"])
        pending = world.launch()
    world.wait(off, "stopped")
    world.wait(gone, "terminated")
    world.wait(crashed, "running")
    world.wait(pending, "running")
    assert "i-unknown" not in world.engine.made


def test_many_instances_in_parallel(world):
    instances = [world.launch() for _ in range(20)]
    for instance in instances:
        world.wait(instance, "running", 20)
    assert len({h.pid for h in world.loop.hosts()}) == 20
    world.ec2.terminate_instances([i.id for i in instances])
    for instance in instances:
        world.wait(instance, "terminated", 20)
    assert world.loop.hosts() == []


def test_the_shutdown_file_is_not_followed_out_of_its_folder(layout):
    folder = layout.instance("i-1")
    folder.out.mkdir(parents=True)
    secret = layout.folder / "secret"
    secret.write_text("poweroff")
    folder.shutdown.symlink_to(secret)
    assert probe.read_shutdown(folder) == ""
    folder.shutdown.unlink()
    folder.shutdown.write_text("reboot\n")
    assert probe.read_shutdown(folder) == "reboot"
