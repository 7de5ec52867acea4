"""EC2: instances and what they stand on."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from fake.aws import Refused, digest
from fake.belongings import Belongings
from fake.clock import START
from fake.state import CODES, FOREVER, TIMER, Instance, Thing, matches

if TYPE_CHECKING:
    from fake.aws import Aws

VCPUS = {"nano": 2, "micro": 2, "small": 2, "medium": 2, "large": 2, "xlarge": 4, "2xlarge": 8, "4xlarge": 16}
BLOCK = "-----BEGIN SSH HOST KEY KEYS-----\nssh-ed25519 {} root@host\n-----END SSH HOST KEY KEYS-----\n"


class Ec2(Belongings):
    """One region's instances; the methods named as actions take and return what the actions do."""

    def __init__(self, aws: Aws) -> None:
        super().__init__(aws)
        self.instances: dict[str, Instance] = {}
        self.tokens: dict[str, tuple[str, str, list[str]]] = {}
        self.spot_requests: dict[str, Thing] = {}
        self._next = FOREVER  # when something next happens without being asked

    # Launch

    def run_instances(self, asked: dict[str, Any]) -> dict[str, Any]:
        token = asked.get("ClientToken", "")
        if len(token) > 64:
            raise Refused("InvalidParameterValue", "ClientToken: at most 64 characters")
        if token in self.tokens:
            fingerprint, reservation, ids = self.tokens[token]
            if fingerprint != digest(asked):
                raise Refused("IdempotentParameterMismatch", "the token was used with other parameters")
            if all(not self.instances[i].alive(self.now) for i in ids):
                raise Refused("IdempotentInstanceTerminated", "the instances of this token are terminated")
            return self._reservation(reservation, [self.instances[i] for i in ids], self.now)
        subnet = self._check(asked)
        count = asked["MaxCount"]
        ids = [self._launch(asked, subnet, index) for index in range(count)]
        reservation = self.new_id("r")
        if token:
            self.tokens[token] = (digest(asked), reservation, ids)
        for identity in ids:
            self.instances[identity].data["reservation"] = reservation
        return self._reservation(reservation, [self.instances[i] for i in ids], self.now)

    def _check(self, asked: dict[str, Any]) -> Thing:
        if not 1 <= asked["MinCount"] <= asked["MaxCount"]:
            raise Refused("InvalidParameterValue", "MinCount and MaxCount")
        if asked["ImageId"] not in self.images:
            raise Refused("InvalidAMIID.NotFound", asked["ImageId"])
        if len(base64.b64decode(asked.get("UserData", ""))) > 16_384:
            raise Refused("InvalidParameterValue", "User data is limited to 16384 bytes")
        if "KeyName" in asked:
            self.need(self.pairs, asked["KeyName"], "InvalidKeyPair.NotFound")
        interfaces = asked.get("NetworkInterfaces", [])
        if interfaces and ("SubnetId" in asked or "SecurityGroupIds" in asked):
            raise Refused("InvalidParameterCombination", "Network interfaces and an instance-level subnet ID or groups")
        groups = interfaces[0].get("Groups", []) if interfaces else asked.get("SecurityGroupIds", [])
        placement = asked.get("Placement", {})
        subnet = self.subnet_for(interfaces[0].get("SubnetId") if interfaces else asked.get("SubnetId"), placement)
        zone = subnet.data["AvailabilityZone"]
        for group in groups:
            vpc = self.need(self.groups, group, "InvalidGroup.NotFound").data["VpcId"]
            if vpc != subnet.data["VpcId"]:
                raise Refused("InvalidParameter", f"Security group {group} and subnet belong to different networks.")
        if "GroupName" in placement:
            self.need(self.placements, placement["GroupName"], "InvalidPlacementGroup.Unknown")
            strategy = self.placements[placement["GroupName"]].data["Strategy"]
            there = sum(
                i.alive(self.now) and i.data["zone"] == zone
                for i in self.instances.values()
                if i.data["placement"] == placement["GroupName"]
            )
            if strategy == "spread" and there + asked["MaxCount"] > 7:
                raise Refused("InsufficientInstanceCapacity", "a spread group has seven instances a zone", 500)
        self.check_tags(asked, {"instance", "volume", "network-interface", "spot-instances-request"})
        spot = "InstanceMarketOptions" in asked
        kinds = {each["ResourceType"] for each in asked.get("TagSpecifications", [])}
        if "spot-instances-request" in kinds and not spot:
            raise Refused("InvalidParameterCombination", "spot-instances-request without a spot market")
        if zone in self.aws.promises.not_offered:
            raise Refused("Unsupported", f"Your requested instance type is not supported in {zone}.")
        if zone in self.aws.promises.no_capacity:
            raise Refused("InsufficientInstanceCapacity", f"no sufficient capacity in {zone}", 500)
        if asked["MaxCount"] > subnet.data["AvailableIpAddressCount"]:
            raise Refused("InsufficientFreeAddressesInSubnet", subnet.id)
        cores = VCPUS.get(asked["InstanceType"].split(".")[1], 2)
        used = sum(i.data["vcpus"] for i in self.instances.values() if i.alive(self.now))
        if used + cores * asked["MaxCount"] > self.aws.promises.vcpus:
            raise Refused("VcpuLimitExceeded", f"your limit is {self.aws.promises.vcpus} vCPUs")
        return subnet

    def _launch(self, asked: dict[str, Any], subnet: Thing, index: int) -> str:
        now, identity = self.now, self.new_id("i")
        subnet.data["AvailableIpAddressCount"] -= 1
        number = len(self.instances) + 10
        interfaces = asked.get("NetworkInterfaces", [])
        public = interfaces[0].get("AssociatePublicIpAddress") if interfaces else None
        if public is None:
            public = subnet.data["MapPublicIpOnLaunch"]
        timer = TIMER.search(base64.b64decode(asked.get("UserData", "")).decode())
        spot = "InstanceMarketOptions" in asked
        instance = Instance(
            identity,
            now,
            {
                "type": asked["InstanceType"],
                "vcpus": VCPUS.get(asked["InstanceType"].split(".")[1], 2),
                "image": asked["ImageId"],
                "zone": subnet.data["AvailabilityZone"],
                "subnet": subnet.id,
                "vpc": subnet.data["VpcId"],
                "index": index,
                "token": asked.get("ClientToken", ""),
                "groups": interfaces[0].get("Groups", []) if interfaces else asked.get("SecurityGroupIds", []),
                "placement": asked.get("Placement", {}).get("GroupName", ""),
                "address": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
                "public": f"198.51.{100 + (number >> 8 & 127)}.{number & 255}" if public else None,
                "behaviour": asked.get("InstanceInitiatedShutdownBehavior", "stop"),
                "timer": timer[1] if timer else "",
                "tokens": asked.get("MetadataOptions", {}).get("HttpTokens", "optional"),
                "spot": None,
                "profile": asked.get("IamInstanceProfile"),
            },
            course=[(now, "pending"), (now + self.aws.promises.pending, "running")],
            started=now + self.aws.promises.pending,
        )
        instance.tag(now, self.tags_of(asked, "instance"))
        for mapping in asked.get("BlockDeviceMappings", []):
            volume = Thing(self.new_id("vol"), now, {"instance": identity, **mapping.get("Ebs", {})})
            volume.tag(now, self.tags_of(asked, "volume"))
            self.volumes[volume.id] = volume
        if spot:
            request = Thing(self.new_id("sir"), now, {"instance": identity, "code": "fulfilled"})
            request.tag(now, self.tags_of(asked, "spot-instances-request"))
            self.spot_requests[request.id] = request
            instance.data["spot"] = request.id
        self.instances[identity] = instance
        self._next = min(self._next, instance.timer())
        return identity

    # Read

    def describe_instances(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.advance()
        view = self.view()
        ids = asked.get("InstanceIds", [])
        if ids and "MaxResults" in asked:
            raise Refused("InvalidParameterCombination", "MaxResults with instance ids")
        for identity in ids:
            if identity not in self.instances or not self.instances[identity].exists(view):
                raise Refused("InvalidInstanceID.NotFound", identity)
        chosen = [
            instance
            for instance in self.instances.values()
            if instance.exists(view)
            and (not ids or instance.id in ids)
            and view < instance.gone_at() + 3600
            and matches(asked.get("Filters", []), self._values(instance, view), instance.tags(view))
        ]
        found: dict[str, list[Instance]] = {}
        page, token = self.page(chosen, asked, 5)
        for instance in page:
            found.setdefault(instance.data["reservation"], []).append(instance)
        return {"Reservations": [self._reservation(r, i, view) for r, i in found.items()], **token}

    def _values(self, instance: Instance, at: float) -> dict[str, Any]:
        return {
            "instance-id": instance.id,
            "instance-state-name": instance.state(at),
            "client-token": instance.data["token"],
            "instance.group-id": instance.data["groups"],
            "placement-group-name": instance.data["placement"],
            "vpc-id": instance.data["vpc"],
            "availability-zone": instance.data["zone"],
        }

    def _reservation(self, reservation: str, instances: Iterable[Instance], at: float) -> dict[str, Any]:
        return {
            "ReservationId": reservation,
            "OwnerId": "123456789012",
            "Instances": [self._shown(i, at) for i in instances],
        }

    def _shown(self, instance: Instance, at: float) -> dict[str, Any]:
        data, state = instance.data, instance.state(at)
        here = state not in ("terminated",)
        return {
            "InstanceId": instance.id,
            "State": {"Name": state, "Code": CODES[state]},
            "InstanceType": data["type"],
            "ImageId": data["image"],
            "AmiLaunchIndex": data["index"],
            "ClientToken": data["token"],
            "LaunchTime": START + timedelta(seconds=instance.created),
            "Placement": {"AvailabilityZone": data["zone"], "GroupName": data["placement"]},
            "PrivateIpAddress": data["address"] if here else None,
            "PublicIpAddress": data["public"] if here and state != "stopped" else None,
            "SubnetId": data["subnet"] if here else None,
            "VpcId": data["vpc"] if here else None,
            "InstanceLifecycle": "spot" if data["spot"] else None,
            "SpotInstanceRequestId": data["spot"],
            "StateReason": {"Code": instance.reason, "Message": instance.reason} if instance.reason else None,
            "Tags": [{"Key": k, "Value": v} for k, v in instance.tags(at).items()],
        }

    def get_console_output(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.advance()
        instance = self._one(asked["InstanceId"])
        shown = instance.started + self.aws.promises.boot + self.aws.promises.console
        text = f"[{self.now:.1f}] boot\n"
        if instance.state(self.now) == "running" and self.now >= shown:
            key = base64.b64encode(f"ssh-ed25519 of {instance.id}".encode()).decode()
            text += BLOCK.format("AAAA" + key)
        return {"InstanceId": instance.id, "Output": base64.b64encode(text.encode()).decode()}

    def describe_spot_instance_requests(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.advance()
        chosen = [
            request
            for request in self.spot_requests.values()
            if matches(asked.get("Filters", []), {"instance-id": request.data["instance"]}, request.tags(self.now))
        ]
        return {
            "SpotInstanceRequests": [
                {
                    "SpotInstanceRequestId": r.id,
                    "InstanceId": r.data["instance"],
                    "State": "active" if self.instances[r.data["instance"]].alive(self.now) else "closed",
                    "Status": {"Code": r.data["code"], "Message": r.data["code"]},
                }
                for r in chosen
            ]
        }

    # Change

    def terminate_instances(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.advance()
        chosen = [self._one(identity) for identity in asked["InstanceIds"]]
        changes = []
        for instance in chosen:
            before = instance.state(self.now)
            self.end(instance, "Client.UserInitiatedShutdown")
            changes.append(self._change(instance, before))
        return {"TerminatingInstances": changes}

    def stop_instances(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.advance()
        changes = []
        for instance in [self._one(identity) for identity in asked["InstanceIds"]]:
            before = instance.state(self.now)
            if before == "running":
                instance.turn(self.now, (self.now, "stopping"), (self.now + 10, "stopped"))
            changes.append(self._change(instance, before))
        return {"StoppingInstances": changes}

    def start_instances(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.advance()
        chosen = [self._one(identity) for identity in asked["InstanceIds"]]
        for instance in chosen:
            if instance.state(self.now) not in ("stopped", "running", "pending"):
                raise Refused("IncorrectInstanceState", instance.id)
        changes = []
        for instance in chosen:
            before = instance.state(self.now)
            if before == "stopped":
                instance.started = self.now + self.aws.promises.pending
                instance.turn(self.now, (self.now, "pending"), (instance.started, "running"))
            changes.append(self._change(instance, before))
        return {"StartingInstances": changes}

    def _change(self, instance: Instance, before: str) -> dict[str, Any]:
        after = instance.state(self.now)
        return {
            "InstanceId": instance.id,
            "PreviousState": {"Name": before, "Code": CODES[before]},
            "CurrentState": {"Name": after, "Code": CODES[after]},
        }

    def _one(self, identity: str) -> Instance:
        self.need(self.instances, identity, "InvalidInstanceID.NotFound")
        return self.instances[identity]

    def end(self, instance: Instance, reason: str, at: float | None = None) -> None:
        """Terminate an instance, now or at a time."""
        at = self.now if at is None else at
        if not instance.alive(at):
            return
        gone = at + self.aws.promises.shutting_down
        instance.turn(at, (at, "shutting-down"), (gone, "terminated"))
        instance.reason = reason
        for volume in self.volumes.values():
            if volume.data["instance"] == instance.id and volume.data.get("DeleteOnTermination"):
                volume.deleted = gone + self.aws.promises.volume_lag

    # What happens without being asked

    def advance(self) -> None:
        """Let the hosts' own timers and the spot market do what they have done by now."""
        if self.now < self._next:
            return
        for instance in self.instances.values():
            request = self.spot_requests.get(instance.data["spot"] or "")
            if request is not None and (when := request.data.get("interrupted", FOREVER)) + 120 <= self.now:
                request.data["code"] = "instance-terminated-no-capacity"
                self.end(instance, "Server.SpotInstanceTermination", when + 120)
            off = instance.timer()
            if off <= self.now and instance.tags(self.now).get("Name") not in self.aws.promises.hung:
                began = max(off, instance.started)
                if instance.state(began) == "running" and instance.alive(began):
                    if instance.data["behaviour"] == "terminate":
                        self.end(instance, "Client.InstanceInitiatedShutdown", began)
                    else:
                        instance.turn(began, (began, "stopping"), (began + 10, "stopped"))

    def interrupt(self, identity: str) -> None:
        """Give a spot instance its two minutes' notice."""
        request = self.spot_requests[self.instances[identity].data["spot"]]
        request.data.update(code="marked-for-termination", interrupted=self.now)
        self._next = 0.0

    def greets(self, address: str) -> bool:
        """Tell whether an sshd greets at an address (or instance id)."""
        self.advance()
        for instance in self.instances.values():
            if address in (instance.data["address"], instance.data["public"], instance.id):
                up = instance.state(self.now) == "running" and self.now >= instance.started + self.aws.promises.boot
                return up and instance.tags(self.now).get("Name") not in self.aws.promises.silent
        return False
