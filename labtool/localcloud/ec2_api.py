"""EC2's actions that differ from moto's: real states, client tokens, console output, monitoring."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from moto.core.request import Request
from moto.core.responses import ActionResult, EmptyResult
from moto.core.types import Base64EncodedString
from moto.core.utils import get_service_model
from moto.ec2.exceptions import EC2ClientError, MissingParameterError
from moto.ec2.responses import EC2Response

from labtool.localcloud.ec2_backend import REGION, placement_of

_METADATA_OPTIONS = {
    "HttpTokens": ("http_tokens", ("optional", "required")),
    "HttpPutResponseHopLimit": ("http_put_response_hop_limit", tuple(str(n) for n in range(1, 65))),
    "HttpEndpoint": ("http_endpoint", ("enabled", "disabled")),
    "HttpProtocolIpv6": ("http_protocol_ipv6", ("enabled", "disabled")),
    "InstanceMetadataTags": ("instance_metadata_tags", ("enabled", "disabled")),
}
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\x1b[A-Z78=>]|\r")
_WAITING = re.compile(r"^\[[ *]*\] (?:\(\d+ of \d+\) )?(?:A start job|A stop job|Job) .* running.*\n?", re.MULTILINE)
_CONSOLE_LIMIT = 64 * 1024  # as on EC2
_UNSUPPORTED = frozenset(
    ("allocate_address", "associate_address", "request_spot_fleet", "create_fleet", "import_image")
)


class LabEC2Response(EC2Response):  # type: ignore[misc]
    """moto's EC2 actions, with ours in place of those that a host changes."""

    console_file: ClassVar[Callable[[str], Path]]

    def call_action(self) -> Any:
        """Refuse other regions and what would invent addresses; then act."""
        name = self._get_action()
        if self.region != REGION:
            return self._refuse("AuthFailure", f"The local cloud's only region is {REGION}; set AWS_REGION to it.")
        if not name:
            raise MissingParameterError("Action")
        if _snake(name) in _UNSUPPORTED:
            return self._refuse("UnsupportedOperation", f"The local cloud has no {name}.")
        for parameter in _required(name):
            if self._get_param(parameter) is None:
                raise MissingParameterError(parameter)
        return super().call_action()

    def parse_parameters(self, request: Request) -> None:
        """Read the parameters; one that is not of its type is the client's mistake."""
        try:
            super().parse_parameters(request)
        except ValueError as error:
            raise EC2ClientError("InvalidParameterValue", f"A value is not of its parameter's type: {error}") from None

    def _refuse(self, code: str, message: str) -> Any:
        status, headers, body = self.serialized(ActionResult(EC2ClientError(code, message)))
        return status, headers, body

    def run_instances(self) -> ActionResult:
        """Launch; the same client token with the same parameters returns the same reservation."""
        token = self._get_param("ClientToken")
        parameters = dict(self.params)
        if not self._get_param("ImageId") and not self._get_param("LaunchTemplate"):
            raise MissingParameterError("ImageId")
        if token and (known := self.ec2_backend.reservation_of(token, parameters)) is not None:
            return ActionResult(known)
        least, most = int(self._get_param("MinCount", 1)), int(self._get_param("MaxCount", 1))
        if not 1 <= least <= most:
            raise EC2ClientError(
                "InvalidParameterValue", f"MinCount {least} and MaxCount {most} must be at least 1, in this order"
            )
        self.params["MinCount"] = most  # the machine has no other tenants: as many as can be
        group = self._get_param("Placement.GroupName")
        if group and group not in self.ec2_backend.placement_groups:
            raise EC2ClientError("InvalidPlacementGroup.Unknown", f"The Placement Group '{group}' is unknown.")
        result = super().run_instances()
        reservation = result.result
        partition = self._get_param("Placement.PartitionNumber")
        for instance in reservation.instances:
            instance.placement.group_name = group or ""
            instance.placement.partition_number = int(partition) if partition else None
            self._associate_profile(instance)
        if token:
            self.ec2_backend.remember_token(token, parameters, reservation)
        return result

    def _associate_profile(self, instance: Any) -> None:
        """Give every instance of a launch its profile; moto gives it to the first."""
        name, arn = self._get_param("IamInstanceProfile.Name"), self._get_param("IamInstanceProfile.Arn")
        if (name or arn) and instance.id not in self.ec2_backend.iam_instance_profile_associations:
            self.ec2_backend.associate_iam_instance_profile(instance.id, name, arn)

    def modify_instance_metadata_options(self) -> ActionResult:
        """Change what the request names; the rest stays. In force with the host's next request."""
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        self.error_on_dryrun()
        options = instance.metadata_options
        for parameter, (attribute, allowed) in _METADATA_OPTIONS.items():
            value = self._get_param(parameter)
            if value is None:
                continue
            if str(value) not in allowed:
                raise EC2ClientError("InvalidParameterValue", f"Value ({value}) for parameter {parameter} is invalid.")
            setattr(options, attribute, int(value) if str(value).isdigit() else value)
        return ActionResult({"InstanceId": instance.id, "InstanceMetadataOptions": options})

    def start_instances(self) -> ActionResult:
        """Start stopped instances."""
        return self._change("start_instances", "StartingInstances")

    def stop_instances(self) -> ActionResult:
        """Stop running instances."""
        return self._change("stop_instances", "StoppingInstances")

    def terminate_instances(self) -> ActionResult:
        """Terminate instances."""
        return self._change("terminate_instances", "TerminatingInstances")

    def _change(self, method: str, name: str) -> ActionResult:
        self.error_on_dryrun()
        changes = getattr(self.ec2_backend, method)(self._get_param("InstanceIds", []))
        return ActionResult(
            {
                name: [
                    {
                        "InstanceId": instance.id,
                        "CurrentState": {"Code": instance.state_code, "Name": instance.state},
                        "PreviousState": before,
                    }
                    for instance, before in changes
                ]
            }
        )

    def describe_instance_status(self) -> ActionResult:
        """`initializing` until the host's sshd has answered, then `ok`; `impaired` once it has halted."""
        ids = self._get_param("InstanceIds", [])
        backend = self.ec2_backend
        instances = backend.get_multi_instances_by_id(ids) if ids else backend.all_instances()
        if not self._get_bool_param("IncludeAllInstances", False):
            instances = [i for i in instances if i.state == "running"]
        statuses = [_status(i, backend.hosts.get(i.id)) for i in instances]
        for name, values in self._filters_from_querystring().items():
            read = _STATUS_FILTERS.get(name)
            if read is None:
                raise EC2ClientError("InvalidParameterValue", f"The filter '{name}' is invalid")
            statuses = [s for s in statuses if str(read(s)) in values]
        return ActionResult({"InstanceStatuses": statuses})

    def get_console_output(self) -> ActionResult:
        """What the host's systemd printed, and its host keys as cloud-init prints them."""
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        host = self.ec2_backend.hosts[instance.id]
        text = read_console(type(self).console_file(instance.id))
        if instance.state == "running":
            text += host_key_block(host.host_key_public)
        output = Base64EncodedString.from_raw_string(text[-_CONSOLE_LIMIT:])
        when = datetime.fromtimestamp(host.changed, UTC)
        return ActionResult({"InstanceId": instance.id, "Timestamp": when, "Output": output})

    def modify_instance_attribute(self) -> ActionResult:
        """Also the shutdown behaviour, which moto cannot change; not the type: a container keeps its size."""
        behaviour = self._get_param("InstanceInitiatedShutdownBehavior.Value")
        attribute = self._get_param("Attribute")
        if attribute == "instanceInitiatedShutdownBehavior":
            behaviour = self._get_param("Value")
        if behaviour is not None:
            self.error_on_dryrun()
            if behaviour not in ("stop", "terminate"):
                raise EC2ClientError("InvalidParameterValue", f"Invalid value '{behaviour}': stop or terminate")
            instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
            instance.instance_initiated_shutdown_behavior = behaviour
            return EmptyResult()
        if attribute == "instanceType" or self._get_param("InstanceType.Value") is not None:
            raise EC2ClientError(
                "UnsupportedOperation", "The local cloud cannot change an instance's type; launch another."
            )
        return super().modify_instance_attribute()

    def _parse_block_device_mapping(self) -> list[dict[str, Any]]:
        """Volumes of a launch go with their instance unless the caller says otherwise, as on EC2."""
        mappings: list[dict[str, Any]] = super()._parse_block_device_mapping()
        for mapping, asked in zip(mappings, self._get_param("BlockDeviceMappings", []), strict=True):
            mapping["Ebs"]["DeleteOnTermination"] = asked.get("Ebs", {}).get("DeleteOnTermination", True)
        return mappings

    def monitor_instances(self) -> ActionResult:
        """One-minute metrics from the next minute on."""
        return self._monitor("enabled")

    def unmonitor_instances(self) -> ActionResult:
        """Five-minute metrics."""
        return self._monitor("disabled")

    def _monitor(self, state: str) -> ActionResult:
        self.error_on_dryrun()
        chosen = self.ec2_backend.monitor(self._get_param("InstanceIds", []), state)
        return ActionResult(
            {"InstanceMonitorings": [{"InstanceId": i.id, "Monitoring": {"State": state}} for i in chosen]}
        )

    def create_placement_group(self) -> ActionResult:
        """Remember a placement group; on one machine every strategy places alike."""
        self.error_on_dryrun()
        name = self._get_param("GroupName")
        groups = self.ec2_backend.placement_groups
        if name in groups:
            raise EC2ClientError("InvalidPlacementGroup.Duplicate", f"The Placement Group '{name}' already exists.")
        strategy = self._get_param("Strategy") or "cluster"
        if strategy not in ("cluster", "spread", "partition"):
            raise EC2ClientError("InvalidParameterValue", f"Invalid placement strategy: {strategy}")
        tags = self._parse_tag_specification().get("placement-group", {})
        groups[name] = {
            "GroupName": name,
            "GroupId": f"pg-{int(time.time() * 1e6):017x}",
            "State": "available",
            "Strategy": strategy,
            "GroupArn": f"arn:aws:ec2:{self.region}:{self.current_account}:placement-group/{name}",
            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        }
        if strategy == "partition":
            groups[name]["PartitionCount"] = int(self._get_param("PartitionCount") or 2)
        return ActionResult({"PlacementGroup": groups[name]})

    def describe_placement_groups(self) -> ActionResult:
        """List placement groups by name, id, state, strategy or tag."""
        groups = list(self.ec2_backend.placement_groups.values())
        for asked, key in (("GroupNames", "GroupName"), ("GroupIds", "GroupId")):
            if wanted := self._get_param(asked, []):
                known = {group[key] for group in groups}
                if missing := [name for name in wanted if name not in known]:
                    raise EC2ClientError(
                        "InvalidPlacementGroup.Unknown", f"The Placement Group '{missing[0]}' is unknown."
                    )
                groups = [group for group in groups if group[key] in wanted]
        for name, values in self._filters_from_querystring().items():
            groups = [group for group in groups if _group_value(group, name) in values]
        return ActionResult({"PlacementGroups": groups})

    def delete_placement_group(self) -> EmptyResult:
        """Forget a placement group that no live instance is in."""
        self.error_on_dryrun()
        name = self._get_param("GroupName")
        if name not in self.ec2_backend.placement_groups:
            raise EC2ClientError("InvalidPlacementGroup.Unknown", f"The Placement Group '{name}' is unknown.")
        if placement_of(self.ec2_backend.all_instances(), name):
            raise EC2ClientError(
                "InvalidPlacementGroup.InUse", f"The placement group '{name}' is in use and may not be deleted."
            )
        del self.ec2_backend.placement_groups[name]
        return EmptyResult()


@functools.cache
def _required(action: str) -> tuple[str, ...]:
    """Return the parameters without which EC2 refuses `action`, as its model states them."""
    shape = get_service_model("ec2").operation_model(action).input_shape
    return tuple(shape.required_members) if shape is not None else ()


def read_console(file: Path) -> str:
    """Return the text of the engine's log of a host (`time stream F|P text` lines).

    Without terminal codes, and without systemd's twice-a-second word that it still waits.
    """
    try:
        raw = file.read_bytes().decode(errors="replace")  # as it is: a lone carriage return ends no line
    except OSError:
        return ""
    parts = []
    for line in raw.split("\n"):
        fields = line.split(" ", 3)
        if len(fields) == 4:
            parts.append(fields[3] + ("\n" if fields[2] == "F" else ""))
    return _WAITING.sub("", _ANSI.sub("", "".join(parts)))


def host_key_block(public_key: str) -> str:
    """Return the block in which cloud-init prints a host's keys."""
    return f"-----BEGIN SSH HOST KEY KEYS-----\n{public_key}\n-----END SSH HOST KEY KEYS-----\n"


def _status(instance: Any, host: Any) -> dict[str, Any]:
    if instance.state != "running" or host is None:
        own = system = "not-applicable"
    else:
        own = "impaired" if host.impaired else "ok" if host.answered else "initializing"
        system = "ok" if host.answered or host.impaired else "initializing"
    return {
        "InstanceId": instance.id,
        "AvailabilityZone": instance.availability_zone,
        "InstanceState": {"Code": instance.state_code, "Name": instance.state},
        "InstanceStatus": _summary(own),
        "SystemStatus": _summary(system),
    }


def _summary(status: str) -> dict[str, Any]:
    words = {"ok": "passed", "impaired": "failed", "initializing": "initializing"}
    if status not in words:
        return {"Status": status}
    return {"Status": status, "Details": [{"Name": "reachability", "Status": words[status]}]}


_STATUS_FILTERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "availability-zone": lambda s: s["AvailabilityZone"],
    "instance-state-name": lambda s: s["InstanceState"]["Name"],
    "instance-state-code": lambda s: s["InstanceState"]["Code"],
    "instance-status.status": lambda s: s["InstanceStatus"]["Status"],
    "instance-status.reachability": lambda s: s["InstanceStatus"].get("Details", [{}])[0].get("Status"),
    "system-status.status": lambda s: s["SystemStatus"]["Status"],
    "system-status.reachability": lambda s: s["SystemStatus"].get("Details", [{}])[0].get("Status"),
}


def _group_value(group: dict[str, Any], name: str) -> str | None:
    if name.startswith("tag:"):
        return next((t["Value"] for t in group["Tags"] if t["Key"] == name[4:]), None)
    key = {"group-name": "GroupName", "group-arn": "GroupArn", "state": "State", "strategy": "Strategy"}.get(name)
    if key is None:
        raise EC2ClientError("InvalidParameterValue", f"The filter '{name}' is invalid")
    return str(group[key])


def _snake(action: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", action or "").lower()
