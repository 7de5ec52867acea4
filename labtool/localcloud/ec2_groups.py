"""Security groups of EC2's state: the default group's own rule, changes of instances, groups in use, as on EC2."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import EC2Backend

_PROTOCOLS = {"6": "tcp", "17": "udp", "1": "icmp", "58": "icmpv6", "tcp": "tcp", "udp": "udp", "icmp": "icmp"}


class InstanceGroups(EC2Backend):  # type: ignore[misc]
    """moto's backend, with an instance's groups in one place."""

    def open_default_group(self, vpc_id: str) -> None:
        """Let the members of a VPC's default group reach each other."""
        default = self.get_default_security_group(vpc_id)
        inside: dict[str, Any] = {"ip_protocol": "-1", "from_port": None, "to_port": None, "ip_ranges": []}
        self.authorize_security_group_ingress(
            group_name_or_id=default.id, **inside, source_groups=[{"GroupId": default.id}], vpc_id=vpc_id
        )

    def authorize_security_group_ingress(self, **given: Any) -> Any:
        """Add an inbound rule; `InvalidParameterValue` for ports that there are not."""
        return super().authorize_security_group_ingress(**given | _checked_ports(given))

    def authorize_security_group_egress(self, **given: Any) -> Any:
        """Add an outbound rule; `InvalidParameterValue` for ports that there are not."""
        return super().authorize_security_group_egress(**given | _checked_ports(given))

    def modify_instance_security_groups(self, instance_id: str, new_group_id_list: list[str]) -> Any:
        """Put an instance into other security groups, all its network interfaces with it."""
        instance = self.get_instance(instance_id)
        set_groups(instance, [self._group(group_id) for group_id in new_group_id_list])
        return instance

    def modify_network_interface_attribute(
        self, eni_id: str, group_ids: list[str], source_dest_check: bool | None = None, description: str | None = None
    ) -> None:
        """Change an interface; its security groups are its instance's."""
        super().modify_network_interface_attribute(eni_id, [], source_dest_check, description)
        interface = self.get_network_interface(eni_id)
        groups = [self._group(group_id) for group_id in group_ids]
        if groups and interface.instance is not None:
            set_groups(interface.instance, groups)
        elif groups:
            interface._group_set = groups

    def _group(self, group_id: str) -> Any:
        group = self.get_security_group_from_id(group_id)
        if group is None:
            raise EC2ClientError("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")
        return group

    def delete_security_group(self, name: str | None = None, group_id: str | None = None) -> None:
        """Delete a group that no instance is in and no other group's rule names."""
        group = self.get_security_group_by_name_or_id(group_id or name)
        if group is not None:
            users = [i.id for i in self.all_instances() if i.state != "terminated" and group in i.security_groups]
            rules = [each for vpc in self.groups.values() for each in vpc.values() if _names(each, group)]
            if users or rules:
                raise EC2ClientError("DependencyViolation", f"resource {group.id} has a dependent object")
        super().delete_security_group(name, group_id)


def _checked_ports(given: dict[str, Any]) -> dict[str, Any]:
    """Return the ports of a rule as they are kept; moto takes whatever comes."""
    protocol = str(given["ip_protocol"]).lower()
    name = _PROTOCOLS.get(protocol, protocol)
    if name in ("-1", "all"):
        return {}
    if name != "icmpv6" and name not in _PROTOCOLS.values() and not (name.isdigit() and int(name) <= 255):
        raise EC2ClientError("InvalidParameterValue", f"Invalid value '{protocol}' for IP protocol.")
    first, last = given.get("from_port"), given.get("to_port")
    if name not in ("tcp", "udp"):
        return {"from_port": "-1" if first is None else first, "to_port": "-1" if last is None else last}
    if first is None or last is None:
        raise EC2ClientError("MissingParameter", f"{name.upper()} needs FromPort and ToPort.")
    if (int(first), int(last)) != (-1, -1) and not 0 <= int(first) <= int(last) <= 65535:
        raise EC2ClientError("InvalidParameterValue", f"Invalid {name.upper()} port range [{first}-{last}].")
    return {}


def set_groups(instance: Any, groups: Iterable[Any]) -> None:
    """Put an instance into security groups; moto keeps them in two places, and shows both together."""
    chosen = list({group.id: group for group in groups}.values())
    instance.security_groups = chosen
    for nic in instance.nics.values():
        nic._group_set = list(chosen)


def _names(group: Any, other: Any) -> bool:
    rules = [*group.ingress_rules, *group.egress_rules]
    return group is not other and any(rule.source_group.get("GroupId") == other.id for rule in rules)
