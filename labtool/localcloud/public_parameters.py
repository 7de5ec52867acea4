"""SSM's public parameters: the id of this machine's AMI under the name its distribution publishes it by."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any, ClassVar

from moto.core.responses import ActionResult
from moto.ssm.exceptions import ParameterNotFound
from moto.ssm.responses import SimpleSystemManagerResponse

from labtool.localcloud.ec2_backend import REGION

PREFIX = "/aws/service/"


class PublicParametersResponse(SimpleSystemManagerResponse):  # type: ignore[misc]
    """moto's SSM, with one public parameter; others that AWS has are not found here."""

    public: ClassVar[dict[str, str]] = {}

    def get_parameter(self) -> ActionResult:
        """Return one parameter."""
        name = self._get_param("Name")
        if not _is_public(name):
            return super().get_parameter()
        if name not in self.public:
            raise ParameterNotFound(f"Parameter {name} not found.")
        return ActionResult({"Parameter": self._parameter(name)})

    def get_parameters(self) -> ActionResult:
        """Return several parameters, and the names that there are not."""
        names = self._get_param("Names")
        found = [self._parameter(name) for name in names if name in self.public]
        invalid = [name for name in names if _is_public(name) and name not in self.public]
        own = [name for name in names if not _is_public(name)]
        if own:
            for parameter in self.ssm_backend.get_parameters(own).values():
                found.append(parameter.response_object(self._get_param("WithDecryption"), self.region))
            known = {parameter["Name"] for parameter in found}
            invalid += [name for name in own if name not in known]
        return ActionResult({"Parameters": found, "InvalidParameters": invalid})

    def get_parameters_by_path(self) -> ActionResult:
        """Return the parameters below a path."""
        path = self._get_param("Path")
        if not _is_public(path):
            return super().get_parameters_by_path()
        below = path.rstrip("/") + "/"
        deep = self._get_param("Recursive", False)
        names = [n for n in self.public if n.startswith(below) and (deep or "/" not in n[len(below) :])]
        return ActionResult({"Parameters": [self._parameter(name) for name in names]})

    def _parameter(self, name: str) -> dict[str, Any]:
        value = self.public[name]
        return {
            "Name": name,
            "Type": "String",
            "Value": value,
            "Version": int(hashlib.sha256(value.encode()).hexdigest()[:6], 16) + 1,
            "LastModifiedDate": datetime(2024, 1, 1, tzinfo=UTC),
            "ARN": f"arn:aws:ssm:{REGION}::parameter{name}",
            "DataType": "aws:ec2:image",
        }


def _is_public(name: str) -> bool:
    return (name or "").startswith(PREFIX)
