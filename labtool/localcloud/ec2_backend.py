"""EC2's state: moto's backend, with instances whose states follow real hosts.

moto puts an instance into its final state at once. Here a call only says what is wanted (`pending`, `stopping`,
`shutting-down`); the reconcile loop calls `became_*` when the engine has done it.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.amis import Ami
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.instances import Instance, InstanceState, StateReason

from labtool.localcloud.ec2_groups import InstanceGroups, set_groups
from labtool.localcloud.engine import mac_address
from labtool.localcloud.hostkey import new_host_key

ACCOUNT = "123456789012"
REGION = "us-east-1"

PENDING, RUNNING, SHUTTING_DOWN, TERMINATED, STOPPING, STOPPED = (
    ("pending", 0),
    ("running", 16),
    ("shutting-down", 32),
    ("terminated", 48),
    ("stopping", 64),
    ("stopped", 80),
)
TERMINATED_VISIBLE_S = 15 * 60
_TOKEN_KEPT_S = 24 * 3600
_USER_DATA_LIMIT = 16_384


def ami_id(image_name: str) -> str:
    """Return the AMI id of an image name; the same on every machine."""
    return "ami-" + hashlib.sha256(f"labtool-{image_name}".encode()).hexdigest()[:17]


@dataclass(frozen=True)
class Template:
    """What the backend needs to know of its machine."""

    subnet: str
    image_name: str  # debian-12
    login: str


@dataclass
class HostState:
    """What moto has no place for, of one instance."""

    host_key: bytes  # OpenSSH private key, ed25519
    host_key_public: str  # "ssh-ed25519 AAAA… root@name"
    answered: bool = False  # its sshd did, since it last started
    impaired: bool = False  # it halted: running for EC2, reachable for nobody
    reboot: bool = False  # asked for and not yet done
    changed: float = field(default_factory=time.time)  # when the state was last changed, Unix seconds


class LabAmi(Ami):  # type: ignore[misc]
    """The one image: its root volume goes with the instance."""

    @property
    def block_device_mappings(self) -> list[dict[str, Any]]:
        """The root device, as the distributions' images on AWS have it."""
        ebs = {
            "SnapshotId": self.ebs_snapshot.id,
            "VolumeSize": 8,
            "DeleteOnTermination": True,
            "VolumeType": "gp3",
            "Encrypted": False,
        }
        return [{"DeviceName": self.root_device_name, "Ebs": ebs}]


class LabEC2Backend(InstanceGroups):
    """One region of EC2 whose instances are hosts of this machine.

    Not thread-safe: callers hold `labtool.localcloud.api.Services.lock`.
    """

    def __init__(self, template: Template, region: str = REGION, account: str = ACCOUNT) -> None:
        self.template = template
        self.hosts: dict[str, HostState] = {}
        self.client_tokens: dict[str, tuple[str, str, float]] = {}  # token → parameters' hash, reservation, when
        self.placement_groups: dict[str, dict[str, Any]] = {}
        self.changed: Callable[[], None] = _nothing
        super().__init__(region, account)
        name = f"labtool-{template.image_name}"
        image = LabAmi(
            self,
            ami_id(template.image_name),
            name=name,
            description=f"{template.image_name} host of the local cloud; log in as {template.login}",
            owner_id=account,
            public=True,
            virtualization_type="hvm",
            architecture="x86_64",
            hypervisor="xen",
            root_device_type="ebs",
            root_device_name="/dev/xvda",
            region_name=f"{region}a",
            image_location=f"local/{name}",
        )
        self.amis[image.id] = image

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"changed": _nothing}

    def create_default_vpc(self) -> Any:
        """Make the VPC of the lab's addresses, with a subnet for each zone; all are on one bridge."""
        vpc = self.create_vpc(cidr_block=self.template.subnet, is_default=True)
        network = ipaddress.IPv4Network(self.template.subnet)
        blocks = network.subnets(new_prefix=max(20, network.prefixlen + 3))
        for zone, block in zip(self.describe_availability_zones(), blocks, strict=False):
            subnet = self.create_subnet(vpc.id, str(block), availability_zone=zone.name)
            subnet.map_public_ip_on_launch = False
            _reserve(subnet)
        self.open_default_group(vpc.id)
        return vpc

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for subnet in self.get_default_subnets().values():
            _reserve(subnet)

    # Launching

    def run_instances(
        self, image_id: str, count: int, user_data: Any, security_group_names: list[str], **kwargs: Any
    ) -> Any:
        """Make `count` pending instances in one reservation."""
        self._check_launch(image_id, user_data, kwargs)
        kwargs["subnet_id"] = self._subnet(kwargs)
        kwargs["associate_public_ip"] = False
        for nic in kwargs.get("nics", []):
            nic.pop("AssociatePublicIpAddress", None)
        if kwargs.get("nics"):
            for nic in kwargs["nics"]:
                nic.setdefault("SubnetId", kwargs["subnet_id"])
            kwargs["subnet_id"] = None
        subnet = self.get_subnet(self._subnet(kwargs))
        if count > subnet.available_ip_address_count:
            raise EC2ClientError(
                "InsufficientFreeAddressesInSubnet",
                f"There are not enough free addresses in subnet '{subnet.id}' to satisfy the requested number of "
                "instances.",
            )
        reservation = super().run_instances(image_id, count, user_data, security_group_names, **kwargs)
        for instance in reservation.instances:
            instance.placement.group_name = kwargs.get("placement_group") or ""
            for nic in instance.nics.values():
                nic.delete_on_termination = True
                nic.public_ip_auto_assign = False
                nic.mac_address = mac_address(nic.private_ip_address)
            self._name_root_volume(instance)
            set_groups(instance, instance.nics[0].group_set)
            private, public = new_host_key(instance.private_ip)
            self.hosts[instance.id] = HostState(private, public)
            self._set(instance, PENDING)
        self.changed()
        return reservation

    def _name_root_volume(self, instance: Any) -> None:
        """Moto calls a default root volume /dev/sda1 whatever the image says."""
        volumes, root = instance.block_device_mapping, instance.root_device_name
        if "/dev/sda1" in volumes and root not in volumes:
            volumes[root] = volumes.pop("/dev/sda1")
            volume = self.volumes.get(volumes[root].volume_id)
            if volume is not None and volume.attachment is not None:
                volume.attachment.device = root

    def _check_launch(self, image_id: str | None, user_data: Any, kwargs: dict[str, Any]) -> None:
        template = self._get_template_from_args(kwargs["launch_template"]).data if kwargs.get("launch_template") else {}
        image_id = image_id or template.get("ImageId")
        instance_type = kwargs["instance_type"]
        if kwargs.get("is_instance_type_default"):
            instance_type = template.get("InstanceType") or instance_type
        if image_id not in self.amis:
            known = ami_id(self.template.image_name)
            raise EC2ClientError(
                "InvalidAMIID.NotFound",
                f"The image id '[{image_id}]' does not exist; the local cloud's only image is {known}",
            )
        kind = INSTANCE_TYPES.get(instance_type)
        if kind is None:
            raise EC2ClientError("InvalidParameterValue", f"Invalid value '{instance_type}' for InstanceType.")
        if "x86_64" not in kind["ProcessorInfo"]["SupportedArchitectures"]:
            raise EC2ClientError(
                "Unsupported",
                f"The architecture of {instance_type} does not match the image's, x86_64.",
            )
        key = kwargs.get("key_name")
        if key and key not in self.key_pairs:
            raise EC2ClientError("InvalidKeyPair.NotFound", f"The key pair '{key}' does not exist")
        if user_data is not None and len(base64.b64decode(str(user_data))) > _USER_DATA_LIMIT:
            raise EC2ClientError("InvalidParameterValue", "User data is limited to 16384 bytes")
        group = kwargs.get("placement_group")
        if group and group not in self.placement_groups:
            raise EC2ClientError("InvalidPlacementGroup.Unknown", f"The Placement Group '{group}' is unknown.")

    def _subnet(self, kwargs: dict[str, Any]) -> str:
        asked = kwargs.get("subnet_id") or next(
            (nic["SubnetId"] for nic in kwargs.get("nics", []) if "SubnetId" in nic), None
        )
        zone = kwargs.get("placement") or f"{self.region_name}a"
        subnet = self.get_subnet(asked) if asked else self.get_default_subnets().get(zone)
        if subnet is None:
            raise EC2ClientError("InvalidParameterValue", f"Invalid availability zone: [{zone}]")
        if subnet.vpc_id != self.default_vpc.id:
            raise EC2ClientError(
                "UnsupportedOperation",
                f"The local cloud's hosts live in its default VPC, {self.default_vpc.id} ({self.template.subnet}).",
            )
        return str(subnet.id)

    # What is wanted of instances

    def start_instances(self, instance_ids: list[str]) -> list[tuple[Any, Any]]:
        """Start stopped instances; running ones stay as they are."""
        chosen = self._in_state(instance_ids, {"stopped", "running", "pending"}, "started")
        result = []
        for instance in chosen:
            before = _copy(instance._state)
            if instance.state == "stopped":
                instance.start()
                self._set(instance, PENDING)
            result.append((instance, before))
        self.changed()
        return result

    def stop_instances(self, instance_ids: list[str]) -> list[tuple[Any, Any]]:
        """Ask running instances to stop; stopped ones stay as they are."""
        chosen = self._in_state(instance_ids, {"running", "stopping", "stopped"}, "stopped")
        result = []
        for instance in chosen:
            before = _copy(instance._state)
            if instance.disable_api_stop is True:
                raise EC2ClientError(
                    "OperationNotPermitted",
                    f"The instance '{instance.id}' may not be stopped. Modify its 'disableApiStop' instance "
                    "attribute and try again.",
                )
            if instance.state == "running":
                instance.stop()
                self._set(instance, STOPPING)
            result.append((instance, before))
        self.changed()
        return result

    def terminate_instances(self, instance_ids: list[str]) -> list[tuple[Any, Any]]:
        """Ask instances to go; their addresses and volumes go when the host has."""
        if not instance_ids:
            raise EC2ClientError("MissingParameter", "The request must contain the parameter InstanceId")
        chosen = self.get_multi_instances_by_id(instance_ids)
        for instance in chosen:
            if instance.disable_api_termination is True:
                raise EC2ClientError(
                    "OperationNotPermitted",
                    f"The instance '{instance.id}' may not be terminated. Modify its 'disableApiTermination' "
                    "instance attribute and try again.",
                )
        result = []
        for instance in chosen:
            before = _copy(instance._state)
            if instance.state not in ("terminated", "shutting-down"):
                self._set(
                    instance,
                    SHUTTING_DOWN,
                    "Client.UserInitiatedShutdown",
                    "Client.UserInitiatedShutdown: User initiated shutdown",
                )
            result.append((instance, before))
        self.changed()
        return result

    def reboot_instances(self, instance_ids: list[str]) -> list[Any]:
        """Ask running instances to reboot."""
        chosen = self._in_state(instance_ids, {"running", "pending"}, "rebooted")
        for instance in chosen:
            self.hosts[instance.id].reboot = True
        self.changed()
        return chosen

    def monitor(self, instance_ids: list[str], state: str) -> list[Any]:
        """Turn detailed monitoring on (`enabled`) or off (`disabled`)."""
        chosen: list[Any] = self.get_multi_instances_by_id(instance_ids)
        for instance in chosen:
            instance.monitoring_state = state
        return chosen

    def _in_state(self, instance_ids: list[str], allowed: set[str], verb: str) -> list[Any]:
        chosen: list[Any] = self.get_multi_instances_by_id(instance_ids)
        for instance in chosen:
            if instance.state not in allowed:
                raise EC2ClientError(
                    "IncorrectInstanceState",
                    f"The instance '{instance.id}' is not in a state from which it can be {verb}.",
                )
        return chosen

    # What has become of them (called by the reconcile loop)

    def became_running(self, instance: Any) -> None:
        """The host's systemd runs."""
        host = self.hosts[instance.id]
        host.answered = host.impaired = host.reboot = False
        self._set(instance, RUNNING)

    def became_stopped(self, instance: Any, code: str | None = None, message: str = "") -> None:
        """The host is off and keeps its disk; `code` is the reason if nobody asked for it by the API."""
        self.hosts[instance.id].answered = False
        self._set(instance, STOPPED, code, message)

    def became_terminated(self, instance: Any, code: str | None = None, message: str = "") -> None:
        """The host and its disk are gone."""
        state_reason, transition = instance.state_reason, instance._reason
        instance.terminate()
        if code is None:
            instance.state_reason, instance._reason = state_reason, transition
        host = self.hosts[instance.id]
        host.answered = False
        self._set(instance, TERMINATED, code, message)
        host.host_key = b""

    def shutting_down(self, instance: Any, code: str, message: str) -> None:
        """The host turned itself off and is to go."""
        self._set(instance, SHUTTING_DOWN, code, message)

    def forget_old(self, now: float | None = None) -> list[str]:
        """Drop what was terminated a while ago; return the ids."""
        limit = (now or time.time()) - TERMINATED_VISIBLE_S
        gone = [
            instance.id
            for instance in self.all_instances()
            if instance.state == "terminated" and self.hosts[instance.id].changed < limit
        ]
        for key, reservation in list(self.reservations.items()):
            reservation.instances = [i for i in reservation.instances if i.id not in gone]
            if not reservation.instances:
                del self.reservations[key]
        for instance_id in gone:
            del self.hosts[instance_id]
            self.tags.pop(instance_id, None)
        for token, (_, _, when) in list(self.client_tokens.items()):
            if when < (now or time.time()) - _TOKEN_KEPT_S:
                del self.client_tokens[token]
        return gone

    def _set(self, instance: Any, state: tuple[str, int], code: str | None = None, message: str = "") -> None:
        instance._state = InstanceState(*state)
        self.hosts[instance.id].changed = time.time()
        if code is not None:
            instance.state_reason = StateReason(message, code)
            stamp = time.strftime("%Y-%m-%d %H:%M:%S GMT", time.gmtime())
            instance._reason = f"{message.partition(': ')[2] or message} ({stamp})"

    # Client tokens

    def reservation_of(self, token: str, parameters: dict[str, Any]) -> Any | None:
        """Return what `token` made; `IdempotentParameterMismatch` if it was sent with other parameters."""
        known = self.client_tokens.get(token)
        if known is None:
            return None
        digest, reservation_id, _ = known
        if digest != _digest(parameters):
            raise EC2ClientError(
                "IdempotentParameterMismatch",
                "The client token you have provided is associated with a resource that was launched with other "
                "parameters.",
            )
        return self.reservations.get(reservation_id)

    def remember_token(self, token: str, parameters: dict[str, Any], reservation: Any) -> None:
        """Remember what `token` made."""
        self.client_tokens[token] = (_digest(parameters), reservation.id, time.time())


def _reserve(subnet: Any) -> None:
    """Keep the addresses that AWS keeps: the first three hosts (the first one is the bridge's).

    moto skips them once, by having an iterator past them; that iterator does not outlive its process.
    """
    reserved = {subnet.cidr.network_address + offset for offset in (1, 2, 3)}
    subnet._reserved_ips |= reserved
    subnet._unused_ips -= {str(address) for address in reserved}


def set_pending(instance: Any) -> None:
    """Ask for a running instance to be started again: its machine restarted under it."""
    instance._state = InstanceState(*PENDING)


def shape(instance_type: str) -> tuple[int, int]:
    """Return an instance type's vCPUs and memory in bytes."""
    kind = INSTANCE_TYPES[instance_type]
    return int(kind["VCpuInfo"]["DefaultVCpus"]), int(kind["MemoryInfo"]["SizeInMiB"]) * 2**20


def placement_of(instances: Iterable[Instance], group: str) -> list[str]:
    """Return the ids of the live instances of a placement group."""
    return [i.id for i in instances if i.placement.group_name == group and i.state != "terminated"]


def _digest(parameters: dict[str, Any]) -> str:
    kept = {key: value for key, value in parameters.items() if key not in ("ClientToken", "DryRun")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def _copy(state: InstanceState) -> InstanceState:
    return InstanceState(state.name, state.code)


def _nothing() -> None:
    pass
